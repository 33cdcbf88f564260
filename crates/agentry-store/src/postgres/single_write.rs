//! A write by an owner in a transaction of its own: every write that is not batched, or whose refusal needs a reason.

use std::borrow::Cow;

use agentry_core::clarification::Resolution;
use agentry_core::id::WorkerId;
use agentry_core::journal::JournalEntry;
use agentry_core::task::TaskStatus;
use agentry_core::time::Timestamp;
use tokio_postgres::Row;

use super::counts::{self, StatusChanges};
use super::failure::Failure;
use super::pool::{Db, Tries, Tx};
use super::rows::{Params, SqlId, execute, row, rows, signed32};
use super::write::AppendedRows;
use super::{clarifications, dead_letters, outbox, sessions_claim};
use crate::sql::columns::Columns;
use crate::sql::encode::EncodedWrite;
use crate::sql::limits::signed;
use crate::{AdvanceResult, Step, StoreError};

/// Entries of the store's own that may follow those of a write whose answer was lost.
const OWN_ENTRIES: usize = 64;

/// A locked row of `open_tasks`, as far as writes need it.
struct OpenTask {
    status: TaskStatus,
    epoch: u32,
    owner: Option<WorkerId>,
    attempt: u32,
    claimed_at: i64,
    used_us: i64,
    journal: i32,
    questions: i32,
    cancel: bool,
    session: Option<String>,
}

impl OpenTask {
    fn read(row: &Row) -> Result<Self, Failure> {
        Ok(Self {
            status: row.status(0)?,
            epoch: row.count(1)?,
            owner: row.id_or_none(2)?,
            attempt: row.count(3)?,
            claimed_at: row.number(4)?,
            used_us: row.number(5)?,
            journal: row.count(6)?,
            questions: row.count(7)?,
            cancel: row.flag(8)?,
            session: row.plain_or_none(9)?.map(str::to_owned),
        })
    }

    /// Returns whether the last claim is the write's.
    fn is_of(&self, write: &EncodedWrite) -> bool {
        let lease = &write.advance.lease;
        self.epoch == lease.epoch && self.owner == Some(lease.worker)
    }

    fn runs(&self) -> bool {
        self.status == TaskStatus::Running
    }

    fn used(&self, at: Timestamp) -> i64 {
        self.used_us.saturating_add(at.0.saturating_sub(self.claimed_at).max(0))
    }
}

/// Writes as the owner of a task.
pub(super) async fn advance(db: &Db, write: &EncodedWrite, tries: Tries) -> Result<AdvanceResult, Failure> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let open = lock(&tx, write.id()).await?;
    let held = open.as_ref().filter(|open| open.runs() && open.is_of(write));
    if tries.maybe_done
        && let Some(advanced) = earlier_result(&tx, write, open.as_ref()).await?
    {
        return Ok(advanced);
    }
    let task = held.ok_or(StoreError::Fenced)?;
    let session = sessions_claim::fenced(&tx, write).await?;
    let appended = AppendedRows::of([write]);
    append(&tx, write, task, &appended).await?;
    ask(&tx, write, task).await?;
    if let Some(session) = session {
        sessions_claim::append_turn(&tx, session, write, &appended.messages).await?;
    }
    outbox::insert_all(&tx, &write.advance.outbox).await?;
    let requeued = step(&tx, write, task).await?;
    tx.commit().await?;
    Ok(AdvanceResult { cancel_requested: task.cancel, requeued })
}

/// Locks a task, its session first as everywhere; returns `None` when it is not open.
async fn lock(tx: &Tx<'_>, id: SqlId) -> Result<Option<OpenTask>, Failure> {
    let session = "SELECT 1 FROM sessions WHERE id = (SELECT session FROM tasks WHERE id = $1) FOR UPDATE";
    let task = "SELECT status, epoch, owner, attempt, claimed_at, used_us, journal, questions, cancel, session
                FROM open_tasks WHERE id = $1 FOR UPDATE";
    let (session, task) = (tx.prepare_cached(session).await?, tx.prepare_cached(task).await?);
    let id: Params<'_> = &[&id];
    // Polled together, they are sent together; the server runs them one after the other.
    let (locked, open) = tokio::join!(biased; tx.query(&session, id), tx.query(&task, id));
    locked?;
    open?.first().map(OpenTask::read).transpose()
}

/// Returns the result of an earlier try of this write, when its answer was lost; `None` when there was none.
async fn earlier_result(
    tx: &Tx<'_>,
    write: &EncodedWrite,
    open: Option<&OpenTask>,
) -> Result<Option<AdvanceResult>, Failure> {
    let advanced = |cancel, requeued| Some(AdvanceResult { cancel_requested: cancel, requeued });
    Ok(match (&write.advance.step, open) {
        (Step::Finish { outcome, .. }, None) => {
            let sql = "SELECT cancel FROM ended_tasks
                       WHERE id = $1 AND epoch = $2 AND owner = $3 AND status = $4 AND finished_at = $5";
            let lease = &write.advance.lease;
            let (epoch, owner) = (signed32(lease.epoch), SqlId(*lease.worker.as_bytes()));
            let params: Params<'_> = &[&write.id(), &epoch, &owner, &i16::from(outcome.status as u8), &write.at().0];
            row(tx, sql, params, |row| row.flag(0)).await?.and_then(|cancel| advanced(cancel, false))
        }
        (Step::Continue, Some(open)) if open.runs() && open.is_of(write) && is_written(tx, write).await? => {
            advanced(open.cancel, false)
        }
        // Only its owner gives a task back and stays named in its row: recovery removes the name.
        (Step::Retry { .. } | Step::Release | Step::Wait, Some(open)) if !open.runs() && open.is_of(write) => {
            advanced(open.cancel, write.advance.step == Step::Wait && open.status == TaskStatus::Queued)
        }
        _ => None,
    })
}

/// Returns whether the entries of a write are in the journal, in a row. A write without entries is never found:
/// whatever else it holds may be written twice without harm, except a turn, which is looked for.
async fn is_written(tx: &Tx<'_>, write: &EncodedWrite) -> Result<bool, Failure> {
    let (entries, bodies) = (&write.advance.journal, &write.journal);
    if entries.is_empty() {
        return sessions_claim::is_written(tx, write).await;
    }
    let sql = "SELECT at, body FROM journal WHERE task = $1 ORDER BY seq DESC LIMIT $2";
    let params: Params<'_> = &[&write.id(), &signed((entries.len() + OWN_ENTRIES) as u64)];
    let mut kept = rows(tx, sql, params, |row| Ok((row.number(0)?, row.plain(1)?.to_owned()))).await?;
    kept.reverse();
    let same =
        |((at, body), (entry, text)): (&(i64, String), (&JournalEntry, &String))| *at == entry.at.0 && body == text;
    Ok(kept.windows(entries.len()).any(|window| window.iter().zip(entries.iter().zip(bodies)).all(same)))
}

/// Appends to journal and ledger.
async fn append(
    tx: &Tx<'_>,
    write: &EncodedWrite,
    task: &OpenTask,
    appended: &AppendedRows<'_>,
) -> Result<(), Failure> {
    let j = &appended.journal;
    if !j.n.is_empty() {
        let sql = "INSERT INTO journal (task, seq, attempt, at, scope, body)
                   SELECT $1, $2 + j.n, j.attempt, j.at, j.scope, j.body
                   FROM unnest($3::integer[], $4::integer[], $5::bigint[], $6::text[], $7::text[])
                       AS j (n, attempt, at, scope, body)";
        execute(tx, sql, &[&write.id(), &task.journal, &j.n, &j.attempt, &j.at, &j.scope, &j.body]).await?;
    }
    let l = &appended.ledger;
    if !l.call.is_empty() {
        let sql =
            "INSERT INTO ledger (task, call, at, input, cached, output, reasoning, cost, duration_us, status, agent,
                       provider, model, cache_write, cache_write_1h, provider_call)
                   SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
                       $7::bigint[], $8::bigint[], $9::bigint[], $10::smallint[], $11::text[], $12::text[], $13::text[],
                       $14::bigint[], $15::bigint[], $16::text[])
                   ON CONFLICT DO NOTHING";
        execute(tx, sql, &l.params()).await?;
    }
    Ok(())
}

/// Inserts the questions of a write, under the attempt of the entry that asked.
async fn ask(tx: &Tx<'_>, write: &EncodedWrite, task: &OpenTask) -> Result<(), Failure> {
    for question in &write.advance.clarifications {
        let attempt = write.advance.attempt_of(question, task.attempt);
        clarifications::insert(tx, write.task(), attempt, question).await?;
    }
    Ok(())
}

/// Applies the transition. Returns true when the task no longer waits, because its answers were already there.
async fn step(tx: &Tx<'_>, write: &EncodedWrite, task: &OpenTask) -> Result<bool, Failure> {
    let at = write.at();
    match &write.advance.step {
        Step::Continue => place(tx, write, task, &NextState::running(task)).await?,
        Step::Finish { .. } => finish(tx, write, task).await?,
        Step::Retry { at: ready_at } => {
            let attempt = task.attempt.saturating_add(1);
            requeue(tx, write, task, &NextState { attempt, used_us: 0, ..NextState::queued(task, *ready_at, at) })
                .await?;
        }
        Step::Release => requeue(tx, write, task, &NextState::queued(task, at, at)).await?,
        Step::Wait => {
            let asked = task.questions > 0 || !write.advance.clarifications.is_empty();
            let answered = !asked || !clarifications::has_open(tx, write.task()).await?;
            let queued = NextState::queued(task, at, at);
            let place = if answered { queued } else { NextState { status: TaskStatus::Waiting, lane: 2, ..queued } };
            requeue(tx, write, task, &place).await?;
            return Ok(answered);
        }
    }
    Ok(false)
}

/// State of a task after a write that does not end it.
struct NextState {
    status: TaskStatus,
    attempt: u32,
    used_us: i64,
    /// `None` leaves it as before.
    ready_at: Option<i64>,
    lane: i16,
}

impl NextState {
    fn running(task: &OpenTask) -> Self {
        Self { status: TaskStatus::Running, attempt: task.attempt, used_us: task.used_us, ready_at: None, lane: 0 }
    }

    fn queued(task: &OpenTask, ready_at: Timestamp, now: Timestamp) -> Self {
        Self {
            status: TaskStatus::Queued,
            attempt: task.attempt,
            used_us: task.used(now),
            ready_at: Some(ready_at.0),
            lane: i16::from(ready_at > now),
        }
    }
}

async fn place(tx: &Tx<'_>, write: &EncodedWrite, task: &OpenTask, place: &NextState) -> Result<(), Failure> {
    let sql =
        "UPDATE open_tasks SET status = $2, attempt = $3, used_us = $4, ready_at = coalesce($5, ready_at), lane = $6,
                   version = coalesce(version, $7), journal = $8, questions = $9
               WHERE id = $1";
    let journal = task.journal + i32::try_from(write.advance.journal.len()).unwrap_or(i32::MAX);
    let questions = task.questions + i32::try_from(write.advance.clarifications.len()).unwrap_or(i32::MAX);
    let params: Params<'_> = &[
        &write.id(),
        &i16::from(place.status as u8),
        &signed32(place.attempt),
        &place.used_us,
        &place.ready_at,
        &place.lane,
        &write.version(),
        &journal,
        &questions,
    ];
    execute(tx, sql, params).await.map(drop)
}

/// Ends the claim without ending the task; its session, if any, has no owner until the next claim.
async fn requeue(tx: &Tx<'_>, write: &EncodedWrite, task: &OpenTask, to: &NextState) -> Result<(), Failure> {
    place(tx, write, task, to).await?;
    if let Some(session) = &task.session {
        sessions_claim::release(tx, session).await?;
    }
    let waits = to.status == TaskStatus::Waiting;
    counts::add(tx, StatusChanges { queued: i64::from(!waits), running: -1, waiting: i64::from(waits) }).await
}

async fn finish(tx: &Tx<'_>, write: &EncodedWrite, task: &OpenTask) -> Result<(), Failure> {
    let Step::Finish { outcome, dead_letter } = &write.advance.step else { return Ok(()) };
    let at = write.at();
    let end = TaskEnd {
        status: outcome.status,
        at,
        used_us: task.used(at),
        cancel: task.cancel,
        owner: task.owner,
        version: write.version(),
        outcome: write.outcome.as_deref().unwrap_or_default(),
    };
    store_end(tx, write.id(), &end).await?;
    if task.questions > 0 || !write.advance.clarifications.is_empty() {
        clarifications::withdraw(tx, write.task(), &Resolution::Withdrawn { at }).await?;
    }
    if *dead_letter {
        dead_letters::insert_task(tx, write.task(), outcome, at).await?;
    }
    counts::add(tx, StatusChanges { running: -1, ..StatusChanges::default() }).await
}

/// End of a task.
pub(super) struct TaskEnd<'a> {
    pub(super) status: TaskStatus,
    pub(super) at: Timestamp,
    pub(super) used_us: i64,
    pub(super) cancel: bool,
    pub(super) owner: Option<WorkerId>,
    pub(super) version: Option<Cow<'a, str>>,
    pub(super) outcome: &'a str,
}

/// Moves a task from the open to the ended ones. The caller holds the lock of its row.
pub(super) async fn store_end(tx: &Tx<'_>, id: SqlId, end: &TaskEnd<'_>) -> Result<(), Failure> {
    let sql = "WITH t AS (DELETE FROM open_tasks WHERE id = $1 RETURNING *)
               INSERT INTO ended_tasks (id, owner, ready_at, started_at, finished_at, used_us, attempt, epoch, recoveries,
                   status, cancel, version, outcome)
               SELECT id, $2, ready_at, started_at, $3, $4, attempt, epoch, recoveries, $5, $6, coalesce(version, $7), $8
               FROM t";
    let params: Params<'_> = &[
        &id,
        &end.owner.map(|owner| SqlId(*owner.as_bytes())),
        &end.at.0,
        &end.used_us,
        &i16::from(end.status as u8),
        &end.cancel,
        &end.version,
        &end.outcome,
    ];
    execute(tx, sql, params).await.map(drop)
}
