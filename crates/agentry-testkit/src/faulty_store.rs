//! A store that is late, refuses, or does what it is asked and then says that it did not.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use agentry_core::access::{ApiKey, AuditEntry, BrowserSession, KeyHash};
use agentry_core::agent::{AgentName, AgentSpec};
use agentry_core::clarification::{Clarification, Resolution};
use agentry_core::event::Event;
use agentry_core::id::{AuditId, CallId, ClarificationId, DeadLetterId, KeyId, OutboxId, TaskId, WorkerId};
use agentry_core::journal::JournalEntry;
use agentry_core::money::{LedgerRow, NanoUsd};
use agentry_core::outbox::OutboxMessage;
use agentry_core::schedule::ScheduleRecord;
use agentry_core::session::{SessionId, SessionMessage};
use agentry_core::task::TaskRecord;
use agentry_core::time::Timestamp;
use agentry_core::worker::WorkerRecord;
use agentry_store::*;
use async_trait::async_trait;
use serde_json::Value;

use crate::Dice;

/// How often what goes wrong.
#[derive(Debug, Clone, Copy)]
pub struct StoreFaults {
    /// The call is not made and answers `Unavailable`.
    pub refuse: f64,
    /// The call is made, and answers `Unavailable` all the same: its outcome is unknown to the caller.
    pub lose_answer: f64,
    /// The call is late.
    pub delay: f64,
    /// By at most this long.
    pub max_delay: Duration,
}

/// See the module.
pub struct FaultyStore {
    inner: Arc<dyn StateStore>,
    dice: Dice,
    faults: StoreFaults,
    active: AtomicBool,
    injected: AtomicU64,
}

impl FaultyStore {
    /// A store with faults in front of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn StateStore>, dice: Dice, faults: StoreFaults) -> Arc<Self> {
        Arc::new(Self { inner, dice, faults, active: AtomicBool::new(true), injected: AtomicU64::new(0) })
    }

    /// Nothing goes wrong from here on.
    pub fn heal(&self) {
        self.active.store(false, Ordering::SeqCst);
    }

    /// How many calls went wrong: the proof that the fault bit.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.injected.load(Ordering::SeqCst)
    }

    async fn around<T>(&self, call: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        if !self.active.load(Ordering::SeqCst) {
            return call.await;
        }
        if self.dice.happens(self.faults.delay) {
            let most = u64::try_from(self.faults.max_delay.as_micros()).unwrap_or(u64::MAX);
            tokio::time::sleep(Duration::from_micros(self.dice.below(most))).await;
        }
        if self.dice.happens(self.faults.refuse) {
            return Err(self.injected_error("refused"));
        }
        let answer = call.await;
        if self.dice.happens(self.faults.lose_answer) {
            return Err(self.injected_error("the answer was lost"));
        }
        answer
    }

    fn injected_error(&self, what: &str) -> StoreError {
        self.injected.fetch_add(1, Ordering::SeqCst);
        StoreError::Unavailable(format!("injected: {what}"))
    }
}

macro_rules! pass_on {
    ($port:ident { $(fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)* }) => {
        #[async_trait]
        impl $port for FaultyStore {
            $(
                async fn $name(&self, $($arg: $ty),*) -> Result<$out, StoreError> {
                    self.around(self.inner.$name($($arg),*)).await
                }
            )*
        }
    };
}

pass_on! { TaskStore {
    fn accept(tasks: Vec<NewTask>) -> Vec<Result<Accepted, Refused>>;
    fn claim(worker: WorkerId, want: Want, now: Timestamp) -> Vec<Claimed>;
    fn advance(advance: Advance) -> Advanced;
    fn cancel(task: TaskId, now: Timestamp, outbox: Vec<OutboxMessage>) -> Cancelled;
    fn recover(now: Timestamp, limit: usize) -> Vec<Recovered>;
    fn due_sessions(now: Timestamp, limit: usize) -> Vec<SessionId>;
    fn next_due(now: Timestamp) -> Option<Timestamp>;
    fn task(id: TaskId) -> Option<TaskRecord>;
    fn tasks(filter: &TaskFilter, before: Option<TaskId>, limit: usize) -> Page<TaskRecord>;
    fn journal(task: TaskId, after: u32, limit: usize) -> Vec<JournalEntry>;
    fn counts() -> QueueCounts;
    fn backlog() -> Backlog;
} }

pass_on! { SessionStore {
    fn claim_session(worker: WorkerId, session: &SessionId, now: Timestamp) -> SessionClaim;
    fn messages(session: &SessionId, after: u64, limit: usize) -> Vec<SessionMessage>;
    fn session(session: &SessionId) -> Option<SessionView>;
    fn sessions(agent: Option<&AgentName>, before: Option<&SessionId>, limit: usize) -> Page<SessionView>;
    fn delete_session(session: &SessionId) -> bool;
} }

pass_on! { ClarificationStore {
    fn resolve(id: ClarificationId, resolution: Resolution) -> Answered;
    fn clarification(id: ClarificationId) -> Option<Clarification>;
    fn clarifications(only_open: bool, after: Option<ClarificationId>, limit: usize) -> Page<Clarification>;
    fn asked_in(id: ClarificationId, thread: &str) -> ();
    fn clarifications_in(thread: &str, limit: usize) -> Vec<Clarification>;
    fn expired_clarifications(now: Timestamp, limit: usize) -> Vec<Clarification>;
} }

pass_on! { ScheduleStore {
    fn put_schedules(records: Vec<ScheduleRecord>) -> Vec<ScheduleRecord>;
    fn set_paused(name: &str, paused: bool, now: Timestamp) -> Option<ScheduleRecord>;
    fn delete_schedules(names: &[String]) -> u64;
    fn schedule(name: &str) -> Option<ScheduleRecord>;
    fn schedules(after: Option<&str>, limit: usize) -> Page<ScheduleRecord>;
    fn schedule_revision() -> u64;
    fn schedules_since(revision: u64) -> ScheduleChanges;
    fn fire(firings: Vec<Firing>, now: Timestamp) -> Vec<FiringResult>;
    fn slots(name: &str, limit: usize) -> Vec<SlotRecord>;
    fn slots_at(name: &str, slots: &[Timestamp]) -> Vec<SlotRecord>;
} }

pass_on! { EventStore {
    fn accept_event(event: &Event, tasks: Vec<NewTask>) -> EventAccepted;
    fn recent_events(limit: usize) -> Vec<Event>;
} }

pass_on! { BudgetStore {
    fn reserve(reservation: Reservation) -> Reserved;
    fn release(call: CallId) -> ();
} }

pass_on! { RetentionStore {
    fn prune(horizon: Horizon) -> u64;
} }

pass_on! { OutboxStore {
    fn claim_outbox(worker: WorkerId, now: Timestamp, limit: usize) -> Vec<PendingMessage>;
    fn settle_outbox(results: Vec<(OutboxId, Delivery)>, now: Timestamp) -> ();
    fn next_outbox() -> Option<Timestamp>;
} }

pass_on! { DeadLetterStore {
    fn dead_letters(only_open: bool, before: Option<DeadLetterId>, limit: usize) -> Page<DeadLetter>;
    fn dead_letter(id: DeadLetterId) -> Option<DeadLetter>;
    fn edit_dead_letter(id: DeadLetterId, payload: Value) -> bool;
    fn replay_dead_letter(id: DeadLetterId, task: Option<NewTask>, now: Timestamp) -> bool;
    fn drop_dead_letter(id: DeadLetterId) -> bool;
} }

pass_on! { FleetStore {
    fn heartbeat(worker: &WorkerRecord) -> ();
    fn deregister(worker: WorkerId) -> ();
    fn workers() -> Vec<WorkerRecord>;
    fn keep_version(spec: &AgentSpec) -> ();
    fn version(agent: &AgentName, version: &str) -> Option<AgentSpec>;
    fn put_agent_status(statuses: Vec<AgentStatus>) -> ();
    fn forget_agents(agents: Vec<AgentName>) -> ();
    fn agent_statuses() -> Vec<AgentStatus>;
} }

pass_on! { UsageStore {
    fn usage(group: UsageGroup, from: Timestamp, to: Timestamp) -> Vec<UsageRow>;
    fn spent(agent: &AgentName, from: Timestamp, to: Timestamp) -> NanoUsd;
    fn calls(from: Timestamp, to: Timestamp, after: Option<CallCursor>, limit: usize) -> Page<LedgerRow>;
    fn ledger(task: TaskId) -> Vec<LedgerRow>;
} }

pass_on! { PulseStore {
    fn pulse(since: Timestamp, limit: usize) -> Vec<TaskPulse>;
} }

pass_on! { AccessStore {
    fn add_key(key: &ApiKey) -> ();
    fn keys() -> Vec<ApiKey>;
    fn revoke_key(key: KeyId, at: Timestamp) -> bool;
    fn key_by_hash(hash: KeyHash) -> Option<ApiKey>;
    fn key(key: KeyId) -> Option<ApiKey>;
    fn has_keys(now: Timestamp) -> bool;
    fn key_used(key: KeyId, at: Timestamp) -> ();
    fn add_browser_session(session: &BrowserSession) -> bool;
    fn browser_session(hash: KeyHash) -> Option<BrowserSession>;
    fn end_browser_session(hash: KeyHash) -> bool;
    fn audit(entry: &AuditEntry) -> ();
    fn audit_log(before: Option<AuditId>, limit: usize) -> Page<AuditEntry>;
} }
