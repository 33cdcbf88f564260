//! [`ClarificationStore`] on SQLite: the first resolution wins.

use agentry_core::clarification::{Clarification, Resolution};
use agentry_core::id::ClarificationId;
use agentry_core::journal::JournalBody;
use agentry_core::slack::question_ended;
use agentry_core::task::TaskStatus;
use agentry_core::time::Timestamp;
use agentry_core::wake::Wake;
use async_trait::async_trait;

use super::db::Db;
use super::failure::Failure;
use super::rows::{exists, row, rows};
use super::{SqliteStore, advance, outbox};
use crate::port::resolved_at;
use crate::sql::columns::{Columns, to_json};
use crate::sql::decode::clarification;
use crate::sql::limits::{one_more, sql_limit};
use crate::{ClarificationStore, Page, ResolveResult, StoreError};

/// Inserts a question. A known one stays unchanged.
pub(super) fn insert(db: &Db, task: i64, attempt: u32, question: &Clarification) -> Result<(), Failure> {
    let resolution = question.resolution.as_ref().map(to_json).transpose()?;
    let (id, body, expires_at) = (question.id.as_bytes(), to_json(question)?, question.expires_at.0);
    db.execute(
        "INSERT OR IGNORE INTO clarifications (id, task, attempt, expires_at, body, resolution, thread)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        (id, task, attempt, expires_at, body, resolution, question.thread_key()),
    )
    .map(drop)
}

/// Returns whether a task has an open question.
pub(super) fn has_open(db: &Db, task: i64) -> Result<bool, Failure> {
    exists(&db.conn, "SELECT 1 FROM clarifications WHERE task = ?1 AND resolution IS NULL LIMIT 1", [task])
}

/// Resolves the open questions of a task and sends the notices of their ends.
pub(super) fn withdraw(db: &Db, task: i64, resolution: &Resolution) -> Result<(), Failure> {
    let sql =
        "UPDATE clarifications SET resolution = ?2 WHERE task = ?1 AND resolution IS NULL RETURNING body, resolution";
    send_notices(db, &rows(&db.conn, sql, (task, to_json(resolution)?), |row| clarification(row))?)
}

/// Puts the notices of ended questions into the outbox.
fn send_notices(db: &Db, ended: &[Clarification]) -> Result<(), Failure> {
    let messages: Vec<_> = ended.iter().filter_map(question_ended).collect();
    outbox::insert_all(db, &messages)
}

fn resolve(db: &mut Db, id: ClarificationId, resolution: &Resolution) -> Result<ResolveResult, Failure> {
    let sql = "SELECT body, resolution, task, attempt FROM clarifications WHERE id = ?1";
    let found = row(&db.conn, sql, [id.as_bytes()], |row| Ok((clarification(row)?, row.number(2)?, row.count(3)?)))?;
    let Some((mut question, task, attempt)) = found else { return Ok(ResolveResult::Unknown) };
    if question.resolution.is_some() {
        return Ok(ResolveResult::AlreadyResolved(Box::new(question)));
    }
    let at = resolved_at(resolution);
    db.execute("UPDATE clarifications SET resolution = ?2 WHERE id = ?1", (id.as_bytes(), to_json(resolution)?))?;
    let entry = JournalBody::Answered { clarification: id, resolution: resolution.clone() };
    advance::append_own(db, task, attempt, &question.scope, at, &entry)?;
    question.resolution = Some(resolution.clone());
    send_notices(db, std::slice::from_ref(&question))?;
    Ok(ResolveResult::Accepted { clarification: Box::new(question), wake: wake(db, task, at)? })
}

/// Queues a waiting task again when it has no open question.
fn wake(db: &mut Db, task: i64, at: Timestamp) -> Result<Option<Wake>, Failure> {
    let found = row(&db.conn, "SELECT status, id, mode, session FROM tasks WHERE seq = ?1", [task], |row| {
        Ok((row.status(0)?, Wake::requeued(row.id(1)?, row.mode(2)?, row.session_or_none(3)?)))
    })?;
    match found {
        Some((TaskStatus::Waiting, woken)) if !has_open(db, task)? => {
            db.execute("UPDATE tasks SET status = 0, ready_at = ?2, delayed = 0 WHERE seq = ?1", (task, at.0))?;
            db.count_transition(Some(TaskStatus::Waiting), TaskStatus::Queued);
            Ok(Some(woken))
        }
        _ => Ok(None),
    }
}

#[async_trait]
impl ClarificationStore for SqliteStore {
    async fn resolve(&self, id: ClarificationId, resolution: Resolution) -> Result<ResolveResult, StoreError> {
        self.write(3, move |db| resolve(db, id, &resolution)).await
    }

    async fn clarification(&self, id: ClarificationId) -> Result<Option<Clarification>, StoreError> {
        let sql = "SELECT body, resolution FROM clarifications WHERE id = ?1";
        self.row(sql, [*id.as_bytes()], |row| clarification(row)).await
    }

    async fn clarifications(
        &self,
        only_open: bool,
        after: Option<ClarificationId>,
        limit: usize,
    ) -> Result<Page<Clarification>, StoreError> {
        let sql = "SELECT body, resolution FROM clarifications
                   WHERE seq > coalesce((SELECT seq FROM clarifications WHERE id = ?1), 0)
                       AND (NOT ?2 OR resolution IS NULL)
                   ORDER BY seq LIMIT ?3";
        let params = (after.map(|id| *id.as_bytes()), only_open, one_more(limit));
        Ok(Page::cut(self.rows(sql, params, |row| clarification(row)).await?, limit))
    }

    async fn set_clarification_thread(&self, id: ClarificationId, thread: &str) -> Result<(), StoreError> {
        let params = (*id.as_bytes(), thread.to_owned());
        self.execute("UPDATE clarifications SET thread = ?2 WHERE id = ?1", params).await.map(drop)
    }

    async fn clarifications_in_thread(&self, thread: &str, limit: usize) -> Result<Vec<Clarification>, StoreError> {
        let sql = "SELECT body, resolution FROM clarifications WHERE thread = ?1 ORDER BY seq DESC LIMIT ?2";
        self.rows(sql, (thread.to_owned(), sql_limit(limit)), |row| clarification(row)).await
    }

    async fn expired_clarifications(&self, now: Timestamp, limit: usize) -> Result<Vec<Clarification>, StoreError> {
        let sql = "SELECT body, resolution FROM clarifications WHERE resolution IS NULL AND expires_at <= ?1
                   ORDER BY expires_at LIMIT ?2";
        self.rows(sql, (now.0, sql_limit(limit)), |row| clarification(row)).await
    }
}
