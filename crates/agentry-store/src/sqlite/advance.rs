//! A write by the owner of a task: everything in it, or nothing when the lease is stale.

use agentry_core::clarification::Resolution;
use agentry_core::id::WorkerId;
use agentry_core::journal::{JournalBody, JournalEntry};
use agentry_core::money::LedgerRow;
use agentry_core::task::{Outcome, TaskStatus};
use agentry_core::time::Timestamp;

use super::db::Db;
use super::failure::Failure;
use super::rows::{micros, row, value};
use super::{clarifications, dead_letters, outbox, sessions};
use crate::sql::columns::{Columns, to_json};
use crate::sql::encode::EncodedWrite;
use crate::sql::limits::signed;
use crate::{AdvanceResult, Lease, Step, StoreError};

/// State of a task that a write needs.
pub(super) struct OwnedTask {
    pub(super) seq: i64,
    pub(super) attempt: u32,
    claimed_at: i64,
    used_us: i64,
    version: i64,
    cancel: bool,
    pub(super) journal: u32,
    pub(super) questions: i64,
}

/// Writes as the owner of a task.
///
/// Entries continue the journal: they are numbered here, in order, because the store may have appended one of its own
/// meanwhile (an answer, a recovery). The caller's numbers are not used.
pub(super) fn advance(db: &mut Db, write: &EncodedWrite) -> Result<AdvanceResult, Failure> {
    let advance = &write.advance;
    let mut task = owned(db, &advance.lease)?.ok_or(StoreError::Fenced)?;
    let session = match &advance.session {
        Some(session) => Some(sessions::fenced(db, session, advance.lease.worker)?.ok_or(StoreError::Fenced)?),
        None => None,
    };
    // Nothing was written before this line, and nothing is refused after it.
    append(db, task.seq, &mut task.journal, &advance.journal, &write.journal)?;
    add_ledger(db, &task, &advance.ledger)?;
    for clarification in &advance.clarifications {
        let attempt = advance.attempt_of(clarification, task.attempt);
        clarifications::insert(db, task.seq, attempt, clarification)?;
        task.questions += 1;
    }
    if let Some(at) = session {
        sessions::append(db, at, write)?;
    }
    for (message, body) in advance.outbox.iter().zip(&write.outbox) {
        outbox::insert(db, message.id, message.created_at, body)?;
    }
    if let Some(version) = &advance.agent_version
        && task.version == 0
    {
        task.version = db.name(version)?;
    }
    let requeued = step(db, write, &task)?;
    Ok(AdvanceResult { cancel_requested: task.cancel, requeued })
}

/// Returns the task of a lease that is valid.
fn owned(db: &Db, lease: &Lease) -> Result<Option<OwnedTask>, Failure> {
    let sql = "SELECT seq, attempt, claimed_at, used_us, version, cancel, journal, questions FROM tasks
               WHERE id = ?1 AND status = 1 AND epoch = ?2 AND owner = ?3";
    row(&db.conn, sql, (lease.task.as_bytes(), lease.epoch, lease.worker.as_bytes()), |row| {
        Ok(OwnedTask {
            seq: row.number(0)?,
            attempt: row.count(1)?,
            claimed_at: row.number(2)?,
            used_us: row.number(3)?,
            version: row.number(4)?,
            cancel: row.flag(5)?,
            journal: row.count(6)?,
            questions: row.number(7)?,
        })
    })
}

const APPEND: &str = "INSERT INTO journal (task, seq, attempt, at, scope, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/// Appends entries after number `last`, which advances.
fn append(db: &Db, task: i64, last: &mut u32, entries: &[JournalEntry], bodies: &[String]) -> Result<(), Failure> {
    for (entry, body) in entries.iter().zip(bodies) {
        *last += 1;
        db.execute(APPEND, (task, *last, entry.attempt, entry.at.0, entry.scope.as_str(), body))?;
    }
    Ok(())
}

/// Appends an entry of the store's own to the journal of a task, at its end.
pub(super) fn append_own(
    db: &Db,
    task: i64,
    attempt: u32,
    scope: &str,
    at: Timestamp,
    body: &JournalBody,
) -> Result<(), Failure> {
    let number: u32 =
        value(&db.conn, "UPDATE tasks SET journal = journal + 1 WHERE seq = ?1 RETURNING journal", [task])?;
    db.execute(APPEND, (task, number, attempt, at.0, scope, to_json(body)?)).map(drop)
}

/// Adds ledger rows; a known call stays unchanged, so that a repeated write costs nothing twice.
fn add_ledger(db: &mut Db, task: &OwnedTask, rows: &[LedgerRow]) -> Result<(), Failure> {
    for row in rows {
        let agent = db.name(row.agent.as_str())?;
        let provider = db.name(row.provider.as_str())?;
        let model = db.name(&row.model)?;
        db.execute(
            "INSERT OR IGNORE INTO ledger (task, call, agent, provider, model, status, input, cached, output, reasoning,
                 cost, at, duration_us, cache_write, cache_write_1h, provider_call)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
            (
                task.seq,
                row.call.as_bytes(),
                agent,
                provider,
                model,
                row.status as u8,
                signed(row.usage.input_tokens),
                signed(row.usage.cached_tokens),
                signed(row.usage.output_tokens),
                signed(row.usage.reasoning_tokens),
                row.cost.map(|cost| cost.0),
                row.at.0,
                signed(row.duration_us),
                signed(row.usage.cache_write_tokens),
                signed(row.usage.cache_write_1h_tokens),
                row.provider_call.as_deref(),
            ),
        )?;
    }
    Ok(())
}

/// Applies the transition. Returns true when the task no longer waits, because its answers were already there.
fn step(db: &mut Db, write: &EncodedWrite, task: &OwnedTask) -> Result<bool, Failure> {
    let advance = &write.advance;
    let used = task.used_us.saturating_add(micros(task.claimed_at, advance.at));
    let here = |status| StateChange { status, attempt: task.attempt, used, ready_at: advance.at };
    match &advance.step {
        Step::Continue => {
            let sql = "UPDATE tasks SET version = ?2, journal = ?3, questions = ?4 WHERE seq = ?1";
            db.execute(sql, (task.seq, task.version, task.journal, task.questions))?;
        }
        Step::Finish { outcome, .. } => finish(db, write, task, used, outcome)?,
        Step::Retry { at } => {
            let place = StateChange { status: TaskStatus::Queued, attempt: task.attempt + 1, used: 0, ready_at: *at };
            requeue(db, task, &place, advance.at)?;
        }
        Step::Release => requeue(db, task, &here(TaskStatus::Queued), advance.at)?,
        Step::Wait => {
            let answered = task.questions == 0 || !clarifications::has_open(db, task.seq)?;
            let to = if answered { TaskStatus::Queued } else { TaskStatus::Waiting };
            requeue(db, task, &here(to), advance.at)?;
            return Ok(answered);
        }
    }
    Ok(false)
}

fn finish(db: &mut Db, write: &EncodedWrite, task: &OwnedTask, used: i64, outcome: &Outcome) -> Result<(), Failure> {
    let at = write.advance.at;
    db.execute(
        "UPDATE tasks SET status = ?2, finished_at = ?3, used_us = ?4, version = ?5, journal = ?6, questions = ?7
         WHERE seq = ?1",
        (task.seq, outcome.status as u8, at.0, used, task.version, task.journal, task.questions),
    )?;
    if let Some(outcome) = &write.outcome {
        store_outcome(db, task.seq, outcome)?;
    }
    if task.questions > 0 {
        clarifications::withdraw(db, task.seq, &Resolution::Withdrawn { at })?;
    }
    if let Step::Finish { dead_letter: true, .. } = write.advance.step {
        dead_letters::insert_task(db, task.seq, outcome, at)?;
    }
    db.count_transition(Some(TaskStatus::Running), outcome.status);
    Ok(())
}

pub(super) fn store_outcome(db: &Db, seq: i64, outcome: &str) -> Result<(), Failure> {
    db.execute("INSERT INTO task_outcomes (seq, outcome) VALUES (?1, ?2)", (seq, outcome)).map(drop)
}

/// State of a task after a claim that did not end it.
struct StateChange {
    status: TaskStatus,
    attempt: u32,
    used: i64,
    ready_at: Timestamp,
}

/// Ends the claim without ending the task; its session, if any, has no owner until the next claim.
fn requeue(db: &mut Db, task: &OwnedTask, to: &StateChange, now: Timestamp) -> Result<(), Failure> {
    let sql = "UPDATE tasks SET status = ?2, attempt = ?3, used_us = ?4, ready_at = ?5, delayed = ?6, version = ?7,
                   journal = ?8, questions = ?9
               WHERE seq = ?1 RETURNING session";
    let (status, delayed) = (to.status as u8, to.ready_at > now);
    let kept = (task.version, task.journal, task.questions);
    let params = (task.seq, status, to.attempt, to.used, to.ready_at.0, delayed, kept.0, kept.1, kept.2);
    let session: Option<String> = value(&db.conn, sql, params)?;
    if let Some(session) = session {
        sessions::release(db, &session)?;
    }
    db.count_transition(Some(TaskStatus::Running), to.status);
    Ok(())
}

/// Ends a task that is not running as cancelled. The caller has checked its status.
pub(super) fn end_idle(
    db: &mut Db,
    seq: i64,
    from: TaskStatus,
    outcome: &Outcome,
    at: Timestamp,
) -> Result<(), Failure> {
    let sql = "UPDATE tasks SET status = ?2, finished_at = ?3, cancel = 1 WHERE seq = ?1 RETURNING questions";
    let questions: i64 = value(&db.conn, sql, (seq, outcome.status as u8, at.0))?;
    store_outcome(db, seq, &to_json(outcome)?)?;
    if questions > 0 {
        clarifications::withdraw(db, seq, &Resolution::Withdrawn { at })?;
    }
    db.count_transition(Some(from), outcome.status);
    Ok(())
}

/// Returns the row and the status of a task.
pub(super) fn find(db: &Db, id: &[u8; 16]) -> Result<Option<(i64, TaskStatus)>, Failure> {
    row(&db.conn, "SELECT seq, status FROM tasks WHERE id = ?1", [id], |row| Ok((row.number(0)?, row.status(1)?)))
}

/// Requeues a running task because its owner died; counts a recovery.
pub(super) fn recover_one(
    db: &mut Db,
    seq: i64,
    owner: WorkerId,
    last_alive: Timestamp,
    now: Timestamp,
) -> Result<(), Failure> {
    let (attempt, session): (u32, Option<String>) = db
        .sql(
            "UPDATE tasks SET status = 0, recoveries = recoveries + 1, ready_at = ?3, delayed = 0,
                 used_us = used_us + max(0, ?2 - claimed_at)
             WHERE seq = ?1 RETURNING attempt, session",
        )?
        .query_row((seq, last_alive.0, now.0), |row| Ok((row.get(0)?, row.get(1)?)))?;
    append_own(db, seq, attempt, "main", now, &JournalBody::Recovered { worker: owner })?;
    if let Some(session) = session {
        sessions::forget_owner(db, &session)?;
    }
    db.count_transition(Some(TaskStatus::Running), TaskStatus::Queued);
    Ok(())
}
