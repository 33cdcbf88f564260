//! A task: what was asked, and the states it may pass through.

use std::fmt;
use std::str::FromStr;
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

/// How long a task may run when nobody said otherwise (seed: default 300 s).
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);
/// The longest timeout that is accepted: one day.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(86_400);
/// How many agents may trigger one another in a row before the chain is cut.
pub const MAX_HOPS: u8 = 16;

/// What was asked. Immutable from the moment it is accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its name.
    pub id: TaskId,
    /// Who is to do it.
    pub agent: AgentName,
    /// The agent's mode when the task was accepted; decides which workers may claim it.
    pub mode: ExecutionMode,
    /// What is asked: text or any JSON value.
    pub input: Value,
    /// The conversation it belongs to (continuous agents only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Which of the waiting tasks goes first.
    #[serde(default, skip_serializing_if = "Priority::is_normal")]
    pub priority: Priority,
    /// Where it came in.
    pub source: TaskSource,
    /// W3C trace id, 32 lower-case hex digits: from the door to the answer.
    pub trace_id: TraceId,
    /// The span that it hangs under in its trace: that of whoever asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// Running time it is given, in milliseconds; waiting for a human does not count.
    pub timeout_ms: u64,
    /// Where to post the outcome, signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<String>,
    /// Where else to tell the outcome: who asked in Slack is answered there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<ReplyTo>,
    /// The most that its model calls may cost together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<NanoUsd>,
    /// Whether somebody will watch it: model calls stream from their first one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// How many agents triggered one another before this task.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hops: u8,
    /// The key that it was submitted under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<IdempotencyKey>,
    /// Not to be claimed before this moment; `None`: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
}

/// A key that makes a submission one task however often it comes. Kept for 24 h.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKey {
    /// As the caller chose it.
    pub key: String,
    /// Of what was asked under it: the same key with the same fingerprint is the same task, with another one it is a
    /// mistake.
    pub fingerprint: u64,
}

/// What is asked of an agent, before it is known which version of the agent it is for and under which id.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// What is asked: text or any JSON value.
    pub input: Value,
    /// The conversation to continue, by its key. Only for continuous agents.
    pub session: Option<String>,
    /// Which of the waiting tasks goes first.
    pub priority: Priority,
    /// Where it came in.
    pub source: TaskSource,
    /// The trace that it continues or begins.
    pub trace: Trace,
    /// Running time it is given.
    pub timeout: Duration,
    /// Where to post the outcome, signed.
    pub callback_url: Option<String>,
    /// Where else to tell the outcome.
    pub reply_to: Option<ReplyTo>,
    /// The most that its model calls may cost together.
    pub budget: Option<NanoUsd>,
    /// Whether somebody will watch it.
    pub stream: bool,
    /// How many agents triggered one another before it.
    pub hops: u8,
    /// The caller's key.
    pub idempotency: Option<IdempotencyKey>,
    /// Not to be claimed before this moment; `None`: at once.
    pub not_before: Option<Timestamp>,
}

impl Submission {
    /// A submission with the defaults of everything that it does not name.
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

    /// What an event asks of a subscriber: its data is the input.
    #[must_use]
    pub fn of_event(event: &Event) -> Self {
        let source =
            TaskSource::Event { source: event.source.clone(), id: event.id.clone(), topic: event.topic.clone() };
        let hops = event.hops.saturating_add(1);
        Self { hops, ..Self::new(event.data.clone(), source, event.trace()) }
    }

    /// What a slot of a schedule asks of its agent.
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
    /// The task that a submission to this agent becomes. The only way to make one.
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

    /// What it brings along of its trace.
    #[must_use]
    pub fn trace(&self) -> Trace {
        Trace { id: self.trace_id, parent: self.parent }
    }

    /// The running time it is given.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The input as text: a string as it is, anything else as JSON.
    #[must_use]
    pub fn input_text(&self) -> String {
        match &self.input {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

/// Which of the waiting tasks goes first.
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

/// Where a task came in.
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
        /// The task that had been given up.
        of: TaskId,
    },
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// Accepted; no worker has it.
    Queued = 0,
    /// A worker owns it.
    Running = 1,
    /// Paused until a human answers.
    Waiting = 2,
    /// Ended with an output.
    Completed = 3,
    /// Ended with an error.
    Failed = 4,
    /// Ended because its time was up.
    TimedOut = 5,
    /// Ended because somebody said so.
    Cancelled = 6,
}

impl TaskStatus {
    /// Every status, in the order of their numbers.
    pub const ALL: [Self; 7] =
        [Self::Queued, Self::Running, Self::Waiting, Self::Completed, Self::Failed, Self::TimedOut, Self::Cancelled];

    /// Whether nothing can follow.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::TimedOut | Self::Cancelled)
    }

    /// The table of legal transitions; every store enforces it.
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

    /// The status with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for TaskStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or_else(|| {
            format!("unknown status `{text}`: expected one of {}", Self::ALL.map(Self::as_str).join(", "))
        })
    }
}

/// Why a task or an attempt did not end well. `code` is stable and documented; `message` is for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct TaskError {
    /// What kind of failure; see [`ErrorCode`].
    pub code: ErrorCode,
    /// What happened, with names and the way out.
    pub message: String,
}

impl TaskError {
    /// An error with this code and message.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The stable codes of task failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The provider limited the rate and retries did not help.
    ProviderRateLimited,
    /// The provider did not answer or answered with a server error, and retries did not help.
    ProviderUnavailable,
    /// The provider refused the credentials.
    ProviderAuthentication,
    /// The provider refused the request.
    ProviderInvalidRequest,
    /// The provider's answer could not be understood.
    ProviderMalformedReply,
    /// The answer does not fit the agent's `output_schema`.
    OutputInvalid,
    /// The loop took more turns than allowed.
    TooManySteps,
    /// The plan was bad and one repair did not help.
    PlanInvalid,
    /// A step of a plan failed.
    StepFailed,
    /// A tool call's outcome is unknown and its policy says `fail`.
    ToolOutcomeUnknown,
    /// A question to a human expired without an answer or a default.
    ClarificationExpired,
    /// A budget would have been overspent.
    BudgetExhausted,
    /// The agent's file is gone or it is disabled.
    AgentUnavailable,
    /// The task ran longer than its timeout.
    TimedOut,
    /// The task was cancelled.
    Cancelled,
    /// Workers died over this task as often as is allowed.
    PoisonTask,
    /// A fault in Agentry itself.
    Internal,
}

impl ErrorCode {
    /// Whether a new attempt with fresh context may end better.
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

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The serde name is the word; there is no second table to keep in step.
        let name = serde_json::to_value(self).ok();
        f.pad(name.as_ref().and_then(Value::as_str).unwrap_or("internal"))
    }
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// One of the terminal statuses.
    pub status: TaskStatus,
    /// The answer, when it completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Why not, when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
}

impl Outcome {
    /// Ended with this output.
    #[must_use]
    pub fn completed(output: Value) -> Self {
        Self { status: TaskStatus::Completed, output: Some(output), error: None }
    }

    /// Ended with this error; the status follows from its code.
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

/// What was spent on a task; sums of its ledger rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spent {
    /// Calls to providers.
    pub llm_calls: u32,
    /// Tokens sent.
    pub input_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// What the priced calls cost.
    pub cost_nanos: NanoUsd,
    /// Calls whose model has no price; their cost is not in `cost_nanos`.
    pub unpriced_calls: u32,
}

/// A task with everything that changes about it, as a store shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// What was asked.
    pub task: Task,
    /// Where it stands.
    pub status: TaskStatus,
    /// Which try this is, from 1; a retry with fresh context is a new attempt.
    pub attempt: u32,
    /// How often it was claimed: the fencing token of its owner.
    pub epoch: u32,
    /// Who owns it, while it is running.
    pub owner: Option<WorkerId>,
    /// The version of the agent it runs on, once it has begun.
    pub agent_version: Option<String>,
    /// Not to be claimed before this moment (retry backoff).
    pub ready_at: Timestamp,
    /// When it was first claimed.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Whether somebody asked to cancel it while it runs.
    pub cancel_requested: bool,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What it has cost so far.
    pub spent: Spent,
    /// The open questions it waits for.
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

    #[test]
    fn words_and_numbers_round_trip() {
        for status in TaskStatus::ALL {
            assert_eq!(TaskStatus::from_number(status as u8), Some(status));
            assert_eq!(status.as_str().parse::<TaskStatus>().unwrap(), status);
        }
        assert_eq!(ErrorCode::BudgetExhausted.to_string(), "budget_exhausted");
    }
}
