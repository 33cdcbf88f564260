//! Spans of the orchestrator, by OpenTelemetry's conventions for generative AI (1.38), without inputs, answers and
//! arguments.

use agentry_core::agent::AgentSpec;
use agentry_core::journal::Scope;
use agentry_core::task::{Task, TaskStatus};
use agentry_core::trace::{SpanContext, TARGET};
use agentry_store::{Delivery, PendingMessage};
use agentry_tools::Invocation;
use tracing::Span;
use tracing::field::Empty;

/// Returns the span of a claim. It always exists, so that log lines within it show the trace.
pub(crate) fn invoke_agent(context: &SpanContext, task: &Task, attempt: u32) -> Span {
    let agent = task.agent.as_str();
    tracing::info_span!(
        target: TARGET, "invoke_agent", trace_id = context.trace.id.0,
        span_id = context.is_exported().then_some(context.span.0.get()), parent_id = context.parent_id(),
        otel.name = %format_args!("invoke_agent {agent}"),
        gen_ai.operation.name = "invoke_agent", gen_ai.agent.name = agent,
        gen_ai.conversation.id = task.session.as_ref().map(|session| session.as_str()),
        gen_ai.provider.name = Empty, gen_ai.request.model = Empty, gen_ai.agent.version = Empty,
        agentry.task.id = %task.id, agentry.task.mode = task.mode.as_str(), agentry.task.attempt = attempt,
        agentry.task.status = Empty, "error.type" = Empty,
    )
}

/// Records the agent's model on the span of a claim.
pub(crate) fn note_agent(span: &Span, spec: &AgentSpec) {
    span.record("gen_ai.provider.name", spec.llm.target.provider.telemetry_name());
    span.record("gen_ai.request.model", &*spec.llm.target.model);
    span.record("gen_ai.agent.version", &*spec.version);
}

/// Records the task's status after a claim.
pub(crate) fn note_status(span: &Span, status: Option<TaskStatus>) {
    let Some(status) = status else { return };
    span.record("agentry.task.status", status.as_str());
    if matches!(status, TaskStatus::Failed | TaskStatus::TimedOut) {
        span.record("error.type", status.as_str());
    }
}

/// Returns the span of a part of a run with a loop of its own: a step of a plan, or the aggregation.
pub(crate) fn part(context: &SpanContext, spec: &AgentSpec, scope: &Scope) -> Span {
    if !context.is_exported() || *scope == Scope::MAIN {
        return Span::none();
    }
    let agent = spec.name.as_str();
    tracing::info_span!(
        target: TARGET, "invoke_agent", trace_id = context.trace.id.0, span_id = context.span.0.get(),
        parent_id = context.parent_id(), otel.name = %format_args!("invoke_agent {agent}"),
        gen_ai.operation.name = "invoke_agent", gen_ai.agent.name = agent,
        gen_ai.provider.name = spec.llm.target.provider.telemetry_name(), gen_ai.request.model = &*spec.llm.target.model,
        agentry.scope = scope.as_str(),
    )
}

/// Returns the span of one attempt of a tool call.
pub(crate) fn execute_tool(invocation: &Invocation<'_>) -> Span {
    let (context, tool) = (&invocation.place, invocation.call.name.as_str());
    if !context.is_exported() {
        return Span::none();
    }
    tracing::info_span!(
        target: TARGET, "execute_tool", trace_id = context.trace.id.0, span_id = context.span.0.get(),
        parent_id = context.parent_id(), otel.name = %format_args!("execute_tool {tool}"), otel.kind = "client",
        gen_ai.operation.name = "execute_tool", gen_ai.tool.name = tool, gen_ai.tool.call.id = invocation.call.id.as_str(),
        "error.type" = Empty,
    )
}

/// Returns the span of one attempt of a delivery; `what` is `callback`, `event` or `slack`.
pub(crate) fn deliver(context: Option<&SpanContext>, what: &'static str, pending: &PendingMessage) -> Span {
    let Some(context) = context.filter(|context| context.is_exported()) else { return Span::none() };
    tracing::info_span!(
        target: TARGET, "deliver", trace_id = context.trace.id.0, span_id = context.span.0.get(),
        parent_id = context.parent_id(), otel.name = %format_args!("deliver {what}"), otel.kind = "producer",
        agentry.task.id = pending.message.task.map(tracing::field::display), agentry.delivery.attempt = pending.attempt, "error.type" = Empty,
    )
}

/// Records the result of a delivery.
pub(crate) fn note_delivery(span: &Span, delivery: &Delivery) {
    let failure = match delivery {
        Delivery::Sent => return,
        Delivery::RetryAt(_) => "retry",
        Delivery::Dead(_) => "dead_letter",
    };
    span.record("error.type", failure);
}

/// Records the span of a slot that fired: the root of its task's trace.
pub(crate) fn slot(context: &SpanContext, schedule: &str, task: &Task) {
    if context.is_exported() {
        drop(tracing::info_span!(
            target: TARGET, "schedule", trace_id = context.trace.id.0, span_id = context.span.0.get(),
            otel.name = %format_args!("schedule {schedule}"), agentry.schedule = schedule, agentry.task.id = %task.id,
        ));
    }
}
