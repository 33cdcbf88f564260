//! The port.

use std::sync::Arc;

use agentry_core::agent::{AgentName, ExecutionMode, ModeSet};
use agentry_core::event::Event;
use agentry_core::id::TaskId;
use agentry_core::session::SessionId;
use agentry_core::task::{Priority, Task, TaskStatus};
use async_trait::async_trait;

/// A hint that a task can be claimed. Lost hints cost time, never work: recovery finds what was not woken.
#[derive(Debug, Clone)]
pub struct Wake {
    /// The task.
    pub task: TaskId,
    /// Its mode: which workers may claim it.
    pub mode: ExecutionMode,
    /// Its session, for continuous agents: the session is claimed instead of the task.
    pub session: Option<SessionId>,
    /// Which of the waiting wakes goes first.
    pub priority: Priority,
    /// What the worker would read next, when the sender has it at hand.
    pub body: Option<Arc<Task>>,
}

impl Wake {
    /// The wake of a task whose body is at hand.
    #[must_use]
    pub fn of(task: Arc<Task>) -> Self {
        Self {
            task: task.id,
            mode: task.mode,
            session: task.session.clone(),
            priority: task.priority,
            body: Some(task),
        }
    }
}

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

    /// Whether somebody listens to signals about this task: an unheard delta need not be made.
    fn is_watched(&self, task: TaskId) -> bool;

    /// Hears signals about one task only ([`Signal::Progress`], [`Signal::Delta`]) from now on.
    fn watch(&self, task: TaskId) -> Box<dyn Signals>;

    /// Hands an accepted event to consumers outside the process. The embedded bus has none; it tells its listeners.
    ///
    /// # Errors
    /// When the bus is unavailable.
    async fn publish(&self, event: &Event) -> Result<(), BusError>;

    /// Whether consumers may exist that this process does not know of, so that every event must be published.
    fn has_foreign_consumers(&self) -> bool;

    /// Wakes that wait for a consumer.
    fn depth(&self) -> usize;
}
