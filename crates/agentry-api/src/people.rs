//! `/v1/clarifications` and `/v1/dead-letters`: items that wait for a decision of a person.

use agentry_core::agent::AgentName;
use agentry_core::clarification::Clarification;
use agentry_core::id::{DeadLetterId, TaskId};
use agentry_core::task::TaskError;
use agentry_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// A question to a person: `id`, `task`, `agent`, `scope`, `question`, `options`, `asked_at`, `expires_at`, `default`,
/// `reply_to`, and `resolution`, which is absent while the question is open.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Clarification)]
pub struct ClarificationView {
    /// The stored question.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub clarification: Clarification,
}

/// The query of a list of clarifications or dead letters.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OpenItemQuery {
    /// Include items that are not open any more.
    #[serde(default)]
    pub all: bool,
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
    /// Rows of the page, 1 to 1,000. Default: 50.
    pub limit: Option<usize>,
}

/// The answer to a question.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerRequest {
    /// The answer, at most 16 KiB. Must be one of the options if the question has any.
    pub answer: String,
    /// Name of the answering person. Default: `api`.
    pub by: Option<String>,
}

/// A failed task or an undeliverable message: `id`, `origin` (`task` or `outbox`), `task`, `agent`, `reason`, `payload`,
/// `created_at`, `state` (`open`, `replayed` or `dropped`).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = DeadLetter)]
pub struct DeadLetterView {
    /// The dead letter.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub letter: DeadLetterBody,
}

/// The stored data of a dead letter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetterBody {
    /// Id of the dead letter.
    pub id: DeadLetterId,
    /// Kind of the failed item.
    pub origin: LetterOrigin,
    /// The task that it belongs to.
    pub task: TaskId,
    /// Agent of the task.
    pub agent: AgentName,
    /// Reason of the failure.
    pub reason: TaskError,
    /// Data that can be edited and replayed: the input of a task, or the body of a message.
    pub payload: Value,
    /// Time of the failure.
    pub created_at: Timestamp,
    /// State of the dead letter.
    pub state: LetterState,
}

/// The kind of a failed item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LetterOrigin {
    /// A task that failed.
    Task,
    /// A callback or event that could not be delivered.
    Outbox,
}

/// The state of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LetterState {
    /// Waits for a decision.
    Open,
    /// Replayed.
    Replayed,
    /// Dropped.
    Dropped,
}

/// A new payload of a dead letter.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditRequest {
    /// The input of a task, `{url, payload}` of a callback, or an event.
    pub payload: Value,
}

/// The result of a replay.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReplayReply {
    /// Id of the dead letter.
    #[schema(value_type = String)]
    pub id: DeadLetterId,
    /// The new task, if a task was replayed; absent for messages, which return to the outbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub task: Option<TaskId>,
}
