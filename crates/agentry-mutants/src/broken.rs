//! A store that breaks one promise and forwards everything else.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use agentry_store::layer::*;
use agentry_store::table::names::*;
use agentry_store::{StateStore, StoreError};
use async_trait::async_trait;

use crate::interval::LastRuns;
use crate::mutant::Mutant;

/// Delay between the acknowledgement of a task and its durability, in which a process may die.
const COMMITS_LATER: Duration = Duration::from_millis(300);
/// Time that a session is read from the cache.
const CACHED: Duration = Duration::from_secs(2);

/// The store of a broken platform.
pub struct Store {
    inner: Arc<dyn StateStore>,
    mutant: Mutant,
    runs: LastRuns,
    /// Number of events so far.
    events: AtomicU64,
    sessions: Mutex<HashMap<SessionId, (Instant, Option<SessionView>)>>,
}

impl Store {
    /// Creates a store with a defect in front of `inner`.
    pub fn new(inner: Arc<dyn StateStore>, mutant: Mutant) -> Self {
        Self { inner, mutant, runs: LastRuns::default(), events: AtomicU64::new(0), sessions: Mutex::default() }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == mutant
    }
}

impl Layer for Store {
    fn inner(&self) -> &dyn StateStore {
        &*self.inner
    }
}

impl AccessLayer for Store {}
impl BudgetLayer for Store {}
impl ClarificationLayer for Store {}
impl DeadLetterLayer for Store {}
impl FleetLayer for Store {}
impl RecentTaskLayer for Store {}
impl RetentionLayer for Store {}
impl UsageLayer for Store {}

/// Converts a cost to single-precision dollars and back.
fn through_floats(cost: NanoUsd) -> NanoUsd {
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "this is the fault")]
    NanoUsd((f64::from(cost.0 as f32 / 1e9) * 1e9) as i64)
}

#[async_trait]
impl TaskLayer for Store {
    async fn accept(&self, mut tasks: Vec<Arc<Task>>) -> Result<Vec<Result<Acceptance, AcceptError>>, StoreError> {
        if self.is(Mutant::NoDedupe) {
            tasks.iter_mut().for_each(|task| Arc::make_mut(task).idempotency = None);
        }
        if !self.is(Mutant::AckBeforeCommit) {
            return self.inner.accept(tasks).await;
        }
        let (inner, answers) = (Arc::clone(&self.inner), vec![Ok(Acceptance::New); tasks.len()]);
        tokio::spawn(async move {
            tokio::time::sleep(COMMITS_LATER).await;
            // The defect: nobody waits for this any more.
            let _ = inner.accept(tasks).await;
        });
        Ok(answers)
    }

    async fn advance(&self, mut advance: Arc<Advance>) -> Result<AdvanceResult, StoreError> {
        if self.is(Mutant::FloatCost) {
            Arc::make_mut(&mut advance).ledger.iter_mut().for_each(|row| row.cost = row.cost.map(through_floats));
        }
        match self.inner.advance(advance).await {
            Err(StoreError::Fenced) if self.is(Mutant::NoFencing) => Ok(AdvanceResult::default()),
            other => other,
        }
    }
}

#[async_trait]
impl SessionLayer for Store {
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
}

#[async_trait]
impl EventLayer for Store {
    async fn accept_event(&self, mut incoming: IncomingEvent) -> Result<EventAcceptance, StoreError> {
        if self.is(Mutant::NoDedupe) {
            incoming.tasks.iter_mut().for_each(|task| Arc::make_mut(task).idempotency = None);
            let number = self.events.fetch_add(1, Ordering::Relaxed);
            incoming.event.id = format!("{}-{number}", incoming.event.id);
        }
        self.inner.accept_event(incoming).await
    }
}

#[async_trait]
impl OutboxLayer for Store {
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
}

#[async_trait]
impl ScheduleLayer for Store {
    async fn put_schedules(&self, records: Vec<ScheduleRecord>) -> Result<Vec<ScheduleRecord>, StoreError> {
        self.runs.learn(&records);
        self.inner.put_schedules(records).await
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
}
