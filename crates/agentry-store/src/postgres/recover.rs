//! Recovery: what dead workers own is queued again.
//!
//! It starts from the rows of `workers`, because an index of tasks by owner would cost every claim; the open tasks are
//! read through only when a worker died. A worker that left or died stays in the table as `gone` for an hour and its
//! tasks are looked for again every [`SWEEP_AGAIN`]: a claim may have been on its way when it was declared dead.

use std::sync::atomic::Ordering;

use agentry_core::id::{TaskId, WorkerId};
use agentry_core::journal::JournalBody;
use agentry_core::time::Timestamp;
use tokio_postgres::Row;

use super::failure::Failure;
use super::liveness::{GRACE, Life, just_back, unlocked};
use super::pool::Db;
use super::rows::{
    Params, SqlId, agent_at, collect, execute, id_at, mode_at, query, session_or_none, sql_limit, to_json,
};
use crate::Recovered;

/// How often the tasks of workers that are gone are looked for again, in seconds.
const SWEEP_AGAIN: f64 = 30.0;
/// How long a worker that is gone is remembered, in seconds: longer than a process believes it to be registered.
const REMEMBERED: f64 = 3_600.0;

/// Tasks that end in this process before the hot table is vacuumed. The server's own vacuum looks once a minute; by then
/// a busy table is mostly dead rows, and whoever asks for the next tasks has to pass over them.
const VACUUM_AFTER: u64 = 50_000;

/// Workers, and whether the server is too young to judge them.
const WORKERS: &str = "
    SELECT id, heartbeat_at, locked, gone,
        gone AND (swept_at IS NULL OR swept_at < clock_timestamp() - make_interval(secs => $1)) AS due,
        clock_timestamp() - pg_postmaster_start_time() < make_interval(secs => $2)
    FROM workers";

/// Sessions are locked before tasks, as everywhere. What somebody else has locked is passed over: its worker is looked at
/// again with the next recovery.
const RECOVER: &str = "
    WITH dead AS MATERIALIZED (
        SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS d (owner, last_alive, entry)
    ), turns AS MATERIALIZED (
        SELECT id FROM sessions WHERE id = ANY(ARRAY(
            SELECT session FROM open_tasks WHERE session IS NOT NULL AND status = 1 AND owner = ANY($1)
        )) LIMIT $4 FOR UPDATE SKIP LOCKED
    ), picked AS MATERIALIZED (
        SELECT id FROM open_tasks
        WHERE status = 1 AND owner = ANY($1) AND (session IS NULL OR session = ANY(ARRAY(SELECT id FROM turns)))
        LIMIT $4 FOR UPDATE SKIP LOCKED
    ), back AS (
        UPDATE open_tasks t SET status = 0, lane = 0, ready_at = $5, owner = NULL, recoveries = t.recoveries + 1,
            used_us = t.used_us + greatest(0, d.last_alive - t.claimed_at), journal = t.journal + 1
        FROM dead d WHERE t.id = ANY(ARRAY(SELECT id FROM picked)) AND t.status = 1 AND t.owner = d.owner
        RETURNING t.id, t.agent, t.mode, t.session, t.journal, t.attempt, d.entry
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
    ) SELECT id, agent, mode, session FROM back";

/// Marks dead workers that have not said meanwhile that they live, and of whose tasks none is left.
const GONE: &str = "
    WITH busy AS MATERIALIZED (SELECT DISTINCT owner FROM open_tasks WHERE status = 1 AND owner = ANY($1))
    UPDATE workers w SET gone = true, gone_at = CASE WHEN w.gone THEN w.gone_at ELSE clock_timestamp() END,
        swept_at = clock_timestamp()
    FROM unnest($1::uuid[], $2::bigint[]) AS d (id, heartbeat_at)
    WHERE w.id = d.id AND w.heartbeat_at = d.heartbeat_at AND w.id <> ALL(ARRAY(SELECT owner FROM busy))";

/// A worker whose tasks are to be queued again.
struct Dead {
    id: WorkerId,
    heartbeat_at: i64,
}

/// Queues again what workers own that are not alive at `now`. Any number of processes may do so at once.
pub(super) async fn recover(db: &Db, now: Timestamp, limit: usize) -> Result<Vec<Recovered>, Failure> {
    if limit == 0 || just_back(db) {
        return Ok(Vec::new());
    }
    tidy(db).await;
    let dead = dead(db, now).await?;
    if dead.is_empty() {
        return Ok(Vec::new());
    }
    let conn = db.conn().await?;
    let ids: Vec<SqlId> = dead.iter().map(|dead| SqlId(*dead.id.as_bytes())).collect();
    let beats: Vec<i64> = dead.iter().map(|dead| dead.heartbeat_at).collect();
    // Who never said that it lives counts as alive until now, so that the time of its tasks is not given twice.
    let last_alive: Vec<i64> = beats.iter().map(|&beat| if beat == 0 { now.0 } else { beat }).collect();
    let entry = |dead: &Dead| to_json(&JournalBody::Recovered { worker: dead.id });
    let entries = dead.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    let params: Params<'_> = &[&ids, &last_alive, &entries, &sql_limit(limit), &now.0];
    let recovered = collect(&query(&conn, RECOVER, params).await?, recovered)?;
    db.room.moved(i64::try_from(recovered.len()).unwrap_or(0));
    if recovered.len() < limit {
        execute(&conn, GONE, &[&ids, &beats]).await?;
        let forget = "DELETE FROM workers WHERE gone AND gone_at < clock_timestamp() - make_interval(secs => $1)";
        execute(&conn, forget, &[&REMEMBERED]).await?;
    }
    Ok(recovered)
}

/// Vacuums the hot table after many tasks have ended, unless somebody does so just now. It is no loss when it fails: the
/// server's own vacuum comes later.
async fn tidy(db: &Db) {
    if db.ended.load(Ordering::Relaxed) < VACUUM_AFTER {
        return;
    }
    db.ended.store(0, Ordering::Relaxed);
    let vacuum = async { Ok::<_, Failure>(db.conn().await?.batch_execute("VACUUM (SKIP_LOCKED) open_tasks").await?) };
    if let Err(failure) = vacuum.await {
        tracing::warn!(?failure, "PostgreSQL's table `open_tasks` could not be vacuumed");
    }
}

/// Workers that are dead at `now` and those gone whose tasks are to be looked for again.
async fn dead(db: &Db, now: Timestamp) -> Result<Vec<Dead>, Failure> {
    let conn = db.conn().await?;
    let rows = query(&conn, WORKERS, &[&SWEEP_AGAIN, &GRACE.as_secs_f64()]).await?;
    let (mut dead, mut unsure) = (Vec::new(), Vec::new());
    for row in &rows {
        let worker = Dead { id: WorkerId::from_bytes(id_at(row, 0)?), heartbeat_at: row.try_get(1)? };
        if row.try_get(3)? {
            if row.try_get(4)? {
                dead.push(worker);
            }
            continue;
        }
        match Life::new(worker.heartbeat_at, row.try_get(2)?, row.try_get(5)?, now) {
            Life::Dead => dead.push(worker),
            Life::Unsure => unsure.push(worker),
            Life::Alive => {}
        }
    }
    let ids: Vec<WorkerId> = unsure.iter().map(|worker| worker.id).collect();
    let free = unlocked(&conn, &ids).await?;
    dead.extend(unsure.into_iter().filter(|worker| free.contains(&worker.id)));
    Ok(dead)
}

fn recovered(row: &Row) -> Result<Recovered, Failure> {
    Ok(Recovered {
        task: TaskId::from_bytes(id_at(row, 0)?),
        agent: agent_at(row, 1)?,
        mode: mode_at(row, 2)?,
        session: session_or_none(row, 3)?,
    })
}
