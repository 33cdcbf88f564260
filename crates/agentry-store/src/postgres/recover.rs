//! Recovery: finds dead workers and requeues their tasks. Workers are declared dead here and nowhere else, see
//! [`crate::liveness`].
//!
//! It starts from the rows of `workers`, because an index of tasks by owner would cost every claim; the open tasks are
//! scanned only when a worker died. A worker that left or died stays in the table as `gone` for an hour, and its tasks
//! are looked for again every [`SWEEP_AGAIN`]: a claim may have been in flight when it was declared dead.

use std::sync::atomic::Ordering;
use std::time::Duration;

use agentry_core::id::WorkerId;
use agentry_core::journal::JournalBody;
use agentry_core::time::Timestamp;
use agentry_core::wake::Wake;
use agentry_core::worker::WorkerRecord;
use tokio_postgres::Row;

use super::PostgresStore;
use super::failure::Failure;
use super::liveness::{server_clock, unlocked};
use super::pool::Db;
use super::rows::{Params, SqlId, execute, query, rows};
use crate::liveness::{GRACE, Heartbeats, Judge, Liveness};
use crate::sql::columns::{Columns, all_to_json};
use crate::sql::limits::sql_limit;

/// Interval at which the tasks of gone workers are looked for again, in seconds.
const SWEEP_AGAIN: f64 = 30.0;
/// Retention of a gone worker's row, in seconds: longer than a process believes it to be registered.
const REMEMBERED: f64 = 3_600.0;

/// Number of tasks that end in this process before the hot table is vacuumed. The server's own vacuum runs once a
/// minute; by then a busy table is mostly dead rows, which every claim of the next tasks has to skip.
const VACUUM_AFTER: u64 = 50_000;

/// Time for which a judge must have held its own lock, and the server must have run, before free locks of others count:
/// terminating all connections frees all locks, and must not count as deaths.
const LOCKS_COUNT_AFTER: Duration = Duration::from_micros(GRACE.unsigned_abs());

/// Selects workers, the server's clock, and whether the server has run long enough to judge them.
const WORKERS: &str = concat!(
    "WITH server AS MATERIALIZED (
         SELECT ",
    server_clock!(),
    " AS now, clock_timestamp() - pg_postmaster_start_time() >= make_interval(secs => $2) AS settled
     ) SELECT id, gone, record, heartbeat_at, steady_since, locked,
         gone AND (swept_at IS NULL OR swept_at < clock_timestamp() - make_interval(secs => $1)) AS due,
         server.now, server.settled
     FROM workers CROSS JOIN server"
);

/// Locks rows of dead workers first: a heartbeat comes before and is seen, or waits until its worker has lost its
/// tasks. Then it locks sessions, then tasks, as everywhere. Rows that are locked by others are skipped until the next
/// recovery.
const RECOVER: &str = "
    WITH dead AS MATERIALIZED (
        SELECT d.* FROM workers w
            JOIN unnest($1::uuid[], $6::bigint[], $2::bigint[], $3::text[]) AS d (owner, heartbeat_at, last_alive, entry)
                ON w.id = d.owner AND w.heartbeat_at = d.heartbeat_at
        WHERE w.id = ANY($1) FOR UPDATE OF w SKIP LOCKED
    ), turns AS MATERIALIZED (
        SELECT id FROM sessions WHERE id = ANY(ARRAY(
            SELECT session FROM open_tasks
            WHERE session IS NOT NULL AND status = 1 AND owner = ANY(ARRAY(SELECT owner FROM dead))
        )) LIMIT $4 FOR UPDATE SKIP LOCKED
    ), picked AS MATERIALIZED (
        SELECT id FROM open_tasks
        WHERE status = 1 AND owner = ANY(ARRAY(SELECT owner FROM dead))
            AND (session IS NULL OR session = ANY(ARRAY(SELECT id FROM turns)))
        LIMIT $4 FOR UPDATE SKIP LOCKED
    ), back AS (
        UPDATE open_tasks t SET status = 0, lane = 0, ready_at = $5, owner = NULL, recoveries = t.recoveries + 1,
            used_us = t.used_us + greatest(0, d.last_alive - t.claimed_at), journal = t.journal + 1
        FROM dead d WHERE t.id = ANY(ARRAY(SELECT id FROM picked)) AND t.status = 1 AND t.owner = d.owner
        RETURNING t.id, t.mode, t.session, t.journal, t.attempt, d.entry
    ), j AS (
        INSERT INTO journal (task, seq, attempt, at, scope, body)
        SELECT id, journal, attempt, $5, 'main', entry FROM back
    ), s AS (
        UPDATE sessions SET held = false, owner = NULL
        WHERE id = ANY(ARRAY(SELECT session FROM back WHERE session IS NOT NULL))
    ), counted AS (
        INSERT INTO counters AS c (pid, queued, running, waiting)
        SELECT pg_backend_pid(), count(*), -count(*), 0 FROM back HAVING count(*) > 0
        ON CONFLICT (pid) DO UPDATE SET queued = c.queued + excluded.queued, running = c.running + excluded.running
    ) SELECT id, mode, session FROM back";

/// Marks dead workers without a heartbeat meanwhile and without remaining tasks.
const GONE: &str = "
    WITH busy AS MATERIALIZED (SELECT DISTINCT owner FROM open_tasks WHERE status = 1 AND owner = ANY($1)),
    dead AS MATERIALIZED (
        SELECT w.id FROM workers w JOIN unnest($1::uuid[], $2::bigint[]) AS d (id, heartbeat_at)
            ON w.id = d.id AND w.heartbeat_at = d.heartbeat_at
        WHERE w.id = ANY($1) AND w.id <> ALL(ARRAY(SELECT owner FROM busy)) FOR UPDATE OF w SKIP LOCKED
    ) UPDATE workers w SET gone = true, gone_at = CASE WHEN w.gone THEN w.gone_at ELSE clock_timestamp() END,
        swept_at = clock_timestamp()
    WHERE w.id = ANY(ARRAY(SELECT id FROM dead))";

/// A worker whose tasks are to be requeued.
struct DeadWorker {
    id: WorkerId,
    heartbeat_at: i64,
    /// Time until which its tasks ran, by the clock that stamped their claims; `None` when it never sent a heartbeat,
    /// or left: then they count as running until now, so that their time is not granted twice.
    last_alive: Option<Timestamp>,
}

/// Declares workers dead and requeues their tasks. Any number of processes may do so at once.
pub(super) async fn recover(
    store: &PostgresStore,
    judge: WorkerId,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<Wake>, Failure> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let db = &*store.db;
    vacuum(db).await;
    let dead = dead(store, judge).await?;
    if dead.is_empty() {
        return Ok(Vec::new());
    }
    let conn = db.conn().await?;
    let ids: Vec<SqlId> = dead.iter().map(|dead| SqlId(*dead.id.as_bytes())).collect();
    let beats: Vec<i64> = dead.iter().map(|dead| dead.heartbeat_at).collect();
    let last_alive: Vec<i64> = dead.iter().map(|dead| dead.last_alive.unwrap_or(now).0).collect();
    let entries: Vec<_> = dead.iter().map(|dead| JournalBody::Recovered { worker: dead.id }).collect();
    let entries = all_to_json(&entries)?;
    let params: Params<'_> = &[&ids, &last_alive, &entries, &sql_limit(limit), &now.0, &beats];
    let recovered =
        rows(&conn, RECOVER, params, |row| Ok(Wake::requeued(row.id(0)?, row.mode(1)?, row.session_or_none(2)?)));
    let recovered = recovered.await?;
    db.room.moved(i64::try_from(recovered.len()).unwrap_or(0));
    if recovered.len() < limit {
        execute(&conn, GONE, &[&ids, &beats]).await?;
        let forget = "DELETE FROM workers WHERE gone AND gone_at < clock_timestamp() - make_interval(secs => $1)";
        execute(&conn, forget, &[&REMEMBERED]).await?;
    }
    Ok(recovered)
}

/// Vacuums the hot table after many tasks have ended, unless another process is doing so. A failure is harmless: the
/// server's own vacuum comes later.
async fn vacuum(db: &Db) {
    if db.ended.load(Ordering::Relaxed) < VACUUM_AFTER {
        return;
    }
    db.ended.store(0, Ordering::Relaxed);
    let vacuum = async { Ok::<_, Failure>(db.conn().await?.batch_execute("VACUUM (SKIP_LOCKED) open_tasks").await?) };
    if let Err(failure) = vacuum.await {
        tracing::warn!(?failure, "PostgreSQL's table `open_tasks` could not be vacuumed");
    }
}

/// A row of `workers`.
struct Worker {
    id: WorkerId,
    gone: bool,
    record: Option<WorkerRecord>,
    heartbeats: Heartbeats,
    locked: bool,
    /// It is gone, and its tasks are to be looked for again.
    due: bool,
}

impl Worker {
    fn read(row: &Row) -> Result<Self, Failure> {
        Ok(Self {
            id: row.id(0)?,
            gone: row.flag(1)?,
            record: row.json_or_none(2)?,
            heartbeats: Heartbeats { last: row.number(3)?, steady_since: row.number(4)? },
            locked: row.flag(5)?,
            due: row.flag(6)?,
        })
    }

    fn into_dead(self) -> DeadWorker {
        let heartbeat_at = self.heartbeats.last;
        // The worker's own clock, as for its claims. Without a record the time is that of its owner's claims, too.
        let sent = self.record.map(|record| record.heartbeat_at);
        let last_alive = sent.or((heartbeat_at != 0).then_some(Timestamp(heartbeat_at)));
        DeadWorker { id: self.id, heartbeat_at, last_alive }
    }
}

/// Returns dead workers, and gone ones whose tasks are due for another look. Workers that deregistered or were never
/// registered need no judgement.
async fn dead(store: &PostgresStore, judge: WorkerId) -> Result<Vec<DeadWorker>, Failure> {
    let conn = store.db.conn().await?;
    let found = query(&conn, WORKERS, &[&SWEEP_AGAIN, &LOCKS_COUNT_AFTER.as_secs_f64()]).await?;
    let workers = found.iter().map(Worker::read).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = found.first() else { return Ok(Vec::new()) };
    let (now, settled) = (first.number(7)?, first.flag(8)?);
    let (mut dead, mut unsure) = (Vec::new(), Vec::new());
    let (own, others): (Vec<Worker>, Vec<Worker>) = workers.into_iter().partition(|worker| worker.id == judge);
    let registered = own.first().filter(|own| settled && !own.gone && own.record.is_some());
    let may_judge = registered.and_then(|own| Judge::new(own.heartbeats, now));
    let locks_count = store.locks.held_for(judge).is_some_and(|held| held >= LOCKS_COUNT_AFTER);
    for worker in others {
        if worker.gone {
            dead.extend(worker.due.then(|| worker.into_dead()));
        } else if worker.record.is_none() {
            dead.push(worker.into_dead());
        } else if let Some(judge) = &may_judge {
            match judge.liveness(worker.heartbeats.last) {
                Liveness::Dead => dead.push(worker.into_dead()),
                Liveness::DeadIfUnlocked if worker.locked && locks_count => unsure.push(worker),
                Liveness::DeadIfUnlocked | Liveness::Alive => {}
            }
        }
    }
    let ids: Vec<WorkerId> = unsure.iter().map(|worker| worker.id).collect();
    let free = unlocked(&conn, &ids).await?;
    dead.extend(unsure.into_iter().filter(|worker| free.contains(&worker.id)).map(Worker::into_dead));
    Ok(dead)
}
