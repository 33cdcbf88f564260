//! [`TaskStore`] on PostgreSQL.

use std::sync::Arc;

use agentry_core::id::{TaskId, WorkerId};
use agentry_core::journal::JournalEntry;
use agentry_core::outbox::OutboxMessage;
use agentry_core::session::SessionId;
use agentry_core::task::{Task, TaskRecord};
use agentry_core::time::Timestamp;
use agentry_core::wake::Wake;
use async_trait::async_trait;

use super::claim::TaskClaim;
use super::rows::{SqlId, signed32};
use super::{PostgresStore, accept, advance, cancel, claim, counts, recover, task_list};
use crate::sql::columns::Columns;
use crate::sql::decode;
use crate::sql::encode::EncodedTask;
use crate::sql::limits::sql_limit;
use crate::{
    AcceptError, Acceptance, Advance, AdvanceResult, Backlog, CancelResult, ClaimRequest, ClaimedTask, Lease, Page,
    QueueCounts, StoreError, TaskFilter, TaskStore,
};

#[async_trait]
impl TaskStore for PostgresStore {
    async fn accept(&self, tasks: Vec<Arc<Task>>) -> Result<Vec<Result<Acceptance, AcceptError>>, StoreError> {
        self.batches.accepts.call(EncodedTask::all(tasks)?).await
    }

    async fn task_of_key(&self, key: &str, now: Timestamp) -> Result<Option<(TaskId, u64)>, StoreError> {
        self.db.retrying(|_| accept::task_of_key(&self.db, key, now)).await
    }

    async fn claim(
        &self,
        worker: WorkerId,
        request: ClaimRequest,
        now: Timestamp,
    ) -> Result<Vec<ClaimedTask>, StoreError> {
        match request {
            ClaimRequest::Tasks(tasks) => self.batches.claims.call(TaskClaim { worker, tasks, now }).await,
            ClaimRequest::Next { modes, limit, due_by } => {
                let wanted = claim::Next { worker, modes, limit, due_by: due_by.min(now), now };
                self.db.retrying(|tries| claim::next(&self.db, &wanted, tries)).await
            }
        }
    }

    async fn leases_of(&self, worker: WorkerId, limit: usize) -> Result<Vec<Lease>, StoreError> {
        let sql = "SELECT id, epoch FROM open_tasks WHERE status = 1 AND owner = $1 LIMIT $2";
        let params = (SqlId(*worker.as_bytes()), sql_limit(limit));
        self.db
            .rows(sql, &[&params.0, &params.1], |row| Ok(Lease { task: row.id(0)?, epoch: row.count(1)?, worker }))
            .await
    }

    async fn advance(&self, advance: Arc<Advance>) -> Result<AdvanceResult, StoreError> {
        advance::advance(self, advance).await
    }

    async fn cancel(
        &self,
        task: TaskId,
        now: Timestamp,
        messages: Vec<OutboxMessage>,
    ) -> Result<CancelResult, StoreError> {
        self.db.retrying(|tries| cancel::cancel(&self.db, task, now, &messages, tries)).await
    }

    async fn recover(&self, judge: WorkerId, now: Timestamp, limit: usize) -> Result<Vec<Wake>, StoreError> {
        self.db.retrying(|_| recover::recover(self, judge, now, limit)).await
    }

    async fn due_sessions(&self, now: Timestamp, limit: usize) -> Result<Vec<SessionId>, StoreError> {
        let sql = "SELECT DISTINCT session FROM open_tasks
                   WHERE session IS NOT NULL AND status = 0 AND ready_at <= $1 LIMIT $2";
        self.db.rows(sql, &[&now.0, &sql_limit(limit)], |row| row.session(0)).await
    }

    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT ready_at FROM open_tasks WHERE lane = 1 AND status = 0 AND ready_at > $1
                   ORDER BY ready_at LIMIT 1";
        self.db.row(sql, &[&now.0], |row| row.time(0)).await
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, StoreError> {
        task_list::one(&self.db, id).await
    }

    async fn tasks(
        &self,
        filter: &TaskFilter,
        before: Option<TaskId>,
        limit: usize,
    ) -> Result<Page<TaskRecord>, StoreError> {
        task_list::page(&self.db, filter, before, limit).await
    }

    async fn journal(&self, task: TaskId, after: u32, limit: usize) -> Result<Vec<JournalEntry>, StoreError> {
        let sql =
            "SELECT seq, attempt, scope, at, body FROM journal WHERE task = $1 AND seq > $2 ORDER BY seq LIMIT $3";
        let task = SqlId(*task.as_bytes());
        self.db.rows(sql, &[&task, &signed32(after), &sql_limit(limit)], decode::journal_entry).await
    }

    async fn counts(&self) -> Result<QueueCounts, StoreError> {
        self.db.retrying(|_| async move { counts::read(&self.db.conn().await?).await }).await
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.db.retrying(|_| async move { counts::backlog(&self.db.conn().await?).await }).await
    }
}
