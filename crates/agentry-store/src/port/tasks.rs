//! Tasks: accept, claim, advance, end.

use std::sync::Arc;

use agentry_core::agent::{AgentName, ExecutionMode, ModeSet};
use agentry_core::clarification::Clarification;
use agentry_core::id::{TaskId, WorkerId};
use agentry_core::journal::{JournalBody, JournalEntry};
use agentry_core::money::LedgerRow;
use agentry_core::outbox::OutboxMessage;
use agentry_core::session::{SessionId, SessionWrite};
use agentry_core::task::{Outcome, Task, TaskRecord, TaskStatus};
use agentry_core::time::Timestamp;
use agentry_core::wake::Wake;
use async_trait::async_trait;

use crate::StoreError;

/// What became of a task to accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// It is durable.
    New,
    /// The same key brought the same task before: this one.
    Duplicate(TaskId),
}

/// Why a single task was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The key was used for something else.
    #[error("the idempotency key was used for another request (task {0})")]
    KeyReused(TaskId),
    /// The store's answer for this one.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a worker wants to claim.
#[derive(Debug, Clone)]
pub enum Want {
    /// These tasks, as far as they are still queued and due; their bodies are known to the caller and not read again.
    /// Tasks of sessions are never among them: see [`crate::SessionStore::claim_session`].
    Known(Vec<TaskId>),
    /// The next tasks of these modes that are due, by priority and age, outside sessions.
    Next {
        /// Which modes.
        modes: ModeSet,
        /// How many at most.
        limit: usize,
        /// Only those that were due by then: the claim's own moment, or an earlier one to leave those alone whose wakes
        /// may be under way to another worker.
        due_by: Timestamp,
    },
}

/// The right to work on a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The task.
    pub task: TaskId,
    /// The claim's number: a later claim makes this one stale.
    pub epoch: u32,
    /// The owner.
    pub worker: WorkerId,
}

/// A task that was claimed.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The right to work on it.
    pub lease: Lease,
    /// What is asked; `None` when the caller knew it ([`Want::Known`]).
    pub task: Option<Arc<Task>>,
    /// The version of the agent that it began on; `None` before its first write.
    pub version: Option<Box<str>>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How often workers died over it.
    pub recoveries: u32,
    /// Running time already used by earlier claims of this attempt, in microseconds.
    pub used_us: u64,
    /// Whether a journal may exist, to be loaded before anything is done: false on a first claim.
    pub resumes: bool,
}

/// A write by the owner of a task: everything in it happens in one transaction, or nothing when the lease is stale.
#[derive(Debug, Clone)]
pub struct Advance {
    /// The owner's right.
    pub lease: Lease,
    /// When.
    pub at: Timestamp,
    /// The version of the agent it runs on; kept from the first write that names it.
    pub agent_version: Option<Box<str>>,
    /// Entries to append, in order. The store numbers them: it may have appended an entry of its own meanwhile.
    pub journal: Vec<JournalEntry>,
    /// Provider calls that ended.
    pub ledger: Vec<LedgerRow>,
    /// Questions to ask.
    pub clarifications: Vec<Clarification>,
    /// What the turn adds to its session; refused as [`StoreError::Fenced`] when its fence is stale.
    pub session: Option<SessionWrite>,
    /// What must leave.
    pub outbox: Vec<OutboxMessage>,
    /// Where the task goes.
    pub step: Step,
}

impl Advance {
    /// A write that changes nothing yet.
    #[must_use]
    pub fn new(lease: Lease, at: Timestamp, step: Step) -> Self {
        Self {
            lease,
            at,
            agent_version: None,
            journal: Vec::new(),
            ledger: Vec::new(),
            clarifications: Vec::new(),
            session: None,
            outbox: Vec::new(),
            step,
        }
    }

    /// The attempt of the entry that asked a question; `otherwise` when no entry of this write did.
    pub(crate) fn attempt_of(&self, question: &Clarification, otherwise: u32) -> u32 {
        let asked = |entry: &&JournalEntry| matches!(&entry.body, JournalBody::Asked { clarification, .. } if *clarification == question.id);
        self.journal.iter().find(asked).map_or(otherwise, |entry| entry.attempt)
    }
}

/// Where a task goes with a write.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// It goes on running.
    Continue,
    /// It ends. `dead_letter`: it is given up and kept for replay. Open questions are withdrawn.
    Finish {
        /// How.
        outcome: Outcome,
        /// Whether it becomes a dead letter.
        dead_letter: bool,
    },
    /// Back to the queue as a new attempt, not before this moment.
    Retry {
        /// Not before.
        at: Timestamp,
    },
    /// It waits for a human. When every open question of it has been answered meanwhile, it is queued at once.
    Wait,
    /// Back to the queue, to go on from its journal: the owner is shutting down.
    HandBack,
}

/// What the owner learns from a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Advanced {
    /// Somebody asked to cancel the task.
    pub cancel_requested: bool,
    /// After [`Step::Wait`]: the answers were already there and the task is queued again (wake it).
    pub requeued: bool,
}

/// What became of a request to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It was not running and has ended now.
    Ended,
    /// It runs; its owner has been asked.
    Requested,
    /// It had ended before.
    AlreadyEnded(TaskStatus),
    /// There is no such task.
    Unknown,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// Of this agent.
    pub agent: Option<AgentName>,
    /// In this status.
    pub status: Option<TaskStatus>,
    /// In this mode.
    pub mode: Option<ExecutionMode>,
    /// Of this session.
    pub session: Option<SessionId>,
}

/// A page of a list: newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Whether there are older ones: ask again from the last row.
    pub more: bool,
}

/// How many tasks stand where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueCounts {
    /// Queued, due or not.
    pub queued: u64,
    /// Running.
    pub running: u64,
    /// Waiting for a human.
    pub waiting: u64,
}

/// Queued tasks of one mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queued {
    /// How many, due or not.
    pub count: u64,
    /// Since when the oldest of those that are due could have been claimed.
    pub due_since: Option<Timestamp>,
}

/// What waits in a store: what pools are scaled by and people are warned of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Queued tasks of each mode, in the order of [`ExecutionMode::ALL`].
    pub queued: [Queued; 4],
    /// Messages in the outbox.
    pub outbox: u64,
    /// Dead letters that nobody has replayed or dropped.
    pub dead_letters: u64,
}

/// Tasks.
#[async_trait]
pub trait TaskStore: Send + Sync + 'static {
    /// Makes tasks durable, each by itself, none that its idempotency key brought before, each to be claimed from its
    /// `not_before` on: the answers stand in the order of the tasks. When this returns, accepted
    /// tasks survive kill -9. Refuses with [`StoreError::Full`] beyond the queue's bound (about, where several processes share
    /// the store).
    /// When it fails, none of them was accepted.
    async fn accept(&self, tasks: Vec<Arc<Task>>) -> Result<Vec<Result<Accepted, Refused>>, StoreError>;

    /// Returns the task that an idempotency key of the last 24 h created, and the fingerprint of its request.
    async fn task_of_key(&self, key: &str, now: Timestamp) -> Result<Option<(TaskId, u64)>, StoreError>;

    /// Claims queued tasks that are due: the loser of a claim gets nothing. When it returns, the claim survives the death
    /// of this process; a loss of power may undo it, together with everything that was written after it.
    async fn claim(&self, worker: WorkerId, want: Want, now: Timestamp) -> Result<Vec<Claimed>, StoreError>;

    /// The leases that a worker holds: of tasks that are running. A worker compares them with what it runs, because a
    /// claim may be carried out whose answer it never got. At most `limit`, in no order.
    async fn owned(&self, worker: WorkerId, limit: usize) -> Result<Vec<Lease>, StoreError>;

    /// Writes as the owner of a task. Durable when it returns. The same write may come again when its answer was lost:
    /// ledger rows and outbox messages are kept once, by their ids.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the lease or the session's fence is stale.
    async fn advance(&self, advance: Arc<Advance>) -> Result<Advanced, StoreError>;

    /// Asks to cancel. Ended at once when nobody runs it, with the callback and event of its end in the outbox.
    async fn cancel(&self, task: TaskId, now: Timestamp, outbox: Vec<OutboxMessage>) -> Result<Cancelled, StoreError>;

    /// Declares workers dead and requeues their tasks: counts a recovery of each and appends
    /// [`agentry_core::journal::JournalBody::Recovered`]. At most `limit` tasks.
    ///
    /// This is the only place where a worker is declared dead; claims of outbox messages, sessions and reservations of
    /// budgets are freed by what it decided. `judge` is the calling worker. It declares others dead by the store's clock,
    /// and nobody while its own heartbeat is late, nor before its heartbeats have come without a gap for
    /// `MISSED_HEARTBEATS * HEARTBEAT`: after a stall of the store all heartbeats are old, the judge's own included, and
    /// the living need time to send the next one. The judge itself is never declared dead. Workers that deregistered or
    /// were never registered need no judgement; their tasks are requeued whoever calls.
    async fn recover(&self, judge: WorkerId, now: Timestamp, limit: usize) -> Result<Vec<Wake>, StoreError>;

    /// Sessions whose inbox holds a queued task that is due: to be woken. At most `limit`, in no order.
    async fn due_sessions(&self, now: Timestamp, limit: usize) -> Result<Vec<SessionId>, StoreError>;

    /// When the next queued task that is not due at `now` will be.
    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError>;

    /// A task.
    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, StoreError>;

    /// Tasks, newest first, older than `before`.
    async fn tasks(
        &self,
        filter: &TaskFilter,
        before: Option<TaskId>,
        limit: usize,
    ) -> Result<Page<TaskRecord>, StoreError>;

    /// The entries of a task's journal after number `after`, in order, at most `limit`.
    async fn journal(&self, task: TaskId, after: u32, limit: usize) -> Result<Vec<JournalEntry>, StoreError>;

    /// How many tasks stand where.
    async fn counts(&self) -> Result<QueueCounts, StoreError>;

    /// What waits. Counted afresh by each call, so it is for a scrape every few seconds.
    async fn backlog(&self) -> Result<Backlog, StoreError>;
}
