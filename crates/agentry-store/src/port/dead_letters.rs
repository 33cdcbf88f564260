//! Dead letters: tasks and messages that were given up and can be replayed.

use std::sync::Arc;

use agentry_core::agent::AgentName;
use agentry_core::event::Event;
use agentry_core::id::{DeadLetterId, OutboxId, TaskId};
use agentry_core::outbox::{OutboxBody, OutboxMessage};
use agentry_core::task::{Task, TaskError};
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use super::Page;
use crate::StoreError;

/// A task or message that was given up.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct DeadLetter {
    /// Id of the dead letter.
    pub id: DeadLetterId,
    /// Kind of the origin.
    pub origin: DeadLetterOrigin,
    /// Task that it belongs to.
    pub task: TaskId,
    /// Agent of the task.
    pub agent: AgentName,
    /// Reason for giving up.
    pub reason: TaskError,
    /// Editable content of a replay: a task's input, or an outbox message's body.
    pub payload: Value,
    /// Time at which it was given up.
    pub created_at: Timestamp,
    /// Current state.
    pub state: DeadLetterState,
}

/// Payload of a callback.
#[derive(Deserialize)]
struct CallbackPayload {
    url: String,
    payload: Value,
}

impl DeadLetter {
    /// Builds the outbox message of a replay, with a fresh attempt count.
    ///
    /// # Errors
    /// The payload cannot be sent.
    pub(crate) fn message(&self, now: Timestamp) -> Result<OutboxMessage, StoreError> {
        let id = OutboxId::from_bytes(*self.id.as_bytes());
        Ok(OutboxMessage { id, task: Some(self.task), created_at: now, trace: None, body: outbox_body(&self.payload)? })
    }
}

/// Parses the payload of an outbox dead letter.
///
/// # Errors
/// The payload was edited into something that cannot be sent.
pub(crate) fn outbox_body(payload: &Value) -> Result<OutboxBody, StoreError> {
    if let Ok(event) = serde_json::from_value::<Event>(payload.clone()) {
        return Ok(OutboxBody::Event { event, is_accepted: false });
    }
    if let Ok(message) = serde_json::from_value(payload.clone()) {
        return Ok(OutboxBody::Slack { message: Box::new(message) });
    }
    let text = "the payload is neither an event, nor a Slack message, nor {url, payload}; correct it";
    serde_json::from_value::<CallbackPayload>(payload.clone())
        .map(|CallbackPayload { url, payload }| OutboxBody::Callback { url, payload })
        .map_err(|_| StoreError::Broken(text.to_owned()))
}

/// Origin of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterOrigin {
    /// A failed task.
    Task = 0,
    /// A callback, event or Slack message that could not be delivered.
    Outbox = 1,
}

/// State of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterState {
    /// No decision has been made.
    Open = 0,
    /// It was replayed.
    Replayed = 1,
    /// It was dropped.
    Dropped = 2,
}

/// Stores dead letters.
#[async_trait]
pub trait DeadLetterStore: Send + Sync + 'static {
    /// Returns dead letters older than `before`, newest first, open ones only or all.
    async fn dead_letters(
        &self,
        only_open: bool,
        before: Option<DeadLetterId>,
        limit: usize,
    ) -> Result<Page<DeadLetter>, StoreError>;

    /// Returns a dead letter.
    async fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, StoreError>;

    /// Replaces the payload of an open dead letter. Returns false for an unknown or closed one.
    async fn edit_dead_letter(&self, id: DeadLetterId, payload: Value) -> Result<bool, StoreError>;

    /// Marks an open dead letter as replayed and, in the same transaction, accepts the new task (origin `Task`) or puts
    /// the message back into the outbox with a fresh attempt count (origin `Outbox`, `task` is `None`). Returns false
    /// for an unknown or closed one.
    async fn replay_dead_letter(
        &self,
        id: DeadLetterId,
        task: Option<Arc<Task>>,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Drops an open dead letter. Returns false for an unknown or closed one.
    async fn drop_dead_letter(&self, id: DeadLetterId) -> Result<bool, StoreError>;
}
