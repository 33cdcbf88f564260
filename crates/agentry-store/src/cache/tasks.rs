//! [`TaskStore`] behind the cache: tasks that have ended are facts.

use std::sync::Arc;

use agentry_core::id::{TaskId, WorkerId};
use agentry_core::journal::JournalEntry;
use agentry_core::outbox::OutboxMessage;
use agentry_core::task::TaskRecord;
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::bounded::Bounded;
use super::stats::{Answer, Kind};
use super::{CachedStore, proofs, sessions};
use crate::layer::TaskLayer;
use crate::{Advance, Advanced, Cancelled, Claimed, MAX_PAGE, Step, StoreError, Want};

/// Tasks of which this process remembers whether they had ended.
const MAX_SEEN: usize = 20_000;

/// What this process last knew of a task.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It had not ended: asking Redis would be in vain, as a rule.
    Open,
    /// It has ended, for good.
    Ended,
}

/// What this process last knew of tasks.
pub(super) type Seen = Bounded<TaskId, Known>;

pub(super) fn seen() -> Seen {
    Bounded::new(MAX_SEEN)
}

/// A page of a journal as it is kept.
#[derive(Serialize, Deserialize, PartialEq)]
struct Entries {
    task: TaskId,
    entries: Vec<JournalEntry>,
}

impl CachedStore {
    /// Remembers where a task stands; an end is never forgotten for something older.
    fn saw(&self, task: TaskId, known: Known) {
        self.seen.update(&task, |before| (before != Some(&Known::Ended)).then_some(known));
    }

    /// A task from the store; filled in when it has ended.
    async fn task_from_store(&self, id: TaskId) -> Result<Option<TaskRecord>, StoreError> {
        let record = self.inner.task(id).await?;
        if let Some(record) = &record {
            if record.status.is_terminal() {
                self.saw(id, Known::Ended);
                self.fill(self.keys.task(id), record);
            } else {
                self.saw(id, Known::Open);
            }
        }
        Ok(record)
    }
}

#[async_trait]
impl TaskLayer for CachedStore {
    /// Tasks that come without their body are about to be read: they have not ended.
    async fn claim(&self, worker: WorkerId, want: Want, now: Timestamp) -> Result<Vec<Claimed>, StoreError> {
        let claimed = self.inner.claim(worker, want, now).await?;
        claimed.iter().filter(|one| one.task.is_none()).for_each(|one| self.saw(one.lease.task, Known::Open));
        Ok(claimed)
    }

    async fn advance(&self, advance: Arc<Advance>) -> Result<Advanced, StoreError> {
        let lease = advance.lease;
        let (finishes, ends) = (matches!(advance.step, Step::Finish { .. }), proofs::ends(&advance));
        let turn = sessions::Appended::of(self, &advance);
        let advanced = self.inner.advance(advance).await?;
        if ends && self.turns.end(&lease) && finishes {
            turn.into_iter().for_each(|turn| turn.fill(self));
        }
        if finishes {
            self.saw(lease.task, Known::Ended);
        }
        Ok(advanced)
    }

    async fn cancel(&self, task: TaskId, now: Timestamp, outbox: Vec<OutboxMessage>) -> Result<Cancelled, StoreError> {
        let cancelled = self.inner.cancel(task, now, outbox).await?;
        if matches!(cancelled, Cancelled::Ended | Cancelled::AlreadyEnded(_)) {
            self.saw(task, Known::Ended);
        }
        Ok(cancelled)
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, StoreError> {
        if self.seen.get(&id, |known| *known) == Some(Known::Open) {
            self.counters.read(Kind::Task, Answer::Bypass);
            return self.task_from_store(id).await;
        }
        let fits = |record: &TaskRecord| record.task.id == id && record.status.is_terminal();
        match self.lookup(Kind::Task, &self.keys.task(id), fits).await {
            Some(record) => {
                self.saw(id, Known::Ended);
                Ok(Some(record))
            }
            None => self.task_from_store(id).await,
        }
    }

    /// Cached when this process knows, before it reads, that the task has ended.
    async fn journal(&self, task: TaskId, after: u32, limit: usize) -> Result<Vec<JournalEntry>, StoreError> {
        if self.seen.get(&task, |known| *known) != Some(Known::Ended) {
            self.counters.read(Kind::Journal, Answer::Bypass);
            return self.inner.journal(task, after, limit).await;
        }
        let key = self.keys.journal(task, after, limit.min(MAX_PAGE));
        let fits = |page: &Entries| page.task == task;
        if let Some(page) = self.lookup(Kind::Journal, &key, fits).await {
            return Ok(page.entries);
        }
        let page = Entries { task, entries: self.inner.journal(task, after, limit).await? };
        self.fill(key, &page);
        Ok(page.entries)
    }
}
