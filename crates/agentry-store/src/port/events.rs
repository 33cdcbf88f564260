//! Accepted events.

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
    /// Tasks of its subscribers.
    pub tasks: Vec<Arc<Task>>,
    /// Message to consumers outside the deployment, when there may be some.
    pub outbox: Option<OutboxMessage>,
    /// Fleet revision in which the subscribers were looked up; 0 accepts any.
    pub fleet_revision: u64,
}

impl IncomingEvent {
    /// Creates an event with the tasks that it starts, without a message to the outside and for any fleet revision.
    #[must_use]
    pub fn new(event: Event, tasks: Vec<Arc<Task>>) -> Self {
        Self { event, tasks, outbox: None, fleet_revision: 0 }
    }
}

/// Result of accepting an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventAcceptance {
    /// The event and its tasks are durable.
    New,
    /// An event with this source and id exists: nothing was done.
    Duplicate,
    /// The deployment's fleet has another revision: nothing was done, and the subscribers must be looked up again.
    FleetChanged,
}

/// Stores events.
#[async_trait]
pub trait EventStore: Send + Sync + 'static {
    /// Makes an event, the tasks of its subscribers and its message durable in one transaction, once per source and id.
    ///
    /// # Errors
    /// [`StoreError::Full`] when the queue cannot take its tasks; nothing was accepted then.
    async fn accept_event(&self, incoming: IncomingEvent) -> Result<EventAcceptance, StoreError>;

    /// Returns the latest events, newest first.
    async fn recent_events(&self, limit: usize) -> Result<Vec<Event>, StoreError>;
}
