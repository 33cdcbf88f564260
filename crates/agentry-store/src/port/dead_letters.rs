//! Dead letters: given up, kept, replayable.

use agentry_core::agent::AgentName;
use agentry_core::id::{DeadLetterId, TaskId};
use agentry_core::task::TaskError;
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use serde_json::Value;

use super::{NewTask, Page};
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
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn dead_letters(
        &self,
        only_open: bool,
        before: Option<DeadLetterId>,
        limit: usize,
    ) -> Result<Page<DeadLetter>, StoreError>;

    /// A dead letter.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, StoreError>;

    /// Replaces the payload of an open one. False: unknown or no longer open.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn edit_dead_letter(&self, id: DeadLetterId, payload: Value) -> Result<bool, StoreError>;

    /// Marks an open one as replayed and, in the same transaction, accepts the new task (origin `Task`) or puts the
    /// message back into the outbox with fresh tries (origin `Outbox`, `task` is `None`). False: unknown or no longer
    /// open.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn replay_dead_letter(
        &self,
        id: DeadLetterId,
        task: Option<NewTask>,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Drops an open one. False: unknown or no longer open.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn drop_dead_letter(&self, id: DeadLetterId) -> Result<bool, StoreError>;
}
