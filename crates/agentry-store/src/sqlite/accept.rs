//! Acceptance of submissions: durable, bounded, once per idempotency key.

use std::time::Duration;

use agentry_core::id::TaskId;
use agentry_core::task::{IdempotencyKey, TaskStatus};
use agentry_core::time::Timestamp;
use rusqlite::Connection;

use super::db::Db;
use super::failure::Failure;
use super::rows::{micros, row};
use crate::sql::columns::Columns;
use crate::sql::encode::EncodedTask;
use crate::{AcceptError, Acceptance, StoreError};

/// Retention of idempotency keys in microseconds (24 h by the port).
const KEY_LIFE_US: i64 = 24 * 3_600 * 1_000_000;
/// Retry delay for a full queue: one or two worker slots are free by then.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Returns the error of a full queue.
pub(super) fn full(db: &Db) -> StoreError {
    StoreError::Full { what: "the task queue", bound: db.max_queued, retry_after: RETRY_AFTER }
}

/// Returns whether the queue can take `more` tasks.
pub(super) fn has_room(db: &Db, more: usize) -> bool {
    db.counts.queued.saturating_add(more as u64) <= db.max_queued
}

/// Accepts one task, or returns the reason for a refusal.
pub(super) fn accept(db: &mut Db, submission: &EncodedTask) -> Result<Result<Acceptance, AcceptError>, Failure> {
    let task = &submission.task;
    if let Some(IdempotencyKey { key, fingerprint }) = &submission.task.idempotency
        && let Some((kept, first)) = find_key(&db.conn, key, task.created_at)?
    {
        let same = kept == fingerprint.cast_signed();
        return Ok(if same { Ok(Acceptance::Duplicate(first)) } else { Err(AcceptError::KeyReused(first)) });
    }
    if !has_room(db, 1) {
        return Ok(Err(AcceptError::Store(full(db))));
    }
    if !insert(db, submission)? {
        return Ok(Ok(Acceptance::Duplicate(task.id)));
    }
    if let Some(IdempotencyKey { key, fingerprint }) = &submission.task.idempotency {
        db.execute(
            "INSERT OR REPLACE INTO idempotency (key, fingerprint, task, created_at) VALUES (?1, ?2, ?3, ?4)",
            (key, fingerprint.cast_signed(), task.id.as_bytes(), task.created_at.0),
        )?;
    }
    Ok(Ok(Acceptance::New))
}

/// Returns the fingerprint and task of a key that has not expired.
pub(super) fn find_key(conn: &Connection, key: &str, now: Timestamp) -> Result<Option<(i64, TaskId)>, Failure> {
    let sql = "SELECT fingerprint, task, created_at FROM idempotency WHERE key = ?1";
    let known = row(conn, sql, [key], |row| Ok((row.number(0)?, row.id(1)?, row.number(2)?)))?;
    let young = known.filter(|(_, _, created_at)| micros(*created_at, now) < KEY_LIFE_US);
    Ok(young.map(|(fingerprint, task, _)| (fingerprint, task)))
}

/// Inserts the rows of a task. Returns false when a task of this id exists.
fn insert(db: &mut Db, submission: &EncodedTask) -> Result<bool, Failure> {
    let task = &submission.task;
    let agent = db.name(task.agent.as_str())?;
    let created = task.created_at.0;
    let ready_at = task.not_before.map_or(created, |at| at.0);
    let inserted = db.execute(
        "INSERT OR IGNORE INTO tasks (id, agent, mode, rank, session, status, delayed, ready_at, attempt, epoch, owner,
             recoveries, version, claimed_at, started_at, finished_at, used_us, cancel, journal, questions)
         VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, 1, 0, zeroblob(16), 0, 0, ?8, ?8, ?8, 0, 0, 0, 0)",
        (
            task.id.as_bytes(),
            agent,
            task.mode as u8,
            2 - task.priority as u8,
            task.session.as_ref().map(agentry_core::session::SessionId::as_str),
            ready_at > created,
            ready_at,
            created,
        ),
    )?;
    if inserted == 0 {
        return Ok(false);
    }
    let seq = db.conn.last_insert_rowid();
    db.execute("INSERT INTO task_bodies (seq, body) VALUES (?1, ?2)", (seq, &submission.body))?;
    db.count_transition(None, TaskStatus::Queued);
    Ok(true)
}
