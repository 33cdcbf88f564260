//! Dead letters: given up, kept, replayable.

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

/// Something that was given up.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct DeadLetter {
    /// Its name.
    pub id: DeadLetterId,
    /// What it was.
    pub origin: DeadLetterOrigin,
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
    pub state: DeadLetterState,
}

/// The payload of a letter that was a callback.
#[derive(Deserialize)]
struct CallbackPayload {
    url: String,
    payload: Value,
}

impl DeadLetter {
    /// What a letter of the outbox says is to be sent, with fresh tries.
    ///
    /// # Errors
    /// When its payload cannot be sent.
    pub(crate) fn message(&self, now: Timestamp) -> Result<OutboxMessage, StoreError> {
        let id = OutboxId::from_bytes(*self.id.as_bytes());
        Ok(OutboxMessage { id, task: Some(self.task), created_at: now, trace: None, body: outbox_body(&self.payload)? })
    }
}

/// What the payload of a letter of the outbox says is to be sent.
///
/// # Errors
/// When it is nothing that can be sent: somebody edited it.
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

/// What a dead letter was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterOrigin {
    /// A task that failed.
    Task = 0,
    /// A callback or event that could not be delivered.
    Outbox = 1,
}

/// What became of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterState {
    /// It waits for a decision.
    Open = 0,
    /// It was replayed.
    Replayed = 1,
    /// It was dropped.
    Dropped = 2,
}

/// Dead letters.
#[async_trait]
pub trait DeadLetterStore: Send + Sync + 'static {
    /// Dead letters, newest first, older than `before`; only open ones, or all.
    async fn dead_letters(
        &self,
        only_open: bool,
        before: Option<DeadLetterId>,
        limit: usize,
    ) -> Result<Page<DeadLetter>, StoreError>;

    /// A dead letter.
    async fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, StoreError>;

    /// Replaces the payload of an open one. False: unknown or no longer open.
    async fn edit_dead_letter(&self, id: DeadLetterId, payload: Value) -> Result<bool, StoreError>;

    /// Marks an open one as replayed and, in the same transaction, accepts the new task (origin `Task`) or puts the
    /// message back into the outbox with fresh tries (origin `Outbox`, `task` is `None`). False: unknown or no longer
    /// open.
    async fn replay_dead_letter(
        &self,
        id: DeadLetterId,
        task: Option<Arc<Task>>,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Drops an open one. False: unknown or no longer open.
    async fn drop_dead_letter(&self, id: DeadLetterId) -> Result<bool, StoreError>;
}
