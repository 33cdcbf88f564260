//! The table of the port: every trait with its methods, once. Stores in front of other stores are generated from it.
//!
//! A new method of the port is added to its trait and here, and nowhere else.

/// The names that the table uses, for crates that expand it.
pub mod names {
    pub use std::sync::Arc;

    pub use agentry_core::access::{ApiKey, AuditEntry, BrowserSession, KeyHash};
    pub use agentry_core::agent::{AgentName, AgentSpec};
    pub use agentry_core::clarification::{Clarification, Resolution};
    pub use agentry_core::event::Event;
    pub use agentry_core::id::{AuditId, CallId, ClarificationId, DeadLetterId, KeyId, OutboxId, TaskId, WorkerId};
    pub use agentry_core::journal::JournalEntry;
    pub use agentry_core::money::{LedgerRow, NanoUsd};
    pub use agentry_core::outbox::OutboxMessage;
    pub use agentry_core::schedule::ScheduleRecord;
    pub use agentry_core::session::{SessionId, SessionMessage};
    pub use agentry_core::task::{Task, TaskRecord};
    pub use agentry_core::time::Timestamp;
    pub use agentry_core::wake::Wake;
    pub use agentry_core::worker::WorkerRecord;
    pub use serde_json::Value;

    pub use crate::port::*;
}

/// Calls a macro with the whole port: each trait, the name of its layer ([`crate::layer`]), and its methods without
/// `&self`, `async` and the error. Borrowed arguments are listed after the result: references in brackets, options of
/// references in braces. The caller imports [`names`].
#[macro_export]
macro_rules! for_each_store_method {
    ($visit:ident) => {
        $visit! {
            TaskStore, TaskLayer {
                fn accept(tasks: Vec<Arc<Task>>) -> Vec<Result<Acceptance, AcceptError>>;
                fn task_of_key(key: &str, now: Timestamp) -> Option<(TaskId, u64)> [key];
                fn claim(worker: WorkerId, request: ClaimRequest, now: Timestamp) -> Vec<ClaimedTask>;
                fn leases_of(worker: WorkerId, limit: usize) -> Vec<Lease>;
                fn advance(advance: Arc<Advance>) -> AdvanceResult;
                fn cancel(task: TaskId, now: Timestamp, outbox: Vec<OutboxMessage>) -> CancelResult;
                fn recover(judge: WorkerId, now: Timestamp, limit: usize) -> Vec<Wake>;
                fn due_sessions(now: Timestamp, limit: usize) -> Vec<SessionId>;
                fn next_due(now: Timestamp) -> Option<Timestamp>;
                fn task(id: TaskId) -> Option<TaskRecord>;
                fn tasks(filter: &TaskFilter, before: Option<TaskId>, limit: usize) -> Page<TaskRecord> [filter];
                fn journal(task: TaskId, after: u32, limit: usize) -> Vec<JournalEntry>;
                fn counts() -> QueueCounts;
                fn backlog() -> Backlog;
            }
            SessionStore, SessionLayer {
                fn claim_session(worker: WorkerId, session: &SessionId, now: Timestamp) -> SessionClaim [session];
                fn messages(session: &SessionId, after: u64, limit: usize) -> Vec<SessionMessage> [session];
                fn session(session: &SessionId) -> Option<SessionView> [session];
                fn sessions(agent: Option<&AgentName>, before: Option<&SessionId>, limit: usize) -> Page<SessionView>
                    { agent, before };
                fn delete_session(session: &SessionId) -> bool [session];
            }
            ClarificationStore, ClarificationLayer {
                fn resolve(id: ClarificationId, resolution: Resolution) -> ResolveResult;
                fn clarification(id: ClarificationId) -> Option<Clarification>;
                fn clarifications(only_open: bool, after: Option<ClarificationId>, limit: usize) -> Page<Clarification>;
                fn set_clarification_thread(id: ClarificationId, thread: &str) -> () [thread];
                fn clarifications_in_thread(thread: &str, limit: usize) -> Vec<Clarification> [thread];
                fn expired_clarifications(now: Timestamp, limit: usize) -> Vec<Clarification>;
            }
            ScheduleStore, ScheduleLayer {
                fn put_schedules(records: Vec<ScheduleRecord>) -> Vec<ScheduleRecord>;
                fn set_paused(name: &str, paused: bool, now: Timestamp) -> Option<ScheduleRecord> [name];
                fn delete_schedules(names: &[String]) -> u64 [names];
                fn schedule(name: &str) -> Option<ScheduleRecord> [name];
                fn schedules(after: Option<&str>, limit: usize) -> Page<ScheduleRecord> { after };
                fn schedule_revision() -> u64;
                fn schedules_since(revision: u64) -> ScheduleChanges;
                fn fire(firings: Vec<Firing>, now: Timestamp) -> Vec<FiringResult>;
                fn slots(name: &str, limit: usize) -> Vec<SlotRecord> [name];
                fn slots_at(name: &str, slots: &[Timestamp]) -> Vec<SlotRecord> [name, slots];
            }
            EventStore, EventLayer {
                fn accept_event(incoming: IncomingEvent) -> EventAcceptance;
                fn recent_events(limit: usize) -> Vec<Event>;
            }
            BudgetStore, BudgetLayer {
                fn reserve(reservation: Reservation) -> ReserveResult;
                fn release(call: CallId) -> ();
            }
            RetentionStore, RetentionLayer {
                fn prune(horizon: Horizon) -> u64;
            }
            OutboxStore, OutboxLayer {
                fn claim_outbox(worker: WorkerId, now: Timestamp, limit: usize, held: &[OutboxId]) -> Vec<PendingMessage>
                    [held];
                fn settle_outbox(results: Vec<(OutboxId, Delivery)>, now: Timestamp) -> ();
                fn next_outbox() -> Option<Timestamp>;
            }
            DeadLetterStore, DeadLetterLayer {
                fn dead_letters(only_open: bool, before: Option<DeadLetterId>, limit: usize) -> Page<DeadLetter>;
                fn dead_letter(id: DeadLetterId) -> Option<DeadLetter>;
                fn edit_dead_letter(id: DeadLetterId, payload: Value) -> bool;
                fn replay_dead_letter(id: DeadLetterId, task: Option<Arc<Task>>, now: Timestamp) -> bool;
                fn drop_dead_letter(id: DeadLetterId) -> bool;
            }
            FleetStore, FleetLayer {
                fn heartbeat(worker: &WorkerRecord) -> () [worker];
                fn deregister(worker: WorkerId) -> ();
                fn workers(now: Timestamp) -> Vec<WorkerRecord>;
                fn store_version(spec: &AgentSpec) -> () [spec];
                fn version(agent: &AgentName, version: &str) -> Option<AgentSpec> [agent, version];
                fn fleet_revision() -> u64;
                fn fleet_since(revision: u64) -> FleetChanges;
                fn offer_versions(offers: Vec<VersionOffer>, now: Timestamp) -> u64;
                fn remove_agents(agents: Vec<AgentName>, now: Timestamp) -> Vec<AgentName>;
                fn put_agent_status(statuses: Vec<AgentStatus>) -> ();
                fn remove_agent_statuses(agents: Vec<AgentName>) -> ();
                fn agent_statuses() -> Vec<AgentStatus>;
            }
            UsageStore, UsageLayer {
                fn usage(group: UsageGroup, from: Timestamp, to: Timestamp) -> Vec<UsageRow>;
                fn spent(agent: &AgentName, from: Timestamp, to: Timestamp) -> NanoUsd [agent];
                fn calls(from: Timestamp, to: Timestamp, after: Option<CallCursor>, limit: usize) -> Page<LedgerRow>;
                fn ledger(task: TaskId) -> Vec<LedgerRow>;
            }
            RecentTaskStore, RecentTaskLayer {
                fn recent_tasks(since: Timestamp, limit: usize) -> Vec<RecentTask>;
            }
            AccessStore, AccessLayer {
                fn add_key(key: &ApiKey) -> () [key];
                fn keys() -> Vec<ApiKey>;
                fn revoke_key(key: KeyId, at: Timestamp) -> bool;
                fn key_by_hash(hash: KeyHash) -> Option<ApiKey>;
                fn key(key: KeyId) -> Option<ApiKey>;
                fn has_active_keys(now: Timestamp) -> bool;
                fn record_key_use(key: KeyId, at: Timestamp) -> ();
                fn add_browser_session(session: &BrowserSession) -> bool [session];
                fn browser_session(hash: KeyHash) -> Option<BrowserSession>;
                fn end_browser_session(hash: KeyHash) -> bool;
                fn audit(entry: &AuditEntry) -> () [entry];
                fn audit_log(before: Option<AuditId>, limit: usize) -> Page<AuditEntry>;
            }
        }
    };
}
