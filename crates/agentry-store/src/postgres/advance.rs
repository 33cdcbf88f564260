//! Writes by owners, in batches: one statement checks the leases, changes the tasks, and appends the rows of those whose
//! lease is valid. The others are written one by one ([`super::single_write`]), which finds out why.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use agentry_core::id::TaskId;
use agentry_core::journal::JournalBody;
use agentry_core::task::Outcome;
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::batch::BatchKind;
use super::failure::Failure;
use super::pool::{Db, Tries};
use super::rows::{SqlId, execute, query, signed32};
use super::write::{AppendedRows, Shape};
use super::{PostgresStore, single_write, text};
use crate::sql::columns::{Columns, to_json};
use crate::sql::encode::EncodedWrite;
use crate::sql::limits::signed;
use crate::{Advance, AdvanceResult, Step, StoreError};

/// Appends rows for the tasks `held (id, journal)`; parameters 1 to 26 are those of [`Params::new`].
macro_rules! append {
    () => {
        ", j AS (
             INSERT INTO journal (task, seq, attempt, at, scope, body)
             SELECT h.id, h.journal + j.n, j.attempt, j.at, j.scope, j.body
             FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::bigint[], $5::text[], $6::text[])
                 AS j (task, n, attempt, at, scope, body) JOIN held h ON h.id = j.task
         ), l AS (
             INSERT INTO ledger (task, call, at, input, cached, output, reasoning, cost, duration_us, status, agent,
                 provider, model, cache_write, cache_write_1h, provider_call)
             SELECT l.* FROM unnest($7::uuid[], $8::uuid[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[],
                     $13::bigint[], $14::bigint[], $15::bigint[], $16::smallint[], $17::text[], $18::text[], $19::text[],
                     $20::bigint[], $21::bigint[], $22::text[])
                 AS l (task, call, at, input, cached, output, reasoning, cost, duration_us, status, agent, provider,
                     model, cache_write, cache_write_1h, provider_call) JOIN held h ON h.id = l.task
             ON CONFLICT DO NOTHING
         ), o AS (
             INSERT INTO outbox (id, ready_at, attempt, message)
             SELECT o.id, o.ready_at, 0, o.message
             FROM unnest($23::uuid[], $24::uuid[], $25::bigint[], $26::text[]) AS o (id, task, ready_at, message)
                 JOIN held h ON h.id = o.task
             ON CONFLICT DO NOTHING
         )"
    };
}

/// Adds ended tasks `held` to the counters and to `ended_tasks`.
macro_rules! end {
    () => {
        ", e AS (
             INSERT INTO ended_tasks (id, owner, ready_at, started_at, finished_at, used_us, attempt, epoch, recoveries,
                 status, cancel, version, outcome)
             SELECT id, owner, ready_at, started_at, at, used_us + greatest(0, at - claimed_at), attempt, epoch,
                 recoveries, ended_as, cancel, coalesce(version, named), outcome FROM held
         ), counted AS (
             INSERT INTO counters AS c (pid, queued, running, waiting)
             SELECT pg_backend_pid(), 0, -count(*), 0 FROM held HAVING count(*) > 0
             ON CONFLICT (pid) DO UPDATE SET running = c.running + excluded.running
         )"
    };
}

/// The columns of `held` that [`end`] needs.
macro_rules! ended {
    () => {
        "t.id, t.owner, t.ready_at, t.started_at, t.claimed_at, t.used_us, t.attempt, t.epoch, t.recoveries, t.cancel,
         t.version, t.journal, i.at, i.named, i.ended_as, i.outcome"
    };
}

const STEP: &str = concat!(
    "WITH held AS (
         UPDATE open_tasks t SET journal = t.journal + i.entries, version = coalesce(t.version, i.named)
         FROM unnest($27::uuid[], $28::integer[], $29::uuid[], $30::text[], $31::integer[])
             AS i (id, epoch, owner, named, entries)
         WHERE t.id = ANY($27) AND t.id = i.id AND t.status = 1 AND t.epoch = i.epoch AND t.owner = i.owner
         RETURNING t.id, t.journal - i.entries AS journal, t.cancel
     )",
    append!(),
    " SELECT id, cancel FROM held"
);

/// Tasks that asked questions end in a single write, because open questions must be withdrawn.
const END: &str = concat!(
    "WITH held AS (
         DELETE FROM open_tasks t
         USING unnest($27::uuid[], $28::integer[], $29::uuid[], $30::text[], $31::bigint[], $32::smallint[],
             $33::text[]) AS i (id, epoch, owner, named, at, ended_as, outcome)
         WHERE t.id = ANY($27) AND t.id = i.id AND t.status = 1 AND t.epoch = i.epoch AND t.owner = i.owner
             AND t.questions = 0
         RETURNING ",
    ended!(),
    ")",
    append!(),
    end!(),
    " SELECT id, cancel FROM held"
);

/// Like [`END`], with a turn of a session each. Sessions are locked before tasks, as by claims.
const TURN: &str = concat!(
    "WITH fenced AS MATERIALIZED (
         SELECT s.id, s.seq, s.messages FROM sessions s
             JOIN unnest($34::text[], $35::bigint[], $29::uuid[]) AS f (session, fence, owner) ON f.session = s.id
         WHERE s.id = ANY($34) AND s.fence = f.fence AND s.owner = f.owner
         ORDER BY s.id FOR UPDATE OF s
     ), held AS (
         DELETE FROM open_tasks t
         USING unnest($27::uuid[], $28::integer[], $29::uuid[], $30::text[], $31::bigint[], $32::smallint[],
             $33::text[], $34::text[], $36::integer[], $37::text[])
             AS i (id, epoch, owner, named, at, ended_as, outcome, session, count, summary), fenced f
         WHERE t.id = ANY($27) AND t.id = i.id AND t.status = 1 AND t.epoch = i.epoch AND t.owner = i.owner
             AND t.questions = 0 AND f.id = i.session
         RETURNING ",
    ended!(),
    ", f.seq AS session_seq, f.messages AS said, i.session, i.count, i.summary
     ), turned AS (
         UPDATE sessions s SET messages = s.messages + h.count, turns = s.turns + 1,
             summary = coalesce(h.summary, s.summary), updated_at = h.at
         FROM held h WHERE s.id = ANY($34) AND s.id = h.session
     ), m AS (
         INSERT INTO messages (session, number, task, at, body)
         SELECT h.session_seq, h.said + m.n, h.id, h.at, m.body
         FROM unnest($38::uuid[], $39::bigint[], $40::text[]) AS m (task, n, body) JOIN held h ON h.id = m.task
     )",
    append!(),
    end!(),
    " SELECT id, cancel FROM held"
);

/// Result of a write in a batch.
pub(super) enum BatchResult {
    /// The write is committed.
    Done(AdvanceResult),
    /// Its lease was not valid, or it must be written alone. This try wrote nothing of it.
    Alone(Tries),
}

/// Batches of writes after which tasks continue.
pub(super) enum StepBatch {}
/// Batches of writes that end tasks.
pub(super) enum EndBatch {}
/// Batches of writes that end tasks with turns of sessions.
pub(super) enum TurnBatch {}

type Writes = [Arc<EncodedWrite>];

#[async_trait]
impl BatchKind for StepBatch {
    type Item = Arc<EncodedWrite>;
    type Answer = BatchResult;
    type Key = TaskId;

    fn rows(item: &Arc<EncodedWrite>) -> usize {
        item.rows()
    }

    fn key(item: &Arc<EncodedWrite>) -> Option<TaskId> {
        Some(item.task())
    }

    async fn run(db: &Db, items: &Writes, tries: Tries) -> Result<Vec<BatchResult>, Failure> {
        // A step that may have been written still has a valid lease: each must look for its own entries.
        if tries.maybe_done {
            return Ok(items.iter().map(|_| BatchResult::Alone(tries)).collect());
        }
        let (sorted, appended) = sorted(items);
        let mut params = Params::new(&appended);
        let leases = Leases::new(&sorted);
        let entries: Vec<i32> = sorted.iter().map(|write| count(write.advance.journal.len())).collect();
        leases.add_to(&mut params);
        params.0.push(&entries);
        let rows = query(&db.batch_conn().await?, STEP, &params.0).await?;
        answers(items, &rows, tries)
    }
}

#[async_trait]
impl BatchKind for EndBatch {
    type Item = Arc<EncodedWrite>;
    type Answer = BatchResult;
    type Key = TaskId;

    fn rows(item: &Arc<EncodedWrite>) -> usize {
        item.rows()
    }

    fn key(item: &Arc<EncodedWrite>) -> Option<TaskId> {
        Some(item.task())
    }

    async fn run(db: &Db, items: &Writes, tries: Tries) -> Result<Vec<BatchResult>, Failure> {
        end(db, items, tries, false).await
    }
}

#[async_trait]
impl BatchKind for TurnBatch {
    type Item = Arc<EncodedWrite>;
    type Answer = BatchResult;
    type Key = String;

    fn rows(item: &Arc<EncodedWrite>) -> usize {
        item.rows()
    }

    fn key(item: &Arc<EncodedWrite>) -> Option<String> {
        item.advance.session.as_ref().map(|session| session.session.to_string())
    }

    async fn run(db: &Db, items: &Writes, tries: Tries) -> Result<Vec<BatchResult>, Failure> {
        end(db, items, tries, true).await
    }
}

/// Ends tasks, with a turn of a session each or without.
async fn end(db: &Db, items: &Writes, tries: Tries, with_turns: bool) -> Result<Vec<BatchResult>, Failure> {
    let (sorted, appended) = sorted(items);
    let turns = || sorted.iter().filter_map(|write| write.advance.session.as_ref());
    let sessions: Vec<Cow<'_, str>> = turns().map(|turn| text::escape(turn.session.as_str())).collect();
    let fences: Vec<i64> = turns().map(|turn| signed(turn.fence)).collect();
    let counts: Vec<i32> = turns().map(|turn| count(turn.messages.len())).collect();
    let summaries: Vec<Option<&str>> = sorted.iter().map(|write| write.summary.as_deref()).collect();
    let mut params = Params::new(&appended);
    let (leases, outcomes) = (Leases::new(&sorted), Outcomes::new(&sorted));
    leases.add_to(&mut params);
    outcomes.add_to(&mut params);
    if with_turns {
        params.0.extend([&sessions as &(dyn ToSql + Sync), &fences, &counts, &summaries]);
        params.0.extend(appended.messages.params());
    }
    let rows = query(&db.batch_conn().await?, if with_turns { TURN } else { END }, &params.0).await?;
    db.ended.fetch_add(rows.len() as u64, Ordering::Relaxed);
    answers(items, &rows, tries)
}

/// Sorts writes by task id, the order in which every batch locks tasks.
fn sorted(items: &Writes) -> (Vec<&EncodedWrite>, AppendedRows<'_>) {
    let mut sorted: Vec<&EncodedWrite> = items.iter().map(|write| &**write).collect();
    sorted.sort_unstable_by_key(|write| write.task());
    let appended = AppendedRows::of(sorted.iter().copied());
    (sorted, appended)
}

fn count(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}

/// Parameters of a batch.
struct Params<'a>(Vec<&'a (dyn ToSql + Sync)>);

impl<'a> Params<'a> {
    /// Returns parameters 1 to 26.
    fn new(appended: &'a AppendedRows<'a>) -> Self {
        let AppendedRows { journal, ledger, outbox, .. } = appended;
        Self([journal.params(), ledger.params(), outbox.params()].concat())
    }
}

/// Leases of the writes, and the agent versions they run on: parameters 27 to 30.
struct Leases<'a> {
    ids: Vec<SqlId>,
    epochs: Vec<i32>,
    owners: Vec<SqlId>,
    versions: Vec<Option<Cow<'a, str>>>,
}

impl<'a> Leases<'a> {
    fn new(writes: &[&'a EncodedWrite]) -> Self {
        let leases = || writes.iter().map(|write| &write.advance.lease);
        Self {
            ids: leases().map(|lease| SqlId(*lease.task.as_bytes())).collect(),
            epochs: leases().map(|lease| signed32(lease.epoch)).collect(),
            owners: leases().map(|lease| SqlId(*lease.worker.as_bytes())).collect(),
            versions: writes.iter().map(|write| write.version()).collect(),
        }
    }

    fn add_to<'p>(&'p self, params: &mut Params<'p>) {
        params.0.extend([&self.ids as &(dyn ToSql + Sync), &self.epochs, &self.owners, &self.versions]);
    }
}

/// Outcomes of the tasks: parameters 31 to 33.
struct Outcomes<'a> {
    ats: Vec<i64>,
    statuses: Vec<i16>,
    outcomes: Vec<Option<&'a str>>,
}

impl<'a> Outcomes<'a> {
    fn new(writes: &[&'a EncodedWrite]) -> Self {
        let status = |write: &&EncodedWrite| match &write.advance.step {
            Step::Finish { outcome: Outcome { status, .. }, .. } => i16::from(*status as u8),
            // Never sent: only ends come here, and the column rejects a row without an outcome.
            _ => -1,
        };
        Self {
            ats: writes.iter().map(|write| write.at().0).collect(),
            statuses: writes.iter().map(status).collect(),
            outcomes: writes.iter().map(|write| write.outcome.as_deref()).collect(),
        }
    }

    fn add_to<'p>(&'p self, params: &mut Params<'p>) {
        params.0.extend([&self.ats as &(dyn ToSql + Sync), &self.statuses, &self.outcomes]);
    }
}

/// Returns the results in the order of the items, from rows `id, cancel` of those with a valid lease.
fn answers(items: &Writes, rows: &[Row], tries: Tries) -> Result<Vec<BatchResult>, Failure> {
    let read = |row: &Row| Ok::<_, Failure>((row.id::<TaskId>(0)?, row.flag(1)?));
    let held = rows.iter().map(read).collect::<Result<std::collections::HashMap<_, _>, _>>()?;
    let answer = |write: &Arc<EncodedWrite>| match held.get(&write.task()) {
        Some(cancel) => BatchResult::Done(AdvanceResult { cancel_requested: *cancel, requeued: false }),
        None => BatchResult::Alone(tries),
    };
    Ok(items.iter().map(answer).collect())
}

/// Writes as the owner of a task.
pub(super) async fn advance(store: &PostgresStore, advance: Arc<Advance>) -> Result<AdvanceResult, StoreError> {
    let write = Arc::new(EncodedWrite::new(advance)?);
    let batched = match write.shape() {
        Shape::Step => store.batches.steps.call(Arc::clone(&write)).await?,
        Shape::End => store.batches.ends.call(Arc::clone(&write)).await?,
        Shape::Turn => store.batches.turns.call(Arc::clone(&write)).await?,
        Shape::Alone => BatchResult::Alone(Tries::default()),
    };
    match batched {
        BatchResult::Done(advanced) => Ok(advanced),
        BatchResult::Alone(before) => {
            let db = &*store.db;
            db.retrying(|tries| single_write::advance(db, &write, tries.or(before))).await
        }
    }
}

/// Appends an entry of the store's own to the journal of an open task, at its end. The caller holds the lock of its
/// row.
pub(super) async fn append_own(
    client: &impl GenericClient,
    task: TaskId,
    attempt: u32,
    scope: &str,
    at: Timestamp,
    body: &JournalBody,
) -> Result<(), Failure> {
    let sql = "WITH t AS (UPDATE open_tasks SET journal = journal + 1 WHERE id = $1 RETURNING journal)
               INSERT INTO journal (task, seq, attempt, at, scope, body) SELECT $1, journal, $2, $3, $4, $5 FROM t";
    let (task, scope, body) = (SqlId(*task.as_bytes()), text::escape(scope), to_json(body)?);
    execute(client, sql, &[&task, &signed32(attempt), &at.0, &scope, &body]).await.map(drop)
}
