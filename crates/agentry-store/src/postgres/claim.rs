//! Claims: a compare-and-set on the status; the loser gets nothing.
//!
//! A claim does not wait for the disk: its owner's next write does and makes the claim durable too, because the log is
//! flushed in order. When a crash of the server (or a fail-over) undoes a claim that nothing was written after, the
//! task is queued again as if it had never been claimed, and nothing outside the process can have followed from the
//! claim: a provider call is journaled first, and that write waits. Then either
//! - another worker claims it: the same epoch, another owner, so further writes of the first owner are refused; or
//! - the same worker claims it: the very same lease, under which only one execution runs in a process (the
//!   orchestrator's `running.rs`); or
//! - nobody has claimed it yet: the row has no owner, and the first owner's next write is refused.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentry_core::agent::ModeSet;
use agentry_core::id::{TaskId, WorkerId};
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use deadpool_postgres::GenericClient;
use tokio::time::Instant;
use tokio_postgres::Row;

use super::batch::BatchKind;
use super::failure::Failure;
use super::liveness::lock_key;
use super::pool::{Db, Tries};
use super::rows::{Params, SqlId, execute, query};
use crate::sql::columns::Columns;
use crate::sql::limits::sql_limit;
use crate::{ClaimedTask, Lease};

/// Time that a worker counts as registered in this process after it was seen to be: less than the retention of a dead
/// worker's row, so that a worker that was frozen for long registers again before it claims.
const REGISTERED_FOR: Duration = Duration::from_secs(600);

/// A condition that is always true and makes the statement's commit not wait for the disk.
macro_rules! relaxed {
    () => {
        "(SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL"
    };
}

/// Adds claimed tasks `taken` to the counters.
macro_rules! count_taken {
    () => {
        "INSERT INTO counters AS c (pid, queued, running, waiting)
         SELECT pg_backend_pid(), -count(*), count(*), 0 FROM taken HAVING count(*) > 0
         ON CONFLICT (pid) DO UPDATE SET queued = c.queued + excluded.queued, running = c.running + excluded.running"
    };
}
pub(super) use count_taken;

const CLAIM: &str = concat!(
    "WITH taken AS (
         UPDATE open_tasks t SET status = 1, lane = 0, epoch = t.epoch + 1, owner = i.owner, claimed_at = i.now,
             started_at = CASE WHEN t.epoch = 0 THEN i.now ELSE t.started_at END
         FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS i (id, owner, now)
         WHERE t.id = ANY($1) AND t.id = i.id AND t.status = 0 AND t.session IS NULL AND t.ready_at <= i.now AND ",
    relaxed!(),
    " RETURNING t.id, t.owner, t.epoch, t.attempt, t.recoveries, t.used_us, t.version
     ), counted AS (",
    count_taken!(),
    ") SELECT * FROM taken"
);

/// Selects the tasks that an earlier try of the same claim took, when its answer was lost.
const CLAIMED_BEFORE: &str = "
    SELECT t.id, t.owner, t.epoch, t.attempt, t.recoveries, t.used_us, t.version FROM open_tasks t
    JOIN unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS i (id, owner, now) ON t.id = i.id
    WHERE t.id = ANY($1) AND t.status = 1 AND t.owner = i.owner AND t.claimed_at = i.now";

/// Moves delayed tasks that are due to the ready lane. A crash that undoes it is harmless, because the next claim
/// repeats it; so it does not wait for the disk.
const PROMOTE: &str = concat!(
    "UPDATE open_tasks SET lane = 0 WHERE id = ANY(ARRAY(
        SELECT id FROM open_tasks WHERE lane = 1 AND ready_at <= $1 ORDER BY ready_at LIMIT 1000
        FOR UPDATE SKIP LOCKED
    )) AND ",
    relaxed!()
);

/// Takes the next tasks of some modes. Each mode offers as many as are requested; the best of all are taken. The
/// advisory lock makes a repeated claim wait for the one whose answer was lost.
const NEXT: &str = concat!(
    "WITH offered AS MATERIALIZED (
         SELECT o.* FROM unnest($1::smallint[]) AS m (mode) CROSS JOIN LATERAL (
             SELECT id, rank, seq FROM open_tasks
             WHERE mode = m.mode AND session IS NULL AND lane = 0 AND status = 0 AND ready_at <= $6
             ORDER BY rank, seq LIMIT $3 FOR UPDATE SKIP LOCKED
         ) o
     ), picked AS MATERIALIZED (SELECT id FROM offered ORDER BY rank, seq LIMIT $3), taken AS (
         UPDATE open_tasks t SET status = 1, epoch = t.epoch + 1, owner = $4, claimed_at = $2,
             started_at = CASE WHEN t.epoch = 0 THEN $2 ELSE t.started_at END
         WHERE t.id = ANY(ARRAY(SELECT id FROM picked)) AND (SELECT pg_advisory_xact_lock($5)) IS NOT NULL AND ",
    relaxed!(),
    " RETURNING t.id, t.owner, t.epoch, t.attempt, t.recoveries, t.used_us, t.version, t.rank, t.seq
     ), counted AS (",
    count_taken!(),
    ") SELECT t.*, b.body FROM taken t JOIN tasks b ON b.id = t.id ORDER BY t.rank, t.seq"
);

/// Selects the tasks that an earlier try of the same claim took, when its answer was lost. It scans the open tasks,
/// because lost connections are rare.
const NEXT_BEFORE: &str = "
    SELECT t.id, t.owner, t.epoch, t.attempt, t.recoveries, t.used_us, t.version, t.rank, t.seq, b.body
    FROM open_tasks t JOIN tasks b ON b.id = t.id
    WHERE t.status = 1 AND t.session IS NULL AND t.owner = $1 AND t.claimed_at = $2
    ORDER BY t.rank, t.seq";

/// Tasks that one caller claims.
pub(super) struct TaskClaim {
    pub(super) worker: WorkerId,
    pub(super) tasks: Vec<TaskId>,
    pub(super) now: Timestamp,
}

pub(super) enum ClaimBatch {}

#[async_trait]
impl BatchKind for ClaimBatch {
    type Item = TaskClaim;
    type Answer = Vec<ClaimedTask>;
    type Key = ();

    fn rows(item: &TaskClaim) -> usize {
        item.tasks.len()
    }

    fn key(_: &TaskClaim) -> Option<()> {
        None
    }

    async fn run(db: &Db, items: &[TaskClaim], tries: Tries) -> Result<Vec<Vec<ClaimedTask>>, Failure> {
        let conn = db.batch_conn().await?;
        for worker in items.iter().map(|item| item.worker).collect::<HashSet<_>>() {
            db.registered.ensure(&conn, worker).await?;
        }
        // In the order of ids, so that two batches that claim the same tasks lock them in the same order.
        let mut wanted: Vec<(SqlId, SqlId, i64)> = items
            .iter()
            .flat_map(|item| item.tasks.iter().map(move |task| (task, item)))
            .map(|(task, item)| (SqlId(*task.as_bytes()), SqlId(*item.worker.as_bytes()), item.now.0))
            .collect();
        wanted.sort_unstable();
        let ids: Vec<SqlId> = wanted.iter().map(|one| one.0).collect();
        let owners: Vec<SqlId> = wanted.iter().map(|one| one.1).collect();
        let nows: Vec<i64> = wanted.iter().map(|one| one.2).collect();
        let mut rows = query(&conn, CLAIM, &[&ids, &owners, &nows]).await?;
        db.room.moved(-i64::try_from(rows.len()).unwrap_or(0));
        if tries.maybe_done {
            rows.extend(query(&conn, CLAIMED_BEFORE, &[&ids, &owners, &nows]).await?);
        }
        let mut won: HashMap<TaskId, ClaimedTask> = HashMap::with_capacity(rows.len());
        for row in &rows {
            let claimed = claimed(row)?;
            won.insert(claimed.lease.task, claimed);
        }
        let mut take = |item: &TaskClaim, task: &TaskId| match won.get(task) {
            Some(claimed) if claimed.lease.worker == item.worker => won.remove(task),
            _ => None,
        };
        Ok(items.iter().map(|item| item.tasks.iter().filter_map(|task| take(item, task)).collect()).collect())
    }
}

/// A claim of the next tasks of some modes: the fields of [`crate::ClaimRequest::Next`].
pub(super) struct Next {
    pub(super) worker: WorkerId,
    pub(super) modes: ModeSet,
    pub(super) limit: usize,
    pub(super) due_by: Timestamp,
    pub(super) now: Timestamp,
}

/// Claims the next tasks of some modes, by priority and age, with their bodies.
pub(super) async fn next(db: &Db, wanted: &Next, tries: Tries) -> Result<Vec<ClaimedTask>, Failure> {
    let conn = db.conn().await?;
    db.registered.ensure(&conn, wanted.worker).await?;
    let modes: Vec<i16> = wanted.modes.iter().map(|mode| i16::from(mode as u8)).collect();
    // A key other than that of the worker's liveness lock.
    let lock = !lock_key(wanted.worker);
    let (worker, limit, now) = (SqlId(*wanted.worker.as_bytes()), sql_limit(wanted.limit), wanted.now);
    if tries.maybe_done {
        execute(&conn, "SELECT pg_advisory_xact_lock($1)", &[&lock]).await?;
        let before = query(&conn, NEXT_BEFORE, &[&worker, &now.0]).await?;
        if !before.is_empty() {
            return before.iter().map(with_body).collect();
        }
    }
    let (promote, next) = (conn.prepare_cached(PROMOTE).await?, conn.prepare_cached(NEXT).await?);
    let params: Params<'_> = &[&modes, &now.0, &limit, &worker, &lock, &wanted.due_by.0];
    let promoting: Params<'_> = &[&now.0];
    // Polled together, they are sent together; the server runs them one after the other.
    let (promoted, rows) = tokio::join!(biased; conn.execute(&promote, promoting), conn.query(&next, params));
    promoted?;
    let rows = rows?;
    db.room.moved(-i64::try_from(rows.len()).unwrap_or(0));
    rows.iter().map(with_body).collect()
}

/// Decodes a claim with the body in its tenth column.
fn with_body(row: &Row) -> Result<ClaimedTask, Failure> {
    let mut claimed = claimed(row)?;
    claimed.task = Some(Arc::new(row.json(9)?));
    Ok(claimed)
}

/// Decodes a claim from a row that begins with `id, owner, epoch, attempt, recoveries, used_us, version`.
pub(super) fn claimed(row: &Row) -> Result<ClaimedTask, Failure> {
    let epoch = row.count(2)?;
    Ok(ClaimedTask {
        lease: Lease { task: row.id(0)?, epoch, worker: row.id(1)? },
        task: None,
        version: row.text_or_none(6)?,
        attempt: row.count(3)?,
        recoveries: row.count(4)?,
        used_us: row.count(5)?,
        resumes: epoch > 1,
    })
}

/// Workers known to have a row in `workers`. Recovery starts from those rows, so an owner must have one before its
/// first claim, registered or not.
#[derive(Default)]
pub(super) struct RegisteredWorkers {
    known: Mutex<HashMap<WorkerId, Instant>>,
}

impl RegisteredWorkers {
    /// Makes sure that a worker has a row.
    pub(super) async fn ensure(&self, client: &impl GenericClient, worker: WorkerId) -> Result<(), Failure> {
        let fresh = |at: &Instant| at.elapsed() < REGISTERED_FOR;
        if self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&worker).is_some_and(fresh) {
            return Ok(());
        }
        let sql = "INSERT INTO workers (id, heartbeat_at, locked, gone) VALUES ($1, 0, false, false)
                   ON CONFLICT (id) DO UPDATE SET gone = false WHERE workers.gone";
        execute(client, sql, &[&SqlId(*worker.as_bytes())]).await?;
        self.seen(worker);
        Ok(())
    }

    /// Records that a worker has a row.
    pub(super) fn seen(&self, worker: WorkerId) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, at| at.elapsed() < REGISTERED_FOR);
        known.insert(worker, Instant::now());
    }

    /// Forgets a worker that deregistered.
    pub(super) fn forget(&self, worker: WorkerId) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&worker);
    }
}
