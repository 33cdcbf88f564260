//! [`ClarificationStore`] on SQLite: the first resolution wins.

use agentry_core::clarification::{Clarification, Resolution};
use agentry_core::id::{ClarificationId, TaskId};
use agentry_core::journal::JournalBody;
use agentry_core::slack::question_ended;
use agentry_core::task::TaskStatus;
use agentry_core::time::Timestamp;
use agentry_core::wake::Wake;
use async_trait::async_trait;
use rusqlite::{Connection, Row};

use super::db::Db;
use super::failure::Failure;
use super::rows::{collect, first, json_at, json_or_none, mode, page_len, signed, sql_limit, status, to_json};
use super::{SqliteStore, advance, agents, outbox};
use crate::{Answered, ClarificationStore, Page, StoreError};

/// Keeps a question. One that is known already stays as it is.
pub(super) fn insert(db: &Db, task: i64, attempt: u32, question: &Clarification) -> Result<(), Failure> {
    db.sql(
        "INSERT OR IGNORE INTO clarifications (id, task, attempt, expires_at, body, resolution, thread)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((
        question.id.as_bytes(),
        task,
        attempt,
        question.expires_at.0,
        to_json(question)?,
        question.resolution.as_ref().map(to_json).transpose()?,
        question.thread_key(),
    ))?;
    Ok(())
}

/// Whether a task has a question that nobody has resolved.
pub(super) fn any_open(db: &Db, task: i64) -> Result<bool, Failure> {
    Ok(db.sql("SELECT 1 FROM clarifications WHERE task = ?1 AND resolution IS NULL LIMIT 1")?.exists([task])?)
}

/// Ends the open questions of a task; where they were asked is told.
pub(super) fn withdraw(db: &Db, task: i64, resolution: &Resolution) -> Result<(), Failure> {
    let withdrawn = {
        let mut statement = db.sql(
            "UPDATE clarifications SET resolution = ?2 WHERE task = ?1 AND resolution IS NULL RETURNING body, resolution",
        )?;
        collect(&mut statement, (task, to_json(resolution)?), clarification)?
    };
    tell(db, &withdrawn)
}

/// Leaves what the ends of questions must leave behind.
fn tell(db: &Db, ended: &[Clarification]) -> Result<(), Failure> {
    let messages: Vec<_> = ended.iter().filter_map(question_ended).collect();
    outbox::insert_all(db, &messages)
}

fn moment(resolution: &Resolution) -> Timestamp {
    match resolution {
        Resolution::Answered { at, .. }
        | Resolution::Defaulted { at, .. }
        | Resolution::Expired { at }
        | Resolution::Withdrawn { at } => *at,
    }
}

fn resolve(db: &mut Db, id: ClarificationId, resolution: &Resolution) -> Result<Answered, Failure> {
    let found = {
        let mut statement = db.sql("SELECT body, resolution, task, attempt FROM clarifications WHERE id = ?1")?;
        first(&mut statement, [id.as_bytes()], |row| {
            Ok((clarification(row)?, row.get::<_, i64>(2)?, row.get::<_, u32>(3)?))
        })?
    };
    let Some((mut question, task, attempt)) = found else { return Ok(Answered::Unknown) };
    if question.resolution.is_some() {
        return Ok(Answered::AlreadyResolved(Box::new(question)));
    }
    let at = moment(resolution);
    db.sql("UPDATE clarifications SET resolution = ?2 WHERE id = ?1")?
        .execute((id.as_bytes(), to_json(resolution)?))?;
    let entry = JournalBody::Answered { clarification: id, resolution: resolution.clone() };
    advance::append_own(db, task, attempt, &question.scope, at, &entry)?;
    question.resolution = Some(resolution.clone());
    tell(db, std::slice::from_ref(&question))?;
    Ok(Answered::Accepted { clarification: Box::new(question), wake: wake(db, task, at)? })
}

/// Queues a waiting task again when no question of it is open.
fn wake(db: &mut Db, task: i64, at: Timestamp) -> Result<Option<Wake>, Failure> {
    let found = {
        let mut statement = db.sql("SELECT status, id, mode, session FROM tasks WHERE seq = ?1")?;
        first(&mut statement, [task], |row| {
            let woken = Wake::again(TaskId::from_bytes(row.get(1)?), mode(row.get(2)?)?, agents::session_at(row, 3)?);
            Ok((status(row.get(0)?)?, woken))
        })?
    };
    match found {
        Some((TaskStatus::Waiting, woken)) if !any_open(db, task)? => {
            db.sql("UPDATE tasks SET status = 0, ready_at = ?2, delayed = 0 WHERE seq = ?1")?.execute((task, at.0))?;
            db.moved(Some(TaskStatus::Waiting), TaskStatus::Queued);
            Ok(Some(woken))
        }
        _ => Ok(None),
    }
}

/// A question of a row that begins with `body, resolution`.
fn clarification(row: &Row<'_>) -> Result<Clarification, Failure> {
    let mut question: Clarification = json_at(row, 0)?;
    question.resolution = json_or_none(row, 1)?;
    Ok(question)
}

fn page(
    conn: &Connection,
    only_open: bool,
    after: Option<ClarificationId>,
    limit: usize,
) -> Result<Page<Clarification>, Failure> {
    let limit = page_len(limit);
    let mut statement = conn.prepare_cached(
        "SELECT body, resolution FROM clarifications
         WHERE seq > coalesce((SELECT seq FROM clarifications WHERE id = ?1), 0) AND (NOT ?2 OR resolution IS NULL)
         ORDER BY seq LIMIT ?3",
    )?;
    let after = after.map(|id| id.as_bytes().to_vec());
    let mut items = collect(&mut statement, (after, only_open, signed(limit as u64 + 1)), clarification)?;
    let more = items.len() > limit;
    items.truncate(limit);
    Ok(Page { items, more })
}

#[async_trait]
impl ClarificationStore for SqliteStore {
    async fn resolve(&self, id: ClarificationId, resolution: Resolution) -> Result<Answered, StoreError> {
        self.write(3, move |db| resolve(db, id, &resolution)).await
    }

    async fn clarification(&self, id: ClarificationId) -> Result<Option<Clarification>, StoreError> {
        self.read(move |conn| {
            let mut statement = conn.prepare_cached("SELECT body, resolution FROM clarifications WHERE id = ?1")?;
            first(&mut statement, [id.as_bytes()], clarification)
        })
        .await
    }

    async fn clarifications(
        &self,
        only_open: bool,
        after: Option<ClarificationId>,
        limit: usize,
    ) -> Result<Page<Clarification>, StoreError> {
        self.read(move |conn| page(conn, only_open, after, limit)).await
    }

    async fn asked_in(&self, id: ClarificationId, thread: &str) -> Result<(), StoreError> {
        let thread = thread.to_owned();
        self.write(1, move |db| {
            db.sql("UPDATE clarifications SET thread = ?2 WHERE id = ?1")?.execute((id.as_bytes(), &thread))?;
            Ok(())
        })
        .await
    }

    async fn clarifications_in(&self, thread: &str, limit: usize) -> Result<Vec<Clarification>, StoreError> {
        let thread = thread.to_owned();
        self.read(move |conn| {
            let mut statement = conn.prepare_cached(
                "SELECT body, resolution FROM clarifications WHERE thread = ?1 ORDER BY seq DESC LIMIT ?2",
            )?;
            collect(&mut statement, (&thread, sql_limit(limit)), clarification)
        })
        .await
    }

    async fn expired_clarifications(&self, now: Timestamp, limit: usize) -> Result<Vec<Clarification>, StoreError> {
        self.read(move |conn| {
            let mut statement = conn.prepare_cached(
                "SELECT body, resolution FROM clarifications WHERE resolution IS NULL AND expires_at <= ?1
                 ORDER BY expires_at LIMIT ?2",
            )?;
            collect(&mut statement, (now.0, sql_limit(limit)), clarification)
        })
        .await
    }
}
