//! A store that is late, refuses, hangs, or does what it is asked and then says that it did not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agentry_core::access::{ApiKey, AuditEntry, BrowserSession, KeyHash};
use agentry_core::agent::{AgentName, AgentSpec};
use agentry_core::clarification::{Clarification, Resolution};
use agentry_core::event::Event;
use agentry_core::fleet::AgentState;
use agentry_core::id::{AuditId, CallId, ClarificationId, DeadLetterId, KeyId, OutboxId, TaskId, WorkerId};
use agentry_core::journal::JournalEntry;
use agentry_core::money::{LedgerRow, NanoUsd};
use agentry_core::outbox::OutboxMessage;
use agentry_core::schedule::ScheduleRecord;
use agentry_core::session::{SessionId, SessionMessage};
use agentry_core::task::{Task, TaskRecord};
use agentry_core::time::Timestamp;
use agentry_core::wake::Wake;
use agentry_core::worker::WorkerRecord;
use agentry_store::*;
use async_trait::async_trait;
use serde_json::Value;

use crate::store_faults::Faults;
use crate::{Dice, Outage, StoreFaults};

/// See the module. A call that hangs is carried out even when its caller's future is dropped.
pub struct FaultyStore {
    inner: Arc<dyn StateStore>,
    faults: Faults,
}

impl FaultyStore {
    /// A store with faults in front of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn StateStore>, dice: Dice, faults: StoreFaults) -> Arc<Self> {
        Arc::new(Self { inner, faults: Faults::new(dice, faults) })
    }

    /// Begins to inject faults (again). A new store does so from the start.
    pub fn break_again(&self) {
        self.faults.set_active(true);
    }

    /// Injects no faults from here on. Calls that hang already come to their end in their own time.
    pub fn heal(&self) {
        self.faults.set_active(false);
    }

    /// Begins an outage of this length, in the runtime that this is called in.
    pub fn begin_outage(&self, outage: Outage, length: Duration) {
        self.faults.outages.begin(outage, length);
    }

    /// To be called when the runtime of the callers is gone, as after kill -9: of the calls that hung, which the server
    /// has, some are carried out and the others are lost.
    pub async fn carry_out_orphans(&self) {
        self.faults.carry_out_orphans().await;
    }

    /// Returns how often each fault was injected.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.faults.counts.all()
    }
}

/// Implements a port: every call goes to the inner store through the faults. A call may outlive its caller, so it owns
/// what it was given by reference; those arguments are named behind the result.
macro_rules! pass_on {
    (
        $port:ident { $(fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty $([$($borrowed:ident),*])?;)* }
        $($by_hand:tt)*
    ) => {
        #[async_trait]
        impl $port for FaultyStore {
            $(
                async fn $name(&self, $($arg: $ty),*) -> Result<$out, StoreError> {
                    $($(let $borrowed = $borrowed.to_owned();)*)?
                    let inner = Arc::clone(&self.inner);
                    let call = async move {
                        $($(let $borrowed = &$borrowed;)*)?
                        inner.$name($($arg),*).await
                    };
                    self.faults.around(stringify!($name), call).await
                }
            )*
            $($by_hand)*
        }
    };
}

pass_on! { TaskStore {
    fn accept(tasks: Vec<Arc<Task>>) -> Vec<Result<Accepted, Refused>>;
    fn claim(worker: WorkerId, want: Want, now: Timestamp) -> Vec<Claimed>;
    fn owned(worker: WorkerId, limit: usize) -> Vec<Lease>;
    fn advance(advance: Arc<Advance>) -> Advanced;
    fn cancel(task: TaskId, now: Timestamp, outbox: Vec<OutboxMessage>) -> Cancelled;
    fn recover(judge: WorkerId, now: Timestamp, limit: usize) -> Vec<Wake>;
    fn due_sessions(now: Timestamp, limit: usize) -> Vec<SessionId>;
    fn next_due(now: Timestamp) -> Option<Timestamp>;
    fn task(id: TaskId) -> Option<TaskRecord>;
    fn tasks(filter: &TaskFilter, before: Option<TaskId>, limit: usize) -> Page<TaskRecord> [filter];
    fn journal(task: TaskId, after: u32, limit: usize) -> Vec<JournalEntry>;
    fn counts() -> QueueCounts;
    fn backlog() -> Backlog;
} }

pass_on! { SessionStore {
    fn claim_session(worker: WorkerId, session: &SessionId, now: Timestamp) -> SessionClaim [session];
    fn messages(session: &SessionId, after: u64, limit: usize) -> Vec<SessionMessage> [session];
    fn session(session: &SessionId) -> Option<SessionView> [session];
    fn delete_session(session: &SessionId) -> bool [session];
}
    async fn sessions(
        &self,
        agent: Option<&AgentName>,
        before: Option<&SessionId>,
        limit: usize,
    ) -> Result<Page<SessionView>, StoreError> {
        let (inner, agent, before) = (Arc::clone(&self.inner), agent.cloned(), before.cloned());
        let call = async move { inner.sessions(agent.as_ref(), before.as_ref(), limit).await };
        self.faults.around("sessions", call).await
    }
 }

pass_on! { ClarificationStore {
    fn resolve(id: ClarificationId, resolution: Resolution) -> Answered;
    fn clarification(id: ClarificationId) -> Option<Clarification>;
    fn clarifications(only_open: bool, after: Option<ClarificationId>, limit: usize) -> Page<Clarification>;
    fn asked_in(id: ClarificationId, thread: &str) -> () [thread];
    fn clarifications_in(thread: &str, limit: usize) -> Vec<Clarification> [thread];
    fn expired_clarifications(now: Timestamp, limit: usize) -> Vec<Clarification>;
} }

pass_on! { ScheduleStore {
    fn put_schedules(records: Vec<ScheduleRecord>) -> Vec<ScheduleRecord>;
    fn set_paused(name: &str, paused: bool, now: Timestamp) -> Option<ScheduleRecord> [name];
    fn delete_schedules(names: &[String]) -> u64 [names];
    fn schedule(name: &str) -> Option<ScheduleRecord> [name];
    fn schedule_revision() -> u64;
    fn schedules_since(revision: u64) -> ScheduleChanges;
    fn fire(firings: Vec<Firing>, now: Timestamp) -> Vec<FiringResult>;
    fn slots(name: &str, limit: usize) -> Vec<SlotRecord> [name];
    fn slots_at(name: &str, slots: &[Timestamp]) -> Vec<SlotRecord> [name, slots];
}
    async fn schedules(&self, after: Option<&str>, limit: usize) -> Result<Page<ScheduleRecord>, StoreError> {
        let (inner, after) = (Arc::clone(&self.inner), after.map(str::to_owned));
        self.faults.around("schedules", async move { inner.schedules(after.as_deref(), limit).await }).await
    }
 }

pass_on! { EventStore {
    fn accept_event(incoming: IncomingEvent) -> EventAccepted;
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
    fn claim_outbox(worker: WorkerId, now: Timestamp, limit: usize, held: &[OutboxId]) -> Vec<PendingMessage> [held];
    fn settle_outbox(results: Vec<(OutboxId, Delivery)>, now: Timestamp) -> ();
    fn next_outbox() -> Option<Timestamp>;
} }

pass_on! { DeadLetterStore {
    fn dead_letters(only_open: bool, before: Option<DeadLetterId>, limit: usize) -> Page<DeadLetter>;
    fn dead_letter(id: DeadLetterId) -> Option<DeadLetter>;
    fn edit_dead_letter(id: DeadLetterId, payload: Value) -> bool;
    fn replay_dead_letter(id: DeadLetterId, task: Option<Arc<Task>>, now: Timestamp) -> bool;
    fn drop_dead_letter(id: DeadLetterId) -> bool;
} }

pass_on! { FleetStore {
    fn heartbeat(worker: &WorkerRecord) -> () [worker];
    fn deregister(worker: WorkerId) -> ();
    fn workers(now: Timestamp) -> Vec<WorkerRecord>;
    fn keep_version(spec: &AgentSpec) -> () [spec];
    fn version(agent: &AgentName, version: &str) -> Option<AgentSpec> [agent, version];
    fn fleet_revision() -> u64;
    fn fleet_since(revision: u64) -> FleetChanges;
    fn offer_versions(offers: Vec<VersionOffer>, now: Timestamp) -> u64;
    fn remove_agents(agents: Vec<AgentName>, now: Timestamp) -> Vec<AgentName>;
    fn forget_agents(agents: Vec<AgentName>) -> ();
    fn agent_statuses() -> Vec<AgentStatus>;
}
    async fn put_agent_status(&self, statuses: Vec<AgentStatus>) -> Result<(), StoreError> {
        if statuses.iter().any(|status| status.state == AgentState::Restarting) {
            self.faults.counts.add("dispatcher.restarted");
        }
        let inner = Arc::clone(&self.inner);
        self.faults.around("put_agent_status", async move { inner.put_agent_status(statuses).await }).await
    }
 }

pass_on! { UsageStore {
    fn usage(group: UsageGroup, from: Timestamp, to: Timestamp) -> Vec<UsageRow>;
    fn spent(agent: &AgentName, from: Timestamp, to: Timestamp) -> NanoUsd [agent];
    fn calls(from: Timestamp, to: Timestamp, after: Option<CallCursor>, limit: usize) -> Page<LedgerRow>;
    fn ledger(task: TaskId) -> Vec<LedgerRow>;
} }

pass_on! { PulseStore {
    fn pulse(since: Timestamp, limit: usize) -> Vec<TaskPulse>;
} }

pass_on! { AccessStore {
    fn add_key(key: &ApiKey) -> () [key];
    fn keys() -> Vec<ApiKey>;
    fn revoke_key(key: KeyId, at: Timestamp) -> bool;
    fn key_by_hash(hash: KeyHash) -> Option<ApiKey>;
    fn key(key: KeyId) -> Option<ApiKey>;
    fn has_keys(now: Timestamp) -> bool;
    fn key_used(key: KeyId, at: Timestamp) -> ();
    fn add_browser_session(session: &BrowserSession) -> bool [session];
    fn browser_session(hash: KeyHash) -> Option<BrowserSession>;
    fn end_browser_session(hash: KeyHash) -> bool;
    fn audit(entry: &AuditEntry) -> () [entry];
    fn audit_log(before: Option<AuditId>, limit: usize) -> Page<AuditEntry>;
} }
