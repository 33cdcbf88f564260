//! `/v1/clarifications` and `/v1/dead-letters`: what waits for a person to decide.

use agentry_core::agent::AgentName;
use agentry_core::clarification::Clarification;
use agentry_core::id::{DeadLetterId, TaskId};
use agentry_core::task::TaskError;
use agentry_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// A question to a human. `resolution` is absent while it is open.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Clarification)]
pub struct ClarificationView {
    /// The question.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub clarification: Clarification,
}

/// Which questions to list.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ClarificationQuery {
    /// Whether to list ended ones too.
    #[serde(default)]
    pub all: bool,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Rows, 1 to 1,000; 50 when absent.
    pub limit: Option<usize>,
}

/// An answer.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerRequest {
    /// What; at most 16 KiB. One of the options, when the question has some.
    pub answer: String,
    /// Who; `api` when absent.
    pub by: Option<String>,
}

/// Something that was given up: `id`, `origin` (`task` or `outbox`), `task`, `agent`, `reason`, `payload`,
/// `created_at`, `state` (`open`, `replayed` or `dropped`).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = DeadLetter)]
pub struct DeadLetterView {
    /// The dead letter.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub letter: DeadLetterBody,
}

/// What is kept of something that was given up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetterBody {
    /// Its id.
    pub id: DeadLetterId,
    /// What it was.
    pub origin: LetterOrigin,
    /// The task it belongs to.
    pub task: TaskId,
    /// The agent of the task.
    pub agent: AgentName,
    /// Why it was given up.
    pub reason: TaskError,
    /// What can be edited and replayed: a task's input as it was, or an outbox message's body.
    pub payload: Value,
    /// When it was given up.
    pub created_at: Timestamp,
    /// What became of it since.
    pub state: LetterState,
}

/// What a dead letter was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LetterOrigin {
    /// A task that failed.
    Task,
    /// A callback or event that could not be delivered.
    Outbox,
}

/// What became of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LetterState {
    /// It waits for a decision.
    Open,
    /// It was replayed.
    Replayed,
    /// It was dropped.
    Dropped,
}

/// Which dead letters to list.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeadLetterQuery {
    /// Whether to list replayed and dropped ones too.
    #[serde(default)]
    pub all: bool,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Rows, 1 to 1,000; 50 when absent.
    pub limit: Option<usize>,
}

/// A new payload.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditRequest {
    /// A task's input, or a callback's `{url, payload}`, or an event.
    pub payload: Value,
}

/// What a replay made.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReplayReply {
    /// The dead letter.
    #[schema(value_type = String)]
    pub id: DeadLetterId,
    /// The new task, when a task was replayed; absent: the message is in the outbox again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub task: Option<TaskId>,
}
