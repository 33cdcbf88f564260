//! [`TaskStore`] behind the cache: ended tasks do not change.

use std::sync::Arc;

use agentry_core::id::{TaskId, WorkerId};
use agentry_core::journal::JournalEntry;
use agentry_core::outbox::OutboxMessage;
use agentry_core::task::TaskRecord;
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::bounded_map::BoundedMap;
use super::stats::{Answer, ReadKind};
use super::{CachedStore, proofs, sessions};
use crate::layer::TaskLayer;
use crate::{Advance, AdvanceResult, CancelResult, ClaimRequest, ClaimedTask, MAX_PAGE, Step, StoreError};

/// Largest number of tasks whose last seen state this process remembers.
const MAX_TASK_STATES: usize = 20_000;

/// Last state of a task that this process has seen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TaskState {
    /// It had not ended, so Redis usually has no entry.
    Open,
    /// It has ended, which is final.
    Ended,
}

/// Last seen states of tasks.
pub(super) type TaskStates = BoundedMap<TaskId, TaskState>;

pub(super) fn seen() -> TaskStates {
    BoundedMap::new(MAX_TASK_STATES)
}

/// An encoded page of a journal.
#[derive(Serialize, Deserialize, PartialEq)]
struct Entries {
    task: TaskId,
    entries: Vec<JournalEntry>,
}

impl CachedStore {
    /// Records the state of a task; an end is never overwritten by an older state.
    fn record_state(&self, task: TaskId, known: TaskState) {
        self.seen.update(&task, |before| (before != Some(&TaskState::Ended)).then_some(known));
    }

    /// Reads a task from the store; fills the cache when it has ended.
    async fn task_from_store(&self, id: TaskId) -> Result<Option<TaskRecord>, StoreError> {
        let record = self.inner.task(id).await?;
        if let Some(record) = &record {
            if record.status.is_terminal() {
                self.record_state(id, TaskState::Ended);
                self.fill(self.keys.task(id), record);
            } else {
                self.record_state(id, TaskState::Open);
            }
        }
        Ok(record)
    }
}

#[async_trait]
impl TaskLayer for CachedStore {
    /// Tasks that come without their body are about to be read: they have not ended.
    async fn claim(
        &self,
        worker: WorkerId,
        request: ClaimRequest,
        now: Timestamp,
    ) -> Result<Vec<ClaimedTask>, StoreError> {
        let claimed = self.inner.claim(worker, request, now).await?;
        claimed
            .iter()
            .filter(|one| one.task.is_none())
            .for_each(|one| self.record_state(one.lease.task, TaskState::Open));
        Ok(claimed)
    }

    async fn advance(&self, advance: Arc<Advance>) -> Result<AdvanceResult, StoreError> {
        let lease = advance.lease;
        let (finishes, ends) = (matches!(advance.step, Step::Finish { .. }), proofs::ends(&advance));
        let turn = sessions::TurnMessages::of(self, &advance);
        let advanced = self.inner.advance(advance).await?;
        if ends && self.turns.end(&lease) && finishes {
            turn.into_iter().for_each(|turn| turn.fill(self));
        }
        if finishes {
            self.record_state(lease.task, TaskState::Ended);
        }
        Ok(advanced)
    }

    async fn cancel(
        &self,
        task: TaskId,
        now: Timestamp,
        outbox: Vec<OutboxMessage>,
    ) -> Result<CancelResult, StoreError> {
        let cancelled = self.inner.cancel(task, now, outbox).await?;
        if matches!(cancelled, CancelResult::Ended | CancelResult::AlreadyEnded(_)) {
            self.record_state(task, TaskState::Ended);
        }
        Ok(cancelled)
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, StoreError> {
        if self.seen.get(&id, |known| *known) == Some(TaskState::Open) {
            self.counters.read(ReadKind::Task, Answer::Bypass);
            return self.task_from_store(id).await;
        }
        let fits = |record: &TaskRecord| record.task.id == id && record.status.is_terminal();
        match self.lookup(ReadKind::Task, &self.keys.task(id), fits).await {
            Some(record) => {
                self.record_state(id, TaskState::Ended);
                Ok(Some(record))
            }
            None => self.task_from_store(id).await,
        }
    }

    /// Cached when this process knows, before it reads, that the task has ended.
    async fn journal(&self, task: TaskId, after: u32, limit: usize) -> Result<Vec<JournalEntry>, StoreError> {
        if self.seen.get(&task, |known| *known) != Some(TaskState::Ended) {
            self.counters.read(ReadKind::Journal, Answer::Bypass);
            return self.inner.journal(task, after, limit).await;
        }
        let key = self.keys.journal(task, after, limit.min(MAX_PAGE));
        let fits = |page: &Entries| page.task == task;
        if let Some(page) = self.lookup(ReadKind::Journal, &key, fits).await {
            return Ok(page.entries);
        }
        let page = Entries { task, entries: self.inner.journal(task, after, limit).await? };
        self.fill(key, &page);
        Ok(page.entries)
    }
}
