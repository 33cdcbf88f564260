//! The traits of the port that are not cached: what they read changes, and nothing would prove a copy current. (Of keys a
//! server keeps its own copy, for seconds.)

use agentry_core::event::Event;
use agentry_core::id::{OutboxId, WorkerId};
use agentry_core::schedule::ScheduleRecord;
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use super::CachedStore;
use crate::{
    Delivery, EventAccepted, EventStore, Firing, FiringResult, IncomingEvent, OutboxStore, Page, PendingMessage,
    ScheduleChanges, ScheduleStore, SlotRecord, StoreError,
};

crate::forward!(
    CachedStore: AccessStore, BudgetStore, ClarificationStore, DeadLetterStore, PulseStore, RetentionStore, UsageStore,
);

#[async_trait]
impl ScheduleStore for CachedStore {
    async fn put_schedules(&self, records: Vec<ScheduleRecord>) -> Result<Vec<ScheduleRecord>, StoreError> {
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
        self.inner.schedules_since(revision).await
    }

    async fn fire(&self, firings: Vec<Firing>, now: Timestamp) -> Result<Vec<FiringResult>, StoreError> {
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
impl EventStore for CachedStore {
    async fn accept_event(&self, incoming: IncomingEvent) -> Result<EventAccepted, StoreError> {
        self.inner.accept_event(incoming).await
    }

    async fn recent_events(&self, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.inner.recent_events(limit).await
    }
}

#[async_trait]
impl OutboxStore for CachedStore {
    async fn claim_outbox(
        &self,
        worker: WorkerId,
        now: Timestamp,
        limit: usize,
        held: &[OutboxId],
    ) -> Result<Vec<PendingMessage>, StoreError> {
        self.inner.claim_outbox(worker, now, limit, held).await
    }

    async fn settle_outbox(&self, results: Vec<(OutboxId, Delivery)>, now: Timestamp) -> Result<(), StoreError> {
        self.inner.settle_outbox(results, now).await
    }

    async fn next_outbox(&self) -> Result<Option<Timestamp>, StoreError> {
        self.inner.next_outbox().await
    }
}
