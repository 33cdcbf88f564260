//! Tasks: submissions, and the states that a task may pass through.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::{AgentName, AgentSpec, ExecutionMode};
use crate::event::Event;
use crate::id::{ClarificationId, TaskId, WorkerId};
use crate::money::NanoUsd;
use crate::schedule::ScheduleRecord;
use crate::session::SessionId;
use crate::slack::ReplyTo;
use crate::time::Timestamp;
pub use crate::trace::TraceId;
use crate::trace::{Parent, Trace};
use crate::words::words;

/// Default running time of a task (seed: default 300 s).
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);
/// The longest timeout that is accepted: one day.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(86_400);
/// Maximum number of agents that may trigger one another in a row.
pub const MAX_HOPS: u8 = 16;

/// A task as it was submitted. Immutable once it is accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Unique id.
    pub id: TaskId,
    /// Agent that executes the task.
    pub agent: AgentName,
    /// The agent's mode when the task was accepted; decides which workers may claim it.
    pub mode: ExecutionMode,
    /// Input: text or any JSON value.
    pub input: Value,
    /// The conversation it belongs to (continuous agents only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Rank among queued tasks.
    #[serde(default, skip_serializing_if = "Priority::is_normal")]
    pub priority: Priority,
    /// Ingress channel.
    pub source: TaskSource,
    /// W3C trace id, 32 lower-case hex digits: the same from submission to delivery.
    pub trace_id: TraceId,
    /// Parent span of the task in its trace: the span of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Time of acceptance.
    pub created_at: Timestamp,
    /// Maximum running time, in milliseconds; waiting for a human does not count.
    pub timeout_ms: u64,
    /// Address that receives the outcome as a signed callback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<String>,
    /// Additional channel for the outcome, for example the Slack thread that the task came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<ReplyTo>,
    /// Maximum cost of all model calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<NanoUsd>,
    /// True to stream the answers of the model.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// Number of agents that triggered one another before this task.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hops: u8,
    /// Idempotency key of the submission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<IdempotencyKey>,
    /// Earliest time of a claim; `None` for immediately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
}

/// A key under which repeated submissions create one task. Kept for 24 h.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKey {
    /// Key chosen by the caller.
    pub key: String,
    /// Fingerprint of the request: the same key with another fingerprint is a mistake.
    pub fingerprint: u64,
}

/// A request for work before the agent's version and the task's id are assigned.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// Input: text or any JSON value.
    pub input: Value,
    /// Key of the session to continue; continuous agents only.
    pub session: Option<String>,
    /// Rank among queued tasks.
    pub priority: Priority,
    /// Ingress channel.
    pub source: TaskSource,
    /// Trace context.
    pub trace: Trace,
    /// Maximum running time.
    pub timeout: Duration,
    /// Address that receives the outcome as a signed callback.
    pub callback_url: Option<String>,
    /// Additional channel for the outcome.
    pub reply_to: Option<ReplyTo>,
    /// Maximum cost of all model calls.
    pub budget: Option<NanoUsd>,
    /// True to stream the answers of the model.
    pub stream: bool,
    /// Number of agents that triggered one another before this submission.
    pub hops: u8,
    /// Idempotency key.
    pub idempotency: Option<IdempotencyKey>,
    /// Earliest time of a claim; `None` for immediately.
    pub not_before: Option<Timestamp>,
}

impl Submission {
    /// Returns a submission with default options.
    #[must_use]
    pub fn new(input: Value, source: TaskSource, trace: Trace) -> Self {
        Self {
            input,
            session: None,
            priority: Priority::Normal,
            source,
            trace,
            timeout: DEFAULT_TIMEOUT,
            callback_url: None,
            reply_to: None,
            budget: None,
            stream: false,
            hops: 0,
            idempotency: None,
            not_before: None,
        }
    }

    /// Returns the submission of an event to a subscriber: its data is the input.
    #[must_use]
    pub fn of_event(event: &Event) -> Self {
        let source =
            TaskSource::Event { source: event.source.clone(), id: event.id.clone(), topic: event.topic.clone() };
        let hops = event.hops.saturating_add(1);
        Self { hops, ..Self::new(event.data.clone(), source, event.trace()) }
    }

    /// Returns the submission of a schedule's slot.
    #[must_use]
    pub fn of_slot(schedule: &ScheduleRecord, slot: Timestamp, trace: Trace) -> Self {
        let source = TaskSource::Schedule { schedule: schedule.name.clone(), slot };
        let timeout = schedule.spec.timeout_ms.map_or(DEFAULT_TIMEOUT, Duration::from_millis);
        Self { timeout, ..Self::new(schedule.spec.input.clone(), source, trace) }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(hops: &u8) -> bool {
    *hops == 0
}

impl Task {
    /// Creates the task of a submission to this agent. The only constructor.
    ///
    /// A continuous agent continues the submission's session, or begins a new one under the task's own id; any other
    /// agent keeps no sessions.
    #[must_use]
    pub fn new(spec: &AgentSpec, submission: Submission, id: TaskId, now: Timestamp) -> Self {
        let session = (spec.mode == ExecutionMode::Continuous).then(|| match &submission.session {
            Some(key) => SessionId::new(&spec.name, key),
            None => SessionId::new(&spec.name, &id.to_string()),
        });
        Self {
            id,
            agent: spec.name.clone(),
            mode: spec.mode,
            input: submission.input,
            session,
            priority: submission.priority,
            source: submission.source,
            trace_id: submission.trace.id,
            parent: submission.trace.parent,
            created_at: now,
            timeout_ms: u64::try_from(submission.timeout.as_millis()).unwrap_or(u64::MAX),
            callback_url: submission.callback_url,
            reply_to: submission.reply_to,
            budget: submission.budget,
            stream: submission.stream,
            hops: submission.hops,
            idempotency: submission.idempotency,
            not_before: submission.not_before,
        }
    }

    /// Returns the trace context that the task carries.
    #[must_use]
    pub fn trace(&self) -> Trace {
        Trace { id: self.trace_id, parent: self.parent }
    }

    /// Returns the maximum running time.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// Returns the input as text: a string as it is, anything else as JSON.
    #[must_use]
    pub fn input_text(&self) -> String {
        match &self.input {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

/// The rank of a task among queued tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// After everything else.
    Low = 0,
    /// In order of arrival.
    #[default]
    Normal = 1,
    /// Before everything else.
    High = 2,
}

impl Priority {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
    fn is_normal(&self) -> bool {
        *self == Self::Normal
    }
}

/// The ingress channel of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum TaskSource {
    /// `POST /v1/tasks`.
    Api,
    /// `agentry run` without a server.
    Cli,
    /// A slot of a schedule.
    Schedule {
        /// The schedule's name.
        schedule: String,
        /// The slot's nominal time.
        slot: Timestamp,
    },
    /// An event on a topic that the agent subscribes to.
    Event {
        /// The event's source.
        source: String,
        /// The event's id; unique within its source.
        id: String,
        /// The topic it was published on.
        topic: String,
    },
    /// A message in Slack.
    Slack {
        /// Slack's event id.
        event_id: String,
    },
    /// A dead letter that was replayed.
    Replay {
        /// The failed task.
        of: TaskId,
    },
}

words! {
    /// The state of a task.
    pub enum TaskStatus: "status" {
        /// Accepted; no worker has it.
        Queued = "queued",
        /// A worker owns it.
        Running = "running",
        /// Paused until a human answers.
        Waiting = "waiting",
        /// Ended with an output.
        Completed = "completed",
        /// Ended with an error.
        Failed = "failed",
        /// Ended because its timeout expired.
        TimedOut = "timed_out",
        /// Ended by a cancel request.
        Cancelled = "cancelled",
    }
}

impl TaskStatus {
    /// Returns whether the state is final.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::TimedOut | Self::Cancelled)
    }

    /// Returns whether a transition is legal; every store enforces this table.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use TaskStatus::{Cancelled, Failed, Queued, Running, TimedOut, Waiting};
        match self {
            Queued => matches!(next, Running | TimedOut | Cancelled | Failed),
            Running => next != Running,
            Waiting => matches!(next, Queued | TimedOut | Cancelled | Failed),
            _ => false,
        }
    }
}

/// The reason for a failed task or attempt. `code` is stable and documented; `message` is for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct TaskError {
    /// Kind of failure; see [`ErrorCode`].
    pub code: ErrorCode,
    /// Explanation, with names and a remedy.
    pub message: String,
}

impl TaskError {
    /// Returns an error with this code and message.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

words! {
    /// The stable codes of task failures.
    pub enum ErrorCode: "error code" {
        /// The provider limited the rate and retries did not help.
        ProviderRateLimited = "provider_rate_limited",
        /// The provider did not answer or answered with a server error, and retries did not help.
        ProviderUnavailable = "provider_unavailable",
        /// The provider refused the credentials.
        ProviderAuthentication = "provider_authentication",
        /// The provider refused the request.
        ProviderInvalidRequest = "provider_invalid_request",
        /// The provider's answer could not be understood.
        ProviderMalformedReply = "provider_malformed_reply",
        /// The answer is empty or does not fit the agent's `output_schema`, and one repair did not help.
        OutputInvalid = "output_invalid",
        /// The loop took more turns than allowed.
        TooManySteps = "too_many_steps",
        /// The plan was invalid and one repair did not help.
        PlanInvalid = "plan_invalid",
        /// A step of a plan failed.
        StepFailed = "step_failed",
        /// A tool call's outcome is unknown and its policy says `fail`.
        ToolOutcomeUnknown = "tool_outcome_unknown",
        /// A question to a human expired without an answer or a default.
        ClarificationExpired = "clarification_expired",
        /// A budget would have been exceeded.
        BudgetExhausted = "budget_exhausted",
        /// The agent's file is gone or it is disabled.
        AgentUnavailable = "agent_unavailable",
        /// The task ran longer than its timeout.
        TimedOut = "timed_out",
        /// The task was cancelled.
        Cancelled = "cancelled",
        /// Too many workers died while they executed this task.
        PoisonTask = "poison_task",
        /// A defect of Agentry itself.
        Internal = "internal",
        /// The answer was cut at the limit of its length.
        OutputTruncated = "output_truncated",
        /// The model refused to answer, or its provider withheld the answer, and so did the fallbacks.
        Refused = "refused",
        /// The conversation does not fit the model's context.
        ContextExceeded = "context_exceeded",
    }
}

impl ErrorCode {
    /// Returns whether a new attempt with fresh context may succeed.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::ProviderRateLimited
                | Self::ProviderUnavailable
                | Self::ProviderMalformedReply
                | Self::OutputInvalid
                | Self::StepFailed
                | Self::Internal
        )
    }
}

/// The result of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// One of the terminal statuses.
    pub status: TaskStatus,
    /// Output of a completed task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Reason, if the task did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
}

impl Outcome {
    /// Returns the outcome of a task that completed with this output.
    #[must_use]
    pub fn completed(output: Value) -> Self {
        Self { status: TaskStatus::Completed, output: Some(output), error: None }
    }

    /// Returns the outcome of a task that ended with this error; the status follows from its code.
    #[must_use]
    pub fn from_error(error: TaskError) -> Self {
        let status = match error.code {
            ErrorCode::TimedOut => TaskStatus::TimedOut,
            ErrorCode::Cancelled => TaskStatus::Cancelled,
            _ => TaskStatus::Failed,
        };
        Self { status, output: None, error: Some(error) }
    }
}

/// The consumption of a task; sums of its ledger rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TaskUsage {
    /// Calls to providers.
    pub llm_calls: u32,
    /// Tokens sent.
    pub input_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// Cost of the calls that have a price.
    pub cost_nanos: NanoUsd,
    /// Calls whose model has no price; their cost is not in `cost_nanos`.
    pub unpriced_calls: u32,
}

/// A task with its current state, as a store returns it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The task as submitted.
    pub task: Task,
    /// Current state.
    pub status: TaskStatus,
    /// Number of the attempt, from 1; a retry with fresh context is a new attempt.
    pub attempt: u32,
    /// Number of claims so far: the fencing token of the owner.
    pub epoch: u32,
    /// Worker that owns the task while it is running.
    pub owner: Option<WorkerId>,
    /// Version of the agent that executes it, once it has started.
    pub agent_version: Option<String>,
    /// Earliest time of the next claim (retry backoff).
    pub ready_at: Timestamp,
    /// Time of the first claim.
    pub started_at: Option<Timestamp>,
    /// Time of the end.
    pub finished_at: Option<Timestamp>,
    /// True if a cancel request is pending.
    pub cancel_requested: bool,
    /// Result, once the task has ended.
    pub outcome: Option<Outcome>,
    /// Consumption so far.
    pub spent: TaskUsage,
    /// Open questions that it waits for.
    pub clarifications: Vec<ClarificationId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_follows_a_terminal_status_and_everything_else_can_end() {
        for from in TaskStatus::ALL {
            for to in TaskStatus::ALL {
                if from.is_terminal() {
                    assert!(!from.may_become(to), "{from} → {to}");
                }
            }
            if !from.is_terminal() {
                for end in [TaskStatus::Failed, TaskStatus::TimedOut, TaskStatus::Cancelled] {
                    assert!(from.may_become(end), "{from} → {end}");
                }
            }
        }
        assert!(!TaskStatus::Queued.may_become(TaskStatus::Completed), "nothing completes that was not claimed");
        assert!(!TaskStatus::Waiting.may_become(TaskStatus::Running), "an answered task is claimed like any other");
    }
}
