//! The traits of the port that are not cached: what they read changes, and nothing would prove a copy current.

use agentry_core::agent::AgentName;
use agentry_core::clarification::{Clarification, Resolution};
use agentry_core::event::Event;
use agentry_core::id::{CallId, ClarificationId, DeadLetterId, OutboxId, TaskId, WorkerId};
use agentry_core::money::{LedgerRow, NanoUsd};
use agentry_core::schedule::ScheduleRecord;
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use serde_json::Value;

use super::CachedStore;
use crate::{
    Answered, BudgetStore, CallCursor, ClarificationStore, DeadLetter, DeadLetterStore, Delivery, EventAccepted,
    EventStore, Firing, FiringResult, Horizon, NewTask, OutboxStore, Page, PendingMessage, Reservation, Reserved,
    RetentionStore, ScheduleChanges, ScheduleStore, SlotRecord, StoreError, UsageGroup, UsageRow, UsageStore,
};

#[async_trait]
impl ClarificationStore for CachedStore {
    async fn resolve(&self, id: ClarificationId, resolution: Resolution) -> Result<Answered, StoreError> {
        self.inner.resolve(id, resolution).await
    }

    async fn clarification(&self, id: ClarificationId) -> Result<Option<Clarification>, StoreError> {
        self.inner.clarification(id).await
    }

    async fn clarifications(
        &self,
        only_open: bool,
        after: Option<ClarificationId>,
        limit: usize,
    ) -> Result<Page<Clarification>, StoreError> {
        self.inner.clarifications(only_open, after, limit).await
    }

    async fn asked_in(&self, id: ClarificationId, thread: &str) -> Result<(), StoreError> {
        self.inner.asked_in(id, thread).await
    }

    async fn clarifications_in(&self, thread: &str, limit: usize) -> Result<Vec<Clarification>, StoreError> {
        self.inner.clarifications_in(thread, limit).await
    }

    async fn expired_clarifications(&self, now: Timestamp, limit: usize) -> Result<Vec<Clarification>, StoreError> {
        self.inner.expired_clarifications(now, limit).await
    }
}

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
    async fn accept_event(&self, event: &Event, tasks: Vec<NewTask>) -> Result<EventAccepted, StoreError> {
        self.inner.accept_event(event, tasks).await
    }

    async fn recent_events(&self, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.inner.recent_events(limit).await
    }
}

#[async_trait]
impl BudgetStore for CachedStore {
    async fn reserve(&self, reservation: Reservation) -> Result<Reserved, StoreError> {
        self.inner.reserve(reservation).await
    }

    async fn release(&self, call: CallId) -> Result<(), StoreError> {
        self.inner.release(call).await
    }
}

#[async_trait]
impl RetentionStore for CachedStore {
    async fn prune(&self, horizon: Horizon) -> Result<u64, StoreError> {
        self.inner.prune(horizon).await
    }
}

#[async_trait]
impl OutboxStore for CachedStore {
    async fn claim_outbox(
        &self,
        worker: WorkerId,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<PendingMessage>, StoreError> {
        self.inner.claim_outbox(worker, now, limit).await
    }

    async fn settle_outbox(&self, results: Vec<(OutboxId, Delivery)>, now: Timestamp) -> Result<(), StoreError> {
        self.inner.settle_outbox(results, now).await
    }

    async fn next_outbox(&self) -> Result<Option<Timestamp>, StoreError> {
        self.inner.next_outbox().await
    }
}

#[async_trait]
impl DeadLetterStore for CachedStore {
    async fn dead_letters(
        &self,
        only_open: bool,
        before: Option<DeadLetterId>,
        limit: usize,
    ) -> Result<Page<DeadLetter>, StoreError> {
        self.inner.dead_letters(only_open, before, limit).await
    }

    async fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, StoreError> {
        self.inner.dead_letter(id).await
    }

    async fn edit_dead_letter(&self, id: DeadLetterId, payload: Value) -> Result<bool, StoreError> {
        self.inner.edit_dead_letter(id, payload).await
    }

    async fn replay_dead_letter(
        &self,
        id: DeadLetterId,
        task: Option<NewTask>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.inner.replay_dead_letter(id, task, now).await
    }

    async fn drop_dead_letter(&self, id: DeadLetterId) -> Result<bool, StoreError> {
        self.inner.drop_dead_letter(id).await
    }
}

#[async_trait]
impl UsageStore for CachedStore {
    async fn usage(&self, group: UsageGroup, from: Timestamp, to: Timestamp) -> Result<Vec<UsageRow>, StoreError> {
        self.inner.usage(group, from, to).await
    }

    async fn spent(&self, agent: &AgentName, from: Timestamp, to: Timestamp) -> Result<NanoUsd, StoreError> {
        self.inner.spent(agent, from, to).await
    }

    async fn calls(
        &self,
        from: Timestamp,
        to: Timestamp,
        after: Option<CallCursor>,
        limit: usize,
    ) -> Result<Page<LedgerRow>, StoreError> {
        self.inner.calls(from, to, after, limit).await
    }

    async fn ledger(&self, task: TaskId) -> Result<Vec<LedgerRow>, StoreError> {
        self.inner.ledger(task).await
    }
}
