//! Events at the door.

use agentry_core::event::Event;
use async_trait::async_trait;

use super::NewTask;
use crate::StoreError;

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventAccepted {
    /// It is durable, and so are its tasks.
    New,
    /// (source, id) is known: nothing was done.
    Duplicate,
}

/// Events.
#[async_trait]
pub trait EventStore: Send + Sync + 'static {
    /// Makes an event and the tasks of its subscribers durable in one transaction, once per (source, id).
    ///
    /// # Errors
    /// [`StoreError::Full`] when the queue cannot take its tasks; then nothing was accepted.
    async fn accept_event(&self, event: &Event, tasks: Vec<NewTask>) -> Result<EventAccepted, StoreError>;

    /// The last events on topics, newest first.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn recent_events(&self, limit: usize) -> Result<Vec<Event>, StoreError>;
}
