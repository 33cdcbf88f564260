//! The port.

use std::sync::Arc;

use agentry_core::agent::{AgentName, ModeSet};
use agentry_core::event::Event;
use agentry_core::id::TaskId;
use agentry_core::task::TaskStatus;
use async_trait::async_trait;

pub use agentry_core::wake::Wake;

/// Something every process may want to know at once.
#[derive(Debug, Clone)]
pub enum Signal {
    /// Somebody asked to cancel a running task.
    Cancel(TaskId),
    /// A question of a task was resolved while the task still runs.
    Resolved(TaskId),
    /// A task's journal or status moved on: streams read it from the store.
    Progress {
        /// The task.
        task: TaskId,
        /// Where it stands now.
        status: TaskStatus,
    },
    /// A piece of an answer that a model is writing. Live only; never stored.
    Delta {
        /// The task.
        task: TaskId,
        /// The text.
        text: Arc<str>,
    },
    /// The set of schedules changed.
    Schedules,
    /// The agents of the deployment changed: another version, another agent, one less.
    Fleet,
    /// A message was put into the outbox.
    Outbox,
    /// How an agent is doing changed.
    Agent(AgentName),
    /// An event was accepted.
    Event(Arc<Event>),
}

/// What can go wrong on a bus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// It is not reachable; trying again may help.
    #[error("the event bus is unavailable: {0}")]
    Unavailable(String),
}

/// What a receiver of signals got.
#[derive(Debug, Clone)]
pub enum Received {
    /// A signal.
    Signal(Signal),
    /// It was too slow and missed some: read the store.
    Missed,
    /// The bus is closed.
    Closed,
}

/// The receiving end of wakes: one consumer among competing ones.
#[async_trait]
pub trait Wakes: Send {
    /// Waits for at least one wake and takes at most `limit`, high priorities first. Empty only when the bus is
    /// closed. Cancel safe.
    async fn next(&mut self, limit: usize) -> Vec<Wake>;

    /// Whether wakes were dropped since this was last asked, because the queue was full: then read the store.
    fn overflowed(&mut self) -> bool;
}

/// The receiving end of signals: everybody gets all.
#[async_trait]
pub trait Signals: Send {
    /// Waits for the next one. Cancel safe.
    async fn next(&mut self) -> Received;
}

/// An event that somebody outside published. What is dropped without a word comes again.
pub struct Delivered {
    /// The event.
    pub event: Event,
    settle: Option<Settle>,
}

/// Tells the bus what became of a delivered event.
type Settle = Box<dyn FnOnce(Verdict) + Send>;

/// What became of a delivered event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is durable, or known: the bus may forget it.
    Taken,
    /// It can never be taken; the bus keeps it apart with the reason, for people to look at.
    Rejected(String),
    /// It was not looked at: the bus delivers it again, here or elsewhere.
    Returned,
}

impl Delivered {
    /// An event and whom to tell what became of it.
    #[must_use]
    pub fn new(event: Event, settle: impl FnOnce(Verdict) + Send + 'static) -> Self {
        Self { event, settle: Some(Box::new(settle)) }
    }

    /// The event is durable in the store, or was known to it. Never blocks.
    pub fn ack(mut self) {
        self.settle(Verdict::Taken);
    }

    /// The event can never be taken, and why. Never blocks.
    pub fn reject(mut self, reason: impl Into<String>) {
        self.settle(Verdict::Rejected(reason.into()));
    }

    fn settle(&mut self, verdict: Verdict) {
        if let Some(settle) = self.settle.take() {
            settle(verdict);
        }
    }
}

impl Drop for Delivered {
    fn drop(&mut self) {
        self.settle(Verdict::Returned);
    }
}

impl std::fmt::Debug for Delivered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivered").field("event", &self.event).finish_non_exhaustive()
    }
}

/// The receiving end of events from outside: one consumer among competing ones.
#[async_trait]
pub trait Inbound: Send {
    /// Waits for at least one event and takes all that are there. Empty only when the bus is closed. Cancel safe.
    async fn next(&mut self) -> Vec<Delivered>;
}

/// Everything Agentry asks of an event bus.
#[async_trait]
pub trait EventBus: Send + Sync + 'static {
    /// Hints that tasks can be claimed. Never blocks; drops what does not fit.
    fn wake(&self, wakes: Vec<Wake>);

    /// Joins the competing consumers of wakes of these modes.
    fn wakes(&self, modes: ModeSet) -> Box<dyn Wakes>;

    /// Tells everybody.
    fn signal(&self, signal: Signal);

    /// Hears everything that is told from now on.
    fn signals(&self) -> Box<dyn Signals>;

    /// Hears everything that is told from now on, and the events of all processes besides: [`EventBus::signals`] need
    /// not bring events that other processes published.
    fn tail(&self) -> Box<dyn Signals> {
        self.signals()
    }

    /// Whether somebody listens to signals about this task: an unheard delta need not be made.
    fn is_watched(&self, task: TaskId) -> bool;

    /// Hears signals about one task only ([`Signal::Progress`], [`Signal::Delta`]) from now on.
    fn watch(&self, task: TaskId) -> Box<dyn Signals>;

    /// Hands an accepted event to consumers outside the process. The embedded bus has none; it tells its listeners.
    ///
    /// # Errors
    /// When the bus is unavailable.
    async fn publish(&self, event: &Event) -> Result<(), BusError>;

    /// Whether somebody outside of Agentry may listen to events on this topic: an unheard event need not be made.
    ///
    /// A bus that cannot see who listens asks by publishing: `false` only while it is sure that an event on the topic
    /// found nobody within the last second. A new listener hears everything from at most one second after it came.
    fn is_heard_outside(&self, topic: &str) -> bool;

    /// Joins the competing consumers of events that others than Agentry publish; `None` when nobody else can.
    /// The same event may come more than once: acknowledge it when the store has it.
    fn inbound(&self) -> Option<Box<dyn Inbound>> {
        None
    }

    /// Wakes that wait for a consumer, as far as this process knows.
    fn depth(&self) -> usize;
}
