//! [`ClarificationStore`] on PostgreSQL: the first resolution wins.
//!
//! A task's row in `open_tasks` is locked before its questions are changed, here as in an owner's write, so that an
//! answer and the wait for it cannot miss each other.

use agentry_core::clarification::{Clarification, Resolution};
use agentry_core::id::{ClarificationId, TaskId};
use agentry_core::journal::JournalBody;
use agentry_core::slack::question_ended;
use agentry_core::task::TaskStatus;
use agentry_core::time::Timestamp;
use agentry_core::wake::Wake;
use async_trait::async_trait;
use deadpool_postgres::GenericClient;

use super::failure::Failure;
use super::pool::{Db, Tries, Tx};
use super::rows::{Params, SqlId, execute, row, rows, signed32};
use super::{PostgresStore, advance, counts, outbox, text};
use crate::port::resolved_at;
use crate::sql::columns::{Columns, to_json};
use crate::sql::decode;
use crate::sql::limits::sql_limit;
use crate::{ClarificationStore, Page, ResolveResult, StoreError};

/// Inserts a question. A known one stays unchanged.
pub(super) async fn insert(tx: &Tx<'_>, task: TaskId, attempt: u32, question: &Clarification) -> Result<(), Failure> {
    let sql = "INSERT INTO clarifications (id, task, attempt, expires_at, body, resolution, thread)
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING";
    let resolution = question.resolution.as_ref().map(to_json).transpose()?;
    let (id, task) = (SqlId(*question.id.as_bytes()), SqlId(*task.as_bytes()));
    let (body, thread) = (to_json(question)?, question.thread_key());
    let thread = thread.as_deref().map(text::escape);
    let params: Params<'_> = &[&id, &task, &signed32(attempt), &question.expires_at.0, &body, &resolution, &thread];
    execute(tx, sql, params).await.map(drop)
}

/// Returns whether a task has an open question.
pub(super) async fn has_open(tx: &Tx<'_>, task: TaskId) -> Result<bool, Failure> {
    let sql = "SELECT 1 FROM clarifications WHERE task = $1 AND resolution IS NULL LIMIT 1";
    Ok(row(tx, sql, &[&SqlId(*task.as_bytes())], |_| Ok(())).await?.is_some())
}

/// Resolves the open questions of a task and sends the notices of their ends.
pub(super) async fn withdraw(tx: &Tx<'_>, task: TaskId, resolution: &Resolution) -> Result<(), Failure> {
    let sql = "UPDATE clarifications SET resolution = $2 WHERE task = $1 AND resolution IS NULL
               RETURNING body, resolution";
    let params: Params<'_> = &[&SqlId(*task.as_bytes()), &to_json(resolution)?];
    send_notices(tx, &rows(tx, sql, params, decode::clarification).await?).await
}

/// Puts the notices of ended questions into the outbox.
async fn send_notices(tx: &Tx<'_>, ended: &[Clarification]) -> Result<(), Failure> {
    let messages: Vec<_> = ended.iter().filter_map(question_ended).collect();
    outbox::insert_all(tx, &messages).await
}

/// A question as stored.
struct StoredQuestion {
    question: Clarification,
    task: TaskId,
    attempt: u32,
}

async fn find(client: &impl GenericClient, id: ClarificationId) -> Result<Option<StoredQuestion>, Failure> {
    let sql = "SELECT body, resolution, task, attempt FROM clarifications WHERE id = $1";
    row(client, sql, &[&SqlId(*id.as_bytes())], |row| {
        Ok(StoredQuestion { question: decode::clarification(row)?, task: row.id(2)?, attempt: row.count(3)? })
    })
    .await
}

/// The task that asked, under the lock of its row.
struct AskingTask {
    status: TaskStatus,
    recovered: Wake,
}

/// Locks the task's row; returns `None` when the task has ended.
async fn lock_asker(tx: &Tx<'_>, task: TaskId) -> Result<Option<AskingTask>, Failure> {
    let sql = "SELECT status, mode, session FROM open_tasks WHERE id = $1 FOR UPDATE";
    row(tx, sql, &[&SqlId(*task.as_bytes())], |row| {
        let recovered = Wake::requeued(task, row.mode(1)?, row.session_or_none(2)?);
        Ok(AskingTask { status: row.status(0)?, recovered })
    })
    .await
}

async fn resolve(
    db: &Db,
    id: ClarificationId,
    resolution: &Resolution,
    tries: Tries,
) -> Result<ResolveResult, Failure> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let Some(StoredQuestion { mut question, task, attempt }) = find(&tx, id).await? else {
        return Ok(ResolveResult::Unknown);
    };
    let asker = match question.resolution {
        // Resolved for good, so no lock is needed.
        Some(_) => None,
        None => lock_asker(&tx, task).await?,
    };
    let sql = "UPDATE clarifications SET resolution = $2 WHERE id = $1 AND resolution IS NULL";
    let won = match &asker {
        Some(_) => execute(&tx, sql, &[&SqlId(*id.as_bytes()), &to_json(resolution)?]).await? == 1,
        None => false,
    };
    let Some(asker) = asker.filter(|_| won) else { return already_resolved(&tx, id, resolution, tries).await };
    let at = resolved_at(resolution);
    let entry = JournalBody::Answered { clarification: id, resolution: resolution.clone() };
    advance::append_own(&tx, task, attempt, &question.scope, at, &entry).await?;
    question.resolution = Some(resolution.clone());
    send_notices(&tx, std::slice::from_ref(&question)).await?;
    let wake = wake(&tx, asker, at).await?;
    tx.commit().await?;
    Ok(ResolveResult::Accepted { clarification: Box::new(question), wake })
}

/// Queues a waiting task again when it has no open question.
async fn wake(tx: &Tx<'_>, asker: AskingTask, at: Timestamp) -> Result<Option<Wake>, Failure> {
    let task = asker.recovered.task;
    if asker.status != TaskStatus::Waiting || has_open(tx, task).await? {
        return Ok(None);
    }
    let sql = "UPDATE open_tasks SET status = 0, lane = 0, ready_at = $2 WHERE id = $1";
    execute(tx, sql, &[&SqlId(*task.as_bytes()), &at.0]).await?;
    counts::add(tx, counts::StatusChanges { queued: 1, waiting: -1, ..Default::default() }).await?;
    Ok(Some(asker.recovered))
}

/// Returns the answer when the question was resolved before, by another resolution or by an earlier try of this one.
async fn already_resolved(
    tx: &Tx<'_>,
    id: ClarificationId,
    own: &Resolution,
    tries: Tries,
) -> Result<ResolveResult, Failure> {
    let Some(kept) = find(tx, id).await? else { return Ok(ResolveResult::Unknown) };
    let question = Box::new(kept.question);
    match &question.resolution {
        None => Err(Failure::Data(format!("question {id} is open, but its task {} has ended", kept.task))),
        Some(first) if tries.maybe_done && first == own => {
            // A wake is a hint: one too many is harmless.
            let asker = lock_asker(tx, kept.task).await?;
            let wake = asker.filter(|asker| asker.status == TaskStatus::Queued).map(|asker| asker.recovered);
            Ok(ResolveResult::Accepted { clarification: question, wake })
        }
        Some(_) => Ok(ResolveResult::AlreadyResolved(question)),
    }
}

#[async_trait]
impl ClarificationStore for PostgresStore {
    async fn resolve(&self, id: ClarificationId, resolution: Resolution) -> Result<ResolveResult, StoreError> {
        self.db.retrying(|tries| resolve(&self.db, id, &resolution, tries)).await
    }

    async fn clarification(&self, id: ClarificationId) -> Result<Option<Clarification>, StoreError> {
        self.db.retrying(|_| async move { Ok(find(&self.db.conn().await?, id).await?.map(|kept| kept.question)) }).await
    }

    async fn clarifications(
        &self,
        only_open: bool,
        after: Option<ClarificationId>,
        limit: usize,
    ) -> Result<Page<Clarification>, StoreError> {
        // A literal and not a parameter, so that the planner can use the partial index.
        let open = if only_open { " AND resolution IS NULL" } else { "" };
        let sql = format!("SELECT body, resolution FROM clarifications WHERE id > $1{open} ORDER BY id LIMIT $2");
        // No id is nil, and every id is greater.
        let after = SqlId(after.map_or([0; 16], |id| *id.as_bytes()));
        self.db.page(&sql, &[&after], limit, decode::clarification).await
    }

    async fn set_clarification_thread(&self, id: ClarificationId, thread: &str) -> Result<(), StoreError> {
        let sql = "UPDATE clarifications SET thread = $2 WHERE id = $1";
        self.db.execute(sql, &[&SqlId(*id.as_bytes()), &text::escape(thread)]).await.map(drop)
    }

    async fn clarifications_in_thread(&self, thread: &str, limit: usize) -> Result<Vec<Clarification>, StoreError> {
        let sql = "SELECT body, resolution FROM clarifications WHERE thread = $1 ORDER BY id DESC LIMIT $2";
        self.db.rows(sql, &[&text::escape(thread), &sql_limit(limit)], decode::clarification).await
    }

    async fn expired_clarifications(&self, now: Timestamp, limit: usize) -> Result<Vec<Clarification>, StoreError> {
        let sql = "SELECT body, resolution FROM clarifications WHERE resolution IS NULL AND expires_at <= $1
                   ORDER BY expires_at LIMIT $2";
        self.db.rows(sql, &[&now.0, &sql_limit(limit)], decode::clarification).await
    }
}
