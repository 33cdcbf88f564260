//! [`TaskStore`] on SQLite.

use std::sync::Arc;

use agentry_core::id::{TaskId, WorkerId};
use agentry_core::journal::JournalEntry;
use agentry_core::outbox::OutboxMessage;
use agentry_core::session::SessionId;
use agentry_core::task::{ErrorCode, Outcome, Task, TaskError, TaskRecord, TaskStatus};
use agentry_core::time::Timestamp;
use agentry_core::wake::Wake;
use async_trait::async_trait;
use rusqlite::Row;

use super::{SqliteStore, accept, advance, claim, outbox, recover, task_list};
use crate::sql::columns::Columns;
use crate::sql::encode::EncodedTask;
use crate::sql::encode::EncodedWrite;
use crate::sql::limits::sql_limit;
use crate::{
    AcceptError, Acceptance, Advance, AdvanceResult, Backlog, CancelResult, ClaimRequest, ClaimedTask, Lease, Page,
    QueueCounts, StoreError, TaskFilter, TaskStore,
};

#[async_trait]
impl TaskStore for SqliteStore {
    async fn accept(&self, tasks: Vec<Arc<Task>>) -> Result<Vec<Result<Acceptance, AcceptError>>, StoreError> {
        let submissions = EncodedTask::all(tasks)?;
        self.write(submissions.len(), move |db| {
            submissions.iter().map(|submission| accept::accept(db, submission)).collect()
        })
        .await
    }

    async fn task_of_key(&self, key: &str, now: Timestamp) -> Result<Option<(TaskId, u64)>, StoreError> {
        let key = key.to_owned();
        let known = self.read(move |conn| accept::find_key(conn, &key, now)).await?;
        Ok(known.map(|(fingerprint, task)| (task, fingerprint.cast_unsigned())))
    }

    async fn claim(
        &self,
        worker: WorkerId,
        request: ClaimRequest,
        now: Timestamp,
    ) -> Result<Vec<ClaimedTask>, StoreError> {
        let weight = match &request {
            ClaimRequest::Tasks(tasks) => tasks.len(),
            ClaimRequest::Next { limit, .. } => *limit,
        };
        self.write_relaxed(weight, move |db| match &request {
            ClaimRequest::Tasks(tasks) => claim::tasks(db, worker, tasks, now),
            ClaimRequest::Next { modes, limit, due_by } => claim::next(db, worker, *modes, *limit, *due_by, now),
        })
        .await
    }

    async fn leases_of(&self, worker: WorkerId, limit: usize) -> Result<Vec<Lease>, StoreError> {
        let sql = "SELECT id, epoch FROM tasks WHERE status = 1 AND owner = ?1 LIMIT ?2";
        let read = move |row: &Row<'_>| Ok(Lease { task: row.id(0)?, epoch: row.count(1)?, worker });
        self.rows(sql, (*worker.as_bytes(), sql_limit(limit)), read).await
    }

    async fn advance(&self, advance: Arc<Advance>) -> Result<AdvanceResult, StoreError> {
        let write = EncodedWrite::new(advance)?;
        self.write(write.rows(), move |db| advance::advance(db, &write)).await
    }

    async fn cancel(
        &self,
        task: TaskId,
        now: Timestamp,
        messages: Vec<OutboxMessage>,
    ) -> Result<CancelResult, StoreError> {
        self.write(4, move |db| {
            let Some((seq, status)) = advance::find(db, task.as_bytes())? else { return Ok(CancelResult::Unknown) };
            match status {
                TaskStatus::Queued | TaskStatus::Waiting => {
                    let error = TaskError::new(ErrorCode::Cancelled, format!("cancelled while {status}"));
                    advance::end_idle(db, seq, status, &Outcome::from_error(error), now)?;
                    outbox::insert_all(db, &messages)?;
                    Ok(CancelResult::Ended)
                }
                TaskStatus::Running => {
                    db.execute("UPDATE tasks SET cancel = 1 WHERE seq = ?1", [seq])?;
                    Ok(CancelResult::Requested)
                }
                ended => Ok(CancelResult::AlreadyEnded(ended)),
            }
        })
        .await
    }

    async fn recover(&self, judge: WorkerId, now: Timestamp, limit: usize) -> Result<Vec<Wake>, StoreError> {
        self.write(limit.min(crate::MAX_PAGE), move |db| recover::recover(db, judge, now, limit)).await
    }

    async fn due_sessions(&self, now: Timestamp, limit: usize) -> Result<Vec<SessionId>, StoreError> {
        let sql = "SELECT DISTINCT session FROM tasks INDEXED BY tasks_inbox
                   WHERE session IS NOT NULL AND status < 3 AND status = 0 AND ready_at <= ?1 LIMIT ?2";
        self.rows(sql, (now.0, sql_limit(limit)), |row| row.session(0)).await
    }

    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT ready_at FROM tasks WHERE status = 0 AND delayed = 1 AND ready_at > ?1
                   ORDER BY ready_at LIMIT 1";
        self.row(sql, [now.0], |row| row.time(0)).await
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, StoreError> {
        self.read(move |conn| task_list::one(conn, id)).await
    }

    async fn tasks(
        &self,
        filter: &TaskFilter,
        before: Option<TaskId>,
        limit: usize,
    ) -> Result<Page<TaskRecord>, StoreError> {
        let filter = filter.clone();
        self.read(move |conn| task_list::page(conn, &filter, before, limit)).await
    }

    async fn journal(&self, task: TaskId, after: u32, limit: usize) -> Result<Vec<JournalEntry>, StoreError> {
        self.read(move |conn| task_list::journal(conn, task, after, limit)).await
    }

    async fn counts(&self) -> Result<QueueCounts, StoreError> {
        Ok(self.published())
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.read(task_list::backlog).await
    }
}
