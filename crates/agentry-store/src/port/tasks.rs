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

/// Result of accepting a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    /// The task is durable.
    New,
    /// The idempotency key created this task before.
    Duplicate(TaskId),
}

/// Reason for which a single task was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request (task {0})")]
    KeyReused(TaskId),
    /// The store failed for this task.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Tasks that a worker asks for.
#[derive(Debug, Clone)]
pub enum ClaimRequest {
    /// These tasks, as far as they are queued and due. The caller has their bodies, so they are not read again. Tasks
    /// of sessions are never among them: see [`crate::SessionStore::claim_session`].
    Tasks(Vec<TaskId>),
    /// The next due tasks of these modes outside sessions, by priority and age.
    Next {
        /// Modes to claim.
        modes: ModeSet,
        /// Largest number of tasks.
        limit: usize,
        /// Time by which the tasks were due: the claim's own, or an earlier one that leaves out tasks whose wakes may
        /// be in flight to another worker.
        due_by: Timestamp,
    },
}

/// The right to work on a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Id of the task.
    pub task: TaskId,
    /// Number of the claim: a later claim makes this one stale.
    pub epoch: u32,
    /// Owner of the task.
    pub worker: WorkerId,
}

/// A task that a worker claimed.
#[derive(Debug, Clone)]
pub struct ClaimedTask {
    /// Lease of the owner.
    pub lease: Lease,
    /// Body of the task; `None` when the caller has it ([`ClaimRequest::Tasks`]).
    pub task: Option<Arc<Task>>,
    /// Agent version that it started on; `None` before its first write.
    pub version: Option<Box<str>>,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Number of workers that died while running it.
    pub recoveries: u32,
    /// Running time used by earlier claims of this attempt, in microseconds.
    pub used_us: u64,
    /// True when a journal may exist and must be loaded first; false on a first claim.
    pub resumes: bool,
}

/// A write by the owner of a task: all of it happens in one transaction, or none when the lease is stale.
#[derive(Debug, Clone)]
pub struct Advance {
    /// Lease of the owner.
    pub lease: Lease,
    /// Time of the write.
    pub at: Timestamp,
    /// Agent version that the task runs on; the first write that names one sets it.
    pub agent_version: Option<Box<str>>,
    /// Entries to append, in order. The store numbers them, because it may have appended an entry of its own.
    pub journal: Vec<JournalEntry>,
    /// Finished provider calls.
    pub ledger: Vec<LedgerRow>,
    /// Questions to ask.
    pub clarifications: Vec<Clarification>,
    /// Messages that the turn adds to its session; a stale fence is refused as [`StoreError::Fenced`].
    pub session: Option<SessionWrite>,
    /// Messages to send.
    pub outbox: Vec<OutboxMessage>,
    /// Transition of the task.
    pub step: Step,
}

impl Advance {
    /// Creates a write with nothing but its transition.
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

    /// Returns the attempt of the entry that asked a question, or `otherwise` when no entry of this write did.
    pub(crate) fn attempt_of(&self, question: &Clarification, otherwise: u32) -> u32 {
        let asked = |entry: &&JournalEntry| matches!(&entry.body, JournalBody::Asked { clarification, .. } if *clarification == question.id);
        self.journal.iter().find(asked).map_or(otherwise, |entry| entry.attempt)
    }
}

/// Transition of a task.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// It keeps running.
    Continue,
    /// It ends, and its open questions are withdrawn.
    Finish {
        /// Outcome of the task.
        outcome: Outcome,
        /// True to store it as a dead letter for replay.
        dead_letter: bool,
    },
    /// It is queued as a new attempt.
    Retry {
        /// Earliest time of the attempt.
        at: Timestamp,
    },
    /// It waits for a human. If all its open questions were answered meanwhile, it is queued at once.
    Wait,
    /// It is queued to resume from its journal, because the owner is shutting down.
    Release,
}

/// Result of a write by the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AdvanceResult {
    /// True when cancellation of the task was requested.
    pub cancel_requested: bool,
    /// True when a task that was to wait was queued again because its answers were already there; wake it.
    pub requeued: bool,
}

/// Result of a cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelResult {
    /// The task was not running and has ended now.
    Ended,
    /// The task is running; its owner was asked to stop it.
    Requested,
    /// The task had ended before.
    AlreadyEnded(TaskStatus),
    /// There is no such task.
    Unknown,
}

/// Filter of a task list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// Agent of the tasks.
    pub agent: Option<AgentName>,
    /// Status of the tasks.
    pub status: Option<TaskStatus>,
    /// Mode of the tasks.
    pub mode: Option<ExecutionMode>,
    /// Session of the tasks.
    pub session: Option<SessionId>,
}

/// A page of a list, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// Rows of the page.
    pub items: Vec<T>,
    /// True when there are older rows; ask again from the last one.
    pub more: bool,
}

/// Number of open tasks by status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueCounts {
    /// Queued tasks, due or not.
    pub queued: u64,
    /// Running tasks.
    pub running: u64,
    /// Tasks that wait for a human.
    pub waiting: u64,
}

/// Queued tasks of one mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueuedTasks {
    /// Number of tasks, due or not.
    pub count: u64,
    /// Time at which the oldest due task became due.
    pub due_since: Option<Timestamp>,
}

/// Pending work of a store, for autoscaling and alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Queued tasks of each mode, in the order of [`ExecutionMode::ALL`].
    pub queued: [QueuedTasks; 4],
    /// Messages in the outbox.
    pub outbox: u64,
    /// Open dead letters.
    pub dead_letters: u64,
}

/// Stores tasks.
#[async_trait]
pub trait TaskStore: Send + Sync + 'static {
    /// Makes tasks durable, independently of one another and once per idempotency key. Each can be claimed from its
    /// `not_before` on. The results are in the order of the tasks. Accepted tasks survive kill -9 once this returns.
    /// Tasks beyond the queue's bound fail with [`StoreError::Full`]; the bound is approximate where several processes
    /// share the store. After an error none of them was accepted.
    async fn accept(&self, tasks: Vec<Arc<Task>>) -> Result<Vec<Result<Acceptance, AcceptError>>, StoreError>;

    /// Returns the task that an idempotency key of the last 24 h created, and the fingerprint of its request.
    async fn task_of_key(&self, key: &str, now: Timestamp) -> Result<Option<(TaskId, u64)>, StoreError>;

    /// Claims queued tasks that are due; the loser of a race gets nothing. Once this returns, the claim survives the
    /// death of this process; a loss of power may undo it together with everything that was written after it.
    async fn claim(
        &self,
        worker: WorkerId,
        request: ClaimRequest,
        now: Timestamp,
    ) -> Result<Vec<ClaimedTask>, StoreError>;

    /// Returns up to `limit` leases of running tasks that a worker holds, in any order. A worker compares them with the
    /// tasks it runs, because a claim may have succeeded although its answer was lost.
    async fn leases_of(&self, worker: WorkerId, limit: usize) -> Result<Vec<Lease>, StoreError>;

    /// Writes as the owner of a task; durable once it returns. The same write may be repeated when its answer was lost:
    /// ids keep ledger rows and outbox messages unique.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the lease or the session's fence is stale.
    async fn advance(&self, advance: Arc<Advance>) -> Result<AdvanceResult, StoreError>;

    /// Requests cancellation. A task that is not running ends at once, with `outbox` as the callback and event of its
    /// end.
    async fn cancel(
        &self,
        task: TaskId,
        now: Timestamp,
        outbox: Vec<OutboxMessage>,
    ) -> Result<CancelResult, StoreError>;

    /// Declares workers dead and requeues up to `limit` of their tasks: counts a recovery of each and appends
    /// [`agentry_core::journal::JournalBody::Recovered`].
    ///
    /// Workers are declared dead here and nowhere else; this also releases their claims of outbox messages and sessions
    /// and their budget reservations. `judge` is the calling worker. It declares others dead by the store's clock, but
    /// nobody while its own heartbeat is late, nor before its heartbeats have arrived without a gap for
    /// `MISSED_HEARTBEATS * HEARTBEAT`: after a stall of the store all heartbeats are old, the judge's included, and
    /// live workers need time to send the next one. The judge never declares itself dead. Workers that deregistered or
    /// were never registered need no judgement; any caller requeues their tasks.
    async fn recover(&self, judge: WorkerId, now: Timestamp, limit: usize) -> Result<Vec<Wake>, StoreError>;

    /// Returns up to `limit` sessions whose inbox holds a due task, in any order; wake them.
    async fn due_sessions(&self, now: Timestamp, limit: usize) -> Result<Vec<SessionId>, StoreError>;

    /// Returns the time at which the next queued task that is not due at `now` becomes due.
    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError>;

    /// Returns a task.
    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, StoreError>;

    /// Returns tasks older than `before`, newest first.
    async fn tasks(
        &self,
        filter: &TaskFilter,
        before: Option<TaskId>,
        limit: usize,
    ) -> Result<Page<TaskRecord>, StoreError>;

    /// Returns up to `limit` entries of a task's journal after number `after`, in order.
    async fn journal(&self, task: TaskId, after: u32, limit: usize) -> Result<Vec<JournalEntry>, StoreError>;

    /// Returns the number of open tasks by status.
    async fn counts(&self) -> Result<QueueCounts, StoreError>;

    /// Returns the pending work. Every call counts it afresh, so call it every few seconds at most.
    async fn backlog(&self) -> Result<Backlog, StoreError>;
}
