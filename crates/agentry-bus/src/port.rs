//! The bus port.

use std::sync::Arc;

use agentry_core::agent::{AgentName, ModeSet};
use agentry_core::event::Event;
use agentry_core::id::TaskId;
use agentry_core::task::TaskStatus;
use async_trait::async_trait;

pub use agentry_core::wake::Wake;

/// A notification for all processes.
#[derive(Debug, Clone)]
pub enum Signal {
    /// A running task is to be cancelled.
    Cancel(TaskId),
    /// A clarification of a running task was resolved.
    Resolved(TaskId),
    /// A task's journal or status changed: streams read it from the store.
    Progress {
        /// Id of the task.
        task: TaskId,
        /// Current status.
        status: TaskStatus,
    },
    /// A piece of an answer that a model is generating; never stored.
    Delta {
        /// Id of the task.
        task: TaskId,
        /// New text.
        text: Arc<str>,
    },
    /// The pieces so far belong to an answer that failed: the answer begins again.
    Restart {
        /// Id of the task.
        task: TaskId,
    },
    /// The set of schedules changed.
    Schedules,
    /// The deployment's agents changed: another version, a new agent, or one less.
    Fleet,
    /// The outbox has a new message.
    Outbox,
    /// An agent's status changed.
    Agent(AgentName),
    /// An event was accepted.
    Event(Arc<Event>),
}

/// Errors of a bus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The bus is unreachable; trying again may help.
    #[error("the event bus is unavailable: {0}")]
    Unavailable(String),
}

/// Result of receiving a signal.
#[derive(Debug, Clone)]
pub enum ReceiveOutcome {
    /// A signal arrived.
    Signal(Signal),
    /// The receiver was too slow and missed signals: read the store.
    Missed,
    /// The bus is closed.
    Closed,
}

/// The receiving end of wakes: one competing consumer.
#[async_trait]
pub trait Wakes: Send {
    /// Waits for at least one wake and takes up to `limit`, high priorities first. Empty only when the bus is closed.
    /// Cancel safe.
    async fn next(&mut self, limit: usize) -> Vec<Wake>;

    /// Returns true when wakes were dropped since the last call because a queue was full: then read the store.
    fn overflowed(&mut self) -> bool;
}

/// The receiving end of signals: every receiver gets all of them.
#[async_trait]
pub trait Signals: Send {
    /// Waits for the next signal. Cancel safe.
    async fn next(&mut self) -> ReceiveOutcome;
}

/// An event that a foreign client published. Dropping it without a verdict has it delivered again.
pub struct DeliveredEvent {
    /// Decoded event.
    pub event: Event,
    settle: Option<Settle>,
}

type Settle = Box<dyn FnOnce(DeliveryVerdict) + Send>;

/// Verdict on a delivered event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryVerdict {
    /// The event is durable or a duplicate: the bus may forget it.
    Accepted,
    /// The event can never be accepted; the bus stores it with this reason for people to look at.
    Rejected(String),
    /// The event was not processed: the bus delivers it again, here or elsewhere.
    Returned,
}

impl DeliveredEvent {
    /// Creates a delivery; `settle` receives the verdict.
    #[must_use]
    pub fn new(event: Event, settle: impl FnOnce(DeliveryVerdict) + Send + 'static) -> Self {
        Self { event, settle: Some(Box::new(settle)) }
    }

    /// Reports that the event is durable in the store, or a duplicate. Never blocks.
    pub fn ack(mut self) {
        self.settle(DeliveryVerdict::Accepted);
    }

    /// Reports that the event can never be accepted, and the reason. Never blocks.
    pub fn reject(mut self, reason: impl Into<String>) {
        self.settle(DeliveryVerdict::Rejected(reason.into()));
    }

    fn settle(&mut self, verdict: DeliveryVerdict) {
        if let Some(settle) = self.settle.take() {
            settle(verdict);
        }
    }
}

impl Drop for DeliveredEvent {
    fn drop(&mut self) {
        self.settle(DeliveryVerdict::Returned);
    }
}

impl std::fmt::Debug for DeliveredEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeliveredEvent").field("event", &self.event).finish_non_exhaustive()
    }
}

/// The receiving end of foreign events: one competing consumer.
#[async_trait]
pub trait Inbound: Send {
    /// Waits for at least one event and takes all that have arrived. Empty only when the bus is closed. Cancel safe.
    async fn next(&mut self) -> Vec<DeliveredEvent>;
}

/// Everything that Agentry needs from an event bus.
#[async_trait]
pub trait EventBus: Send + Sync + 'static {
    /// Hints that tasks can be claimed. Never blocks; drops wakes that do not fit.
    fn wake(&self, wakes: Vec<Wake>);

    /// Joins the competing consumers of wakes of these modes.
    fn wakes(&self, modes: ModeSet) -> Box<dyn Wakes>;

    /// Sends a signal to all processes.
    fn signal(&self, signal: Signal);

    /// Receives signals from now on.
    fn signals(&self) -> Box<dyn Signals>;

    /// Receives signals from now on, including the events of all processes: [`EventBus::signals`] need not deliver
    /// events that other processes published.
    fn tail(&self) -> Box<dyn Signals> {
        self.signals()
    }

    /// Returns true when somebody watches this task; otherwise a delta need not be sent.
    fn is_watched(&self, task: TaskId) -> bool;

    /// Receives signals about one task only ([`Signal::Progress`], [`Signal::Delta`], [`Signal::Restart`]) from now on.
    fn watch(&self, task: TaskId) -> Box<dyn Signals>;

    /// Publishes an accepted event to consumers outside the process. The embedded bus has none and sends it to its
    /// listeners.
    ///
    /// # Errors
    /// The bus is unavailable.
    async fn publish(&self, event: &Event) -> Result<(), BusError>;

    /// Returns true when a client outside of Agentry may listen to events on this topic; otherwise the event need not
    /// be published.
    ///
    /// A bus that cannot see its listeners probes by publishing: it returns `false` only while an event on the topic
    /// was returned as unroutable within the last second. A new listener receives everything from at most one second
    /// after it came.
    fn is_heard_outside(&self, topic: &str) -> bool;

    /// Joins the competing consumers of foreign events; `None` when the bus has none. Events may be delivered more than
    /// once: acknowledge one when the store has it.
    fn inbound(&self) -> Option<Box<dyn Inbound>> {
        None
    }

    /// Returns the number of queued wakes that this process knows of.
    fn depth(&self) -> usize;
}
