//! A store that breaks one promise and hands everything else on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use agentry_core::agent::{AgentName, AgentSpec};
use agentry_core::event::Event;
use agentry_core::id::{OutboxId, TaskId, WorkerId};
use agentry_core::journal::JournalEntry;
use agentry_core::money::NanoUsd;
use agentry_core::outbox::OutboxMessage;
use agentry_core::schedule::ScheduleRecord;
use agentry_core::session::{SessionId, SessionMessage};
use agentry_core::task::{Task, TaskRecord};
use agentry_core::time::Timestamp;
use agentry_core::wake::Wake;
use agentry_core::worker::WorkerRecord;
use agentry_store::{
    Accepted, Advance, Advanced, AgentStatus, Backlog, Cancelled, Claimed, Delivery, EventAccepted, EventStore, Firing,
    FiringResult, FleetChanges, FleetStore, IncomingEvent, Lease, OutboxStore, Page, PendingMessage, QueueCounts,
    Refused, ScheduleChanges, ScheduleStore, SessionClaim, SessionStore, SessionView, SlotRecord, StateStore,
    StoreError, TaskFilter, TaskStore, VersionOffer, Want,
};
use async_trait::async_trait;

use crate::interval::LastRuns;
use crate::mutant::Mutant;

/// How much later than its acknowledgement a task becomes durable: a moment in which a process may die.
const COMMITS_LATER: Duration = Duration::from_millis(300);
/// How long a session is read from the cache.
const CACHED: Duration = Duration::from_secs(2);

/// The store of a broken platform.
pub struct Store {
    inner: Arc<dyn StateStore>,
    mutant: Mutant,
    runs: LastRuns,
    /// Events so far.
    events: AtomicU64,
    sessions: Mutex<HashMap<SessionId, (Instant, Option<SessionView>)>>,
}

impl Store {
    /// Stands before a store.
    pub fn new(inner: Arc<dyn StateStore>, mutant: Mutant) -> Self {
        Self { inner, mutant, runs: LastRuns::default(), events: AtomicU64::new(0), sessions: Mutex::default() }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == mutant
    }
}

agentry_store::forward!(
    Store: AccessStore, BudgetStore, ClarificationStore, DeadLetterStore, PulseStore, RetentionStore, UsageStore,
);

/// As money looks after it was dollars in single precision.
fn through_floats(cost: NanoUsd) -> NanoUsd {
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "this is the fault")]
    NanoUsd((f64::from(cost.0 as f32 / 1e9) * 1e9) as i64)
}

#[async_trait]
impl TaskStore for Store {
    async fn accept(&self, mut tasks: Vec<Arc<Task>>) -> Result<Vec<Result<Accepted, Refused>>, StoreError> {
        if self.is(Mutant::NoDedupe) {
            tasks.iter_mut().for_each(|task| Arc::make_mut(task).idempotency = None);
        }
        if !self.is(Mutant::AckBeforeCommit) {
            return self.inner.accept(tasks).await;
        }
        let (inner, answers) = (Arc::clone(&self.inner), vec![Ok(Accepted::New); tasks.len()]);
        tokio::spawn(async move {
            tokio::time::sleep(COMMITS_LATER).await;
            // Nobody waits for this any more: that is the fault.
            let _ = inner.accept(tasks).await;
        });
        Ok(answers)
    }

    async fn claim(&self, worker: WorkerId, want: Want, now: Timestamp) -> Result<Vec<Claimed>, StoreError> {
        self.inner.claim(worker, want, now).await
    }

    async fn owned(&self, worker: WorkerId, limit: usize) -> Result<Vec<Lease>, StoreError> {
        self.inner.owned(worker, limit).await
    }

    async fn advance(&self, mut advance: Arc<Advance>) -> Result<Advanced, StoreError> {
        if self.is(Mutant::FloatCost) {
            Arc::make_mut(&mut advance).ledger.iter_mut().for_each(|row| row.cost = row.cost.map(through_floats));
        }
        match self.inner.advance(advance).await {
            Err(StoreError::Fenced) if self.is(Mutant::NoFencing) => Ok(Advanced::default()),
            other => other,
        }
    }

    async fn cancel(&self, task: TaskId, now: Timestamp, outbox: Vec<OutboxMessage>) -> Result<Cancelled, StoreError> {
        self.inner.cancel(task, now, outbox).await
    }

    async fn recover(&self, judge: WorkerId, now: Timestamp, limit: usize) -> Result<Vec<Wake>, StoreError> {
        self.inner.recover(judge, now, limit).await
    }

    async fn due_sessions(&self, now: Timestamp, limit: usize) -> Result<Vec<SessionId>, StoreError> {
        self.inner.due_sessions(now, limit).await
    }

    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        self.inner.next_due(now).await
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, StoreError> {
        self.inner.task(id).await
    }

    async fn tasks(
        &self,
        filter: &TaskFilter,
        before: Option<TaskId>,
        limit: usize,
    ) -> Result<Page<TaskRecord>, StoreError> {
        self.inner.tasks(filter, before, limit).await
    }

    async fn journal(&self, task: TaskId, after: u32, limit: usize) -> Result<Vec<JournalEntry>, StoreError> {
        self.inner.journal(task, after, limit).await
    }

    async fn counts(&self) -> Result<QueueCounts, StoreError> {
        self.inner.counts().await
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.inner.backlog().await
    }
}

#[async_trait]
impl SessionStore for Store {
    async fn claim_session(
        &self,
        worker: WorkerId,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<SessionClaim, StoreError> {
        self.inner.claim_session(worker, session, now).await
    }

    async fn messages(&self, session: &SessionId, after: u64, limit: usize) -> Result<Vec<SessionMessage>, StoreError> {
        self.inner.messages(session, after, limit).await
    }

    async fn session(&self, session: &SessionId) -> Result<Option<SessionView>, StoreError> {
        let cached = || {
            let known = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(session).filter(|(read, _)| read.elapsed() < CACHED).map(|(_, view)| view.clone())
        };
        match cached() {
            Some(view) if self.is(Mutant::UnversionedCache) => return Ok(view),
            _ => {}
        }
        let view = self.inner.session(session).await?;
        let mut known = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(session.clone(), (Instant::now(), view.clone()));
        Ok(view)
    }

    async fn sessions(
        &self,
        agent: Option<&AgentName>,
        before: Option<&SessionId>,
        limit: usize,
    ) -> Result<Page<SessionView>, StoreError> {
        self.inner.sessions(agent, before, limit).await
    }

    async fn delete_session(&self, session: &SessionId) -> Result<bool, StoreError> {
        self.inner.delete_session(session).await
    }
}

#[async_trait]
impl EventStore for Store {
    async fn accept_event(&self, mut incoming: IncomingEvent) -> Result<EventAccepted, StoreError> {
        if self.is(Mutant::NoDedupe) {
            incoming.tasks.iter_mut().for_each(|task| Arc::make_mut(task).idempotency = None);
            let number = self.events.fetch_add(1, Ordering::Relaxed);
            incoming.event.id = format!("{}-{number}", incoming.event.id);
        }
        self.inner.accept_event(incoming).await
    }

    async fn recent_events(&self, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.inner.recent_events(limit).await
    }
}

#[async_trait]
impl OutboxStore for Store {
    async fn claim_outbox(
        &self,
        worker: WorkerId,
        now: Timestamp,
        limit: usize,
        held: &[OutboxId],
    ) -> Result<Vec<PendingMessage>, StoreError> {
        let claimed = self.inner.claim_outbox(worker, now, limit, held).await?;
        if !self.is(Mutant::DropOutbox) {
            return Ok(claimed);
        }
        let sent = claimed.iter().map(|pending| (pending.message.id, Delivery::Sent)).collect();
        self.inner.settle_outbox(sent, now).await?;
        Ok(Vec::new())
    }

    async fn settle_outbox(&self, results: Vec<(OutboxId, Delivery)>, now: Timestamp) -> Result<(), StoreError> {
        self.inner.settle_outbox(results, now).await
    }

    async fn next_outbox(&self) -> Result<Option<Timestamp>, StoreError> {
        self.inner.next_outbox().await
    }
}

#[async_trait]
impl ScheduleStore for Store {
    async fn put_schedules(&self, records: Vec<ScheduleRecord>) -> Result<Vec<ScheduleRecord>, StoreError> {
        self.runs.learn(&records);
        self.inner.put_schedules(records).await
    }

    async fn set_paused(&self, name: &str, paused: bool, now: Timestamp) -> Result<Option<ScheduleRecord>, StoreError> {
        self.inner.set_paused(name, paused, now).await
    }

    async fn delete_schedules(&self, names: &[String]) -> Result<u64, StoreError> {
        self.inner.delete_schedules(names).await
    }

    async fn schedule(&self, name: &str) -> Result<Option<ScheduleRecord>, StoreError> {
        self.inner.schedule(name).await
    }

    async fn schedules(&self, after: Option<&str>, limit: usize) -> Result<Page<ScheduleRecord>, StoreError> {
        self.inner.schedules(after, limit).await
    }

    async fn schedule_revision(&self) -> Result<u64, StoreError> {
        self.inner.schedule_revision().await
    }

    async fn schedules_since(&self, revision: u64) -> Result<ScheduleChanges, StoreError> {
        let changes = self.inner.schedules_since(revision).await?;
        self.runs.learn(&changes.changed);
        Ok(changes)
    }

    async fn fire(&self, mut firings: Vec<Firing>, now: Timestamp) -> Result<Vec<FiringResult>, StoreError> {
        if self.is(Mutant::IntervalFromLastRun) {
            firings.iter_mut().for_each(|firing| self.runs.shift(firing, now));
        }
        self.inner.fire(firings, now).await
    }

    async fn slots(&self, name: &str, limit: usize) -> Result<Vec<SlotRecord>, StoreError> {
        self.inner.slots(name, limit).await
    }

    async fn slots_at(&self, name: &str, slots: &[Timestamp]) -> Result<Vec<SlotRecord>, StoreError> {
        self.inner.slots_at(name, slots).await
    }
}

#[async_trait]
impl FleetStore for Store {
    async fn heartbeat(&self, worker: &WorkerRecord) -> Result<(), StoreError> {
        self.inner.heartbeat(worker).await
    }

    async fn deregister(&self, worker: WorkerId) -> Result<(), StoreError> {
        self.inner.deregister(worker).await
    }

    async fn workers(&self, now: Timestamp) -> Result<Vec<WorkerRecord>, StoreError> {
        self.inner.workers(now).await
    }

    async fn keep_version(&self, spec: &AgentSpec) -> Result<(), StoreError> {
        self.inner.keep_version(spec).await
    }

    async fn version(&self, agent: &AgentName, version: &str) -> Result<Option<AgentSpec>, StoreError> {
        self.inner.version(agent, version).await
    }

    async fn fleet_revision(&self) -> Result<u64, StoreError> {
        self.inner.fleet_revision().await
    }

    async fn fleet_since(&self, revision: u64) -> Result<FleetChanges, StoreError> {
        self.inner.fleet_since(revision).await
    }

    async fn offer_versions(&self, offers: Vec<VersionOffer>, now: Timestamp) -> Result<u64, StoreError> {
        self.inner.offer_versions(offers, now).await
    }

    async fn remove_agents(&self, agents: Vec<AgentName>, now: Timestamp) -> Result<Vec<AgentName>, StoreError> {
        self.inner.remove_agents(agents, now).await
    }

    async fn put_agent_status(&self, statuses: Vec<AgentStatus>) -> Result<(), StoreError> {
        self.inner.put_agent_status(statuses).await
    }

    async fn forget_agents(&self, agents: Vec<AgentName>) -> Result<(), StoreError> {
        self.inner.forget_agents(agents).await
    }

    async fn agent_statuses(&self) -> Result<Vec<AgentStatus>, StoreError> {
        self.inner.agent_statuses().await
    }
}
