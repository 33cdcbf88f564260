//! The spans of the orchestrator's work, by OpenTelemetry's conventions for generative AI (1.38). Inputs, answers and
//! arguments stay out of them.

use agentry_core::agent::AgentSpec;
use agentry_core::journal::Scope;
use agentry_core::task::{Task, TaskStatus};
use agentry_core::trace::{Place, TARGET};
use agentry_store::{Delivery, PendingMessage};
use agentry_tools::Invocation;
use tracing::Span;
use tracing::field::Empty;

/// A claim of a task. There always is one: lines of the log within it show the trace.
pub(crate) fn invoke_agent(place: &Place, task: &Task, attempt: u32) -> Span {
    let agent = task.agent.as_str();
    tracing::info_span!(
        target: TARGET, "invoke_agent", trace_id = place.trace.id.0,
        span_id = place.is_kept().then_some(place.span.0.get()), parent_id = place.parent_id(),
        otel.name = %format_args!("invoke_agent {agent}"),
        gen_ai.operation.name = "invoke_agent", gen_ai.agent.name = agent,
        gen_ai.conversation.id = task.session.as_ref().map(|session| session.as_str()),
        gen_ai.provider.name = Empty, gen_ai.request.model = Empty, gen_ai.agent.version = Empty,
        agentry.task.id = %task.id, agentry.task.mode = task.mode.as_str(), agentry.task.attempt = attempt,
        agentry.task.status = Empty, "error.type" = Empty,
    )
}

/// Which model the agent of a claim uses.
pub(crate) fn note_agent(span: &Span, spec: &AgentSpec) {
    span.record("gen_ai.provider.name", spec.llm.target.provider.telemetry_name());
    span.record("gen_ai.request.model", &*spec.llm.target.model);
    span.record("gen_ai.agent.version", &*spec.version);
}

/// Where a claim left its task.
pub(crate) fn note_status(span: &Span, status: Option<TaskStatus>) {
    let Some(status) = status else { return };
    span.record("agentry.task.status", status.as_str());
    if matches!(status, TaskStatus::Failed | TaskStatus::TimedOut) {
        span.record("error.type", status.as_str());
    }
}

/// A part of a run with a loop of its own: a plan's step, or what makes one answer of all.
pub(crate) fn part(place: &Place, spec: &AgentSpec, scope: &Scope) -> Span {
    if !place.is_kept() || *scope == Scope::MAIN {
        return Span::none();
    }
    let agent = spec.name.as_str();
    tracing::info_span!(
        target: TARGET, "invoke_agent", trace_id = place.trace.id.0, span_id = place.span.0.get(),
        parent_id = place.parent_id(), otel.name = %format_args!("invoke_agent {agent}"),
        gen_ai.operation.name = "invoke_agent", gen_ai.agent.name = agent,
        gen_ai.provider.name = spec.llm.target.provider.telemetry_name(), gen_ai.request.model = &*spec.llm.target.model,
        agentry.scope = scope.as_str(),
    )
}

/// One try of a tool call.
pub(crate) fn execute_tool(invocation: &Invocation<'_>) -> Span {
    let (place, tool) = (&invocation.place, invocation.call.name.as_str());
    if !place.is_kept() {
        return Span::none();
    }
    tracing::info_span!(
        target: TARGET, "execute_tool", trace_id = place.trace.id.0, span_id = place.span.0.get(),
        parent_id = place.parent_id(), otel.name = %format_args!("execute_tool {tool}"), otel.kind = "client",
        gen_ai.operation.name = "execute_tool", gen_ai.tool.name = tool, gen_ai.tool.call.id = invocation.call.id.as_str(),
        "error.type" = Empty,
    )
}

/// One try of a delivery; `what`: `callback`, `event` or `slack`.
pub(crate) fn deliver(place: Option<&Place>, what: &'static str, pending: &PendingMessage) -> Span {
    let Some(place) = place.filter(|place| place.is_kept()) else { return Span::none() };
    tracing::info_span!(
        target: TARGET, "deliver", trace_id = place.trace.id.0, span_id = place.span.0.get(),
        parent_id = place.parent_id(), otel.name = %format_args!("deliver {what}"), otel.kind = "producer",
        agentry.task.id = pending.message.task.map(tracing::field::display), agentry.delivery.attempt = pending.attempt, "error.type" = Empty,
    )
}

/// What came of a delivery.
pub(crate) fn note_delivery(span: &Span, delivery: &Delivery) {
    let failure = match delivery {
        Delivery::Sent => return,
        Delivery::RetryAt(_) => "retry",
        Delivery::Dead(_) => "dead_letter",
    };
    span.record("error.type", failure);
}

/// A slot that fired: the beginning of its task's trace.
pub(crate) fn slot(place: &Place, schedule: &str, task: &Task) {
    if place.is_kept() {
        drop(tracing::info_span!(
            target: TARGET, "schedule", trace_id = place.trace.id.0, span_id = place.span.0.get(),
            otel.name = %format_args!("schedule {schedule}"), agentry.schedule = schedule, agentry.task.id = %task.id,
        ));
    }
}
