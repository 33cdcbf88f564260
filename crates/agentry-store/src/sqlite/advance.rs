//! A write by the owner of a task: everything in it, or nothing when the lease is stale.

use std::sync::Arc;

use agentry_core::clarification::Resolution;
use agentry_core::id::WorkerId;
use agentry_core::journal::{JournalBody, JournalEntry};
use agentry_core::money::LedgerRow;
use agentry_core::task::{Outcome, TaskStatus};
use agentry_core::time::Timestamp;

use super::db::Db;
use super::failure::Failure;
use super::rows::{first, micros, signed, status, to_json};
use super::{clarifications, dead_letters, outbox, sessions};
use crate::{Advance, Advanced, Lease, Step, StoreError};

/// A write with its JSON columns; serialised by the caller, not by the writer.
pub(super) struct Write {
    pub(super) advance: Arc<Advance>,
    journal: Vec<String>,
    outcome: Option<String>,
}

impl Write {
    /// Writes the JSON columns.
    pub(super) fn new(advance: Arc<Advance>) -> Result<Self, StoreError> {
        let serialise = || {
            let journal = advance.journal.iter().map(|entry| to_json(&entry.body)).collect::<Result<_, _>>()?;
            let outcome = match &advance.step {
                Step::Finish { outcome, .. } => Some(to_json(outcome)?),
                _ => None,
            };
            Ok((journal, outcome))
        };
        let (journal, outcome) = serialise().map_err(|failure: Failure| failure.to_store_error())?;
        Ok(Self { advance, journal, outcome })
    }

    /// About how many rows it writes.
    pub(super) fn weight(&self) -> usize {
        2 + self.advance.journal.len() + self.advance.ledger.len() + self.advance.outbox.len()
    }
}

/// What a write needs to know of its task.
pub(super) struct Owned {
    pub(super) seq: i64,
    pub(super) attempt: u32,
    claimed_at: i64,
    used_us: i64,
    version: i64,
    agent: i64,
    cancel: bool,
    pub(super) journal: u32,
    pub(super) questions: i64,
}

/// Writes as the owner of a task.
///
/// Entries continue the journal: their numbers are given here, in the order of the entries, because the store itself may
/// have appended one meanwhile (an answer, a recovery). The numbers that the caller gave are not used.
pub(super) fn advance(db: &mut Db, write: &Write) -> Result<Advanced, Failure> {
    let advance = &write.advance;
    let mut task = owned(db, &advance.lease)?.ok_or(StoreError::Fenced)?;
    if let Step::Finish { outcome, .. } = &advance.step
        && (!outcome.status.is_terminal() || !TaskStatus::Running.may_become(outcome.status))
    {
        let status = outcome.status;
        return Err(StoreError::Broken(format!("a running task cannot end as {status}")).into());
    }
    let session = match &advance.session {
        Some(session) => Some(sessions::fenced(db, session, advance.lease.worker)?.ok_or(StoreError::Fenced)?),
        None => None,
    };
    // Nothing was written up to here, and nothing is refused from here on.
    append(db, task.seq, &mut task.journal, &advance.journal, &write.journal)?;
    add_ledger(db, &task, &advance.ledger)?;
    for clarification in &advance.clarifications {
        let asked = |entry: &&JournalEntry| matches!(&entry.body, JournalBody::Asked { clarification: id, .. } if *id == clarification.id);
        let attempt = advance.journal.iter().find(asked).map_or(task.attempt, |entry| entry.attempt);
        clarifications::insert(db, task.seq, attempt, clarification)?;
        task.questions += 1;
    }
    if let (Some(session), Some(at)) = (&advance.session, session) {
        sessions::append(db, at, session, advance.lease.task, advance.at)?;
    }
    outbox::insert_all(db, &advance.outbox)?;
    if let Some(version) = &advance.agent_version
        && task.version == 0
    {
        task.version = db.name(version)?;
    }
    let requeued = step(db, write, &task)?;
    Ok(Advanced { cancel_requested: task.cancel, requeued })
}

/// The task of a lease, while the lease holds.
fn owned(db: &Db, lease: &Lease) -> Result<Option<Owned>, Failure> {
    let mut statement = db.sql(
        "SELECT seq, attempt, claimed_at, used_us, version, agent, cancel, journal, questions FROM tasks
         WHERE id = ?1 AND status = 1 AND epoch = ?2 AND owner = ?3",
    )?;
    first(&mut statement, (lease.task.as_bytes(), lease.epoch, lease.worker.as_bytes()), |row| {
        Ok(Owned {
            seq: row.get(0)?,
            attempt: row.get(1)?,
            claimed_at: row.get(2)?,
            used_us: row.get(3)?,
            version: row.get(4)?,
            agent: row.get(5)?,
            cancel: row.get(6)?,
            journal: row.get(7)?,
            questions: row.get(8)?,
        })
    })
}

/// Appends entries after number `last`, which moves on.
fn append(db: &Db, task: i64, last: &mut u32, entries: &[JournalEntry], bodies: &[String]) -> Result<(), Failure> {
    for (entry, body) in entries.iter().zip(bodies) {
        *last += 1;
        db.sql("INSERT INTO journal (task, seq, attempt, at, scope, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute((task, *last, entry.attempt, entry.at.0, entry.scope.as_str(), body))?;
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
    let number: u32 = db
        .sql("UPDATE tasks SET journal = journal + 1 WHERE seq = ?1 RETURNING journal")?
        .query_row([task], |row| row.get(0))?;
    db.sql("INSERT INTO journal (task, seq, attempt, at, scope, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute((
        task,
        number,
        attempt,
        at.0,
        scope,
        to_json(body)?,
    ))?;
    Ok(())
}

/// Adds ledger rows; a call that is known already is left alone, so that a repeated write costs nothing twice.
fn add_ledger(db: &mut Db, task: &Owned, rows: &[LedgerRow]) -> Result<(), Failure> {
    for row in rows {
        let agent = db.name(row.agent.as_str())?;
        let provider = db.name(row.provider.as_str())?;
        let model = db.name(&row.model)?;
        db.sql(
            "INSERT OR IGNORE INTO ledger (task, call, agent, provider, model, status, input, cached, output, reasoning,
                 cost, at, duration_us, cache_write, cache_write_1h, provider_call)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        )?
        .execute((
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
        ))?;
    }
    Ok(())
}

/// Moves the task. True: it waits no longer, because its answers were there already.
fn step(db: &mut Db, write: &Write, task: &Owned) -> Result<bool, Failure> {
    let advance = &write.advance;
    let used = task.used_us.saturating_add(micros(task.claimed_at, advance.at));
    match &advance.step {
        Step::Continue => {
            db.sql("UPDATE tasks SET version = ?2, journal = ?3, questions = ?4 WHERE seq = ?1")?.execute((
                task.seq,
                task.version,
                task.journal,
                task.questions,
            ))?;
        }
        Step::Finish { outcome, dead_letter } => finish(db, write, task, used, outcome, *dead_letter)?,
        Step::Retry { at } => {
            requeue(db, task, TaskStatus::Queued, task.attempt + 1, 0, *at, advance.at)?;
        }
        Step::HandBack => {
            requeue(db, task, TaskStatus::Queued, task.attempt, used, advance.at, advance.at)?;
        }
        Step::Wait => {
            let answered = task.questions == 0 || !clarifications::any_open(db, task.seq)?;
            let to = if answered { TaskStatus::Queued } else { TaskStatus::Waiting };
            requeue(db, task, to, task.attempt, used, advance.at, advance.at)?;
            return Ok(answered);
        }
    }
    Ok(false)
}

fn finish(
    db: &mut Db,
    write: &Write,
    task: &Owned,
    used: i64,
    outcome: &Outcome,
    dead_letter: bool,
) -> Result<(), Failure> {
    let at = write.advance.at;
    db.sql(
        "UPDATE tasks SET status = ?2, finished_at = ?3, used_us = ?4, version = ?5, journal = ?6, questions = ?7
         WHERE seq = ?1",
    )?
    .execute((task.seq, outcome.status as u8, at.0, used, task.version, task.journal, task.questions))?;
    if let Some(outcome) = &write.outcome {
        put_outcome(db, task.seq, outcome)?;
    }
    if task.questions > 0 {
        clarifications::withdraw(db, task.seq, &Resolution::Withdrawn { at })?;
    }
    if dead_letter {
        dead_letters::insert_task(db, task.seq, write.advance.lease.task, task.agent, outcome, at)?;
    }
    db.moved(Some(TaskStatus::Running), outcome.status);
    Ok(())
}

/// Keeps how a task ended.
pub(super) fn put_outcome(db: &Db, seq: i64, outcome: &str) -> Result<(), Failure> {
    db.sql("INSERT INTO task_outcomes (seq, outcome) VALUES (?1, ?2)")?.execute((seq, outcome))?;
    Ok(())
}

/// Ends the claim without ending the task; the session, if there is one, has no owner until the next claim.
fn requeue(
    db: &mut Db,
    task: &Owned,
    to: TaskStatus,
    attempt: u32,
    used: i64,
    ready_at: Timestamp,
    now: Timestamp,
) -> Result<(), Failure> {
    let session: Option<String> = db
        .sql(
            "UPDATE tasks SET status = ?2, attempt = ?3, used_us = ?4, ready_at = ?5, delayed = ?6, version = ?7,
                 journal = ?8, questions = ?9
             WHERE seq = ?1 RETURNING session",
        )?
        .query_row(
            (task.seq, to as u8, attempt, used, ready_at.0, ready_at > now, task.version, task.journal, task.questions),
            |row| row.get(0),
        )?;
    if let Some(session) = session {
        sessions::release(db, &session)?;
    }
    db.moved(Some(TaskStatus::Running), to);
    Ok(())
}

/// Ends a task that nobody runs, as cancelled. The caller has checked its status.
pub(super) fn end_idle(
    db: &mut Db,
    seq: i64,
    from: TaskStatus,
    outcome: &Outcome,
    at: Timestamp,
) -> Result<(), Failure> {
    let questions: i64 = db
        .sql("UPDATE tasks SET status = ?2, finished_at = ?3, cancel = 1 WHERE seq = ?1 RETURNING questions")?
        .query_row((seq, outcome.status as u8, at.0), |row| row.get(0))?;
    put_outcome(db, seq, &to_json(outcome)?)?;
    if questions > 0 {
        clarifications::withdraw(db, seq, &Resolution::Withdrawn { at })?;
    }
    db.moved(Some(from), outcome.status);
    Ok(())
}

/// The status of a task and its row.
pub(super) fn find(db: &Db, id: &[u8; 16]) -> Result<Option<(i64, TaskStatus)>, Failure> {
    let mut statement = db.sql("SELECT seq, status FROM tasks WHERE id = ?1")?;
    first(&mut statement, [id], |row| Ok((row.get(0)?, status(row.get(1)?)?)))
}

/// Queues a running task again because its owner died; counts a recovery.
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
    db.moved(Some(TaskStatus::Running), TaskStatus::Queued);
    Ok(())
}
