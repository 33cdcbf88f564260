//! Events that are accepted.

use std::sync::Arc;

use agentry_core::event::Event;
use agentry_core::outbox::OutboxMessage;
use agentry_core::task::Task;
use async_trait::async_trait;

use crate::StoreError;

/// An event with everything that becomes durable together with it.
#[derive(Debug, Clone)]
pub struct IncomingEvent {
    /// The event.
    pub event: Event,
    /// The tasks of its subscribers.
    pub tasks: Vec<Arc<Task>>,
    /// Its way to listeners outside, when there may be some.
    pub outbox: Option<OutboxMessage>,
    /// The revision of the fleet whose subscribers these are; 0: whichever it is.
    pub fleet_revision: u64,
}

impl IncomingEvent {
    /// An event with the tasks that it starts, that nobody outside listens to, whatever the fleet is.
    #[must_use]
    pub fn new(event: Event, tasks: Vec<Arc<Task>>) -> Self {
        Self { event, tasks, outbox: None, fleet_revision: 0 }
    }
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventAccepted {
    /// It is durable, and so are its tasks.
    New,
    /// (source, id) is known: nothing was done.
    Duplicate,
    /// The deployment's fleet has another revision: nothing was done, and its subscribers are to be looked up again.
    FleetChanged,
}

/// Events.
#[async_trait]
pub trait EventStore: Send + Sync + 'static {
    /// Makes an event, the tasks of its subscribers and its message durable in one transaction, once per (source, id).
    ///
    /// # Errors
    /// [`StoreError::Full`] when the queue cannot take its tasks; then nothing was accepted.
    async fn accept_event(&self, incoming: IncomingEvent) -> Result<EventAccepted, StoreError>;

    /// The last events on topics, newest first.
    async fn recent_events(&self, limit: usize) -> Result<Vec<Event>, StoreError>;
}
