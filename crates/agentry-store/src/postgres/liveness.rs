//! Heartbeats, and an advisory lock that a worker's process holds through a connection of its own.
//!
//! The server frees the lock the moment the process is gone (its sockets close), which reveals a killed worker at once;
//! a frozen one keeps its lock and is revealed by its heartbeats. Heartbeats use the same connection, because those of
//! the pool may all be busy. [`super::recover`] decides which workers count as dead.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentry_core::id::WorkerId;
use agentry_core::time::Timestamp;
use agentry_core::worker::{HEARTBEAT, WorkerRecord};
use tokio::time::{Instant, timeout};
use tokio_postgres::{Client, NoTls};

use super::PostgresStore;
use super::failure::Failure;
use super::options::{Planner, PostgresOptions};
use super::pool::Conn;
use super::rows::{Params, SqlId, rows};
use crate::StoreError;
use crate::liveness::LATE;
use crate::sql::columns::{Columns, to_json};

/// Time that taking the lock may delay a heartbeat.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// Time that a heartbeat waits for an answer on the lock's connection before it uses another one.
const ANSWER_TIMEOUT: Duration = HEARTBEAT;

/// The server's clock at the moment of its evaluation, in microseconds since the Unix epoch.
macro_rules! server_clock {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    };
}
pub(super) use server_clock;

/// A condition on a row of `workers`: the worker neither deregistered nor was declared dead. Whatever a worker holds
/// besides its tasks is free when this is false, or when there is no row.
macro_rules! not_dead {
    ($row:literal) => {
        concat!("(NOT ", $row, ".gone AND ", $row, ".record IS NOT NULL)")
    };
}
pub(super) use not_dead;

/// Stamped on execution: neither the worker's clock nor the waiting time counts. See
/// [`crate::liveness::Heartbeats::with`] for `steady_since`.
const HEARTBEAT_SQL: &str = concat!(
    "INSERT INTO workers AS w (id, heartbeat_at, steady_since, locked, gone, record)
     SELECT $1, s.now, s.now, $2, false, $3 FROM (SELECT ",
    server_clock!(),
    " AS now) AS s
     ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at,
         steady_since = CASE WHEN excluded.heartbeat_at - w.heartbeat_at < $4
             THEN least(w.steady_since, excluded.heartbeat_at) ELSE excluded.heartbeat_at END,
         locked = excluded.locked, gone = false, record = excluded.record"
);

/// The locks that this process holds for its workers.
#[derive(Default)]
pub(super) struct WorkerLocks {
    holders: Mutex<HashMap<WorkerId, Arc<tokio::sync::Mutex<Option<HeldLock>>>>>,
}

/// A lock that is held as long as its connection is open.
#[derive(Clone)]
struct HeldLock {
    client: Arc<Client>,
    since: Instant,
}

impl WorkerLocks {
    /// Makes sure that a worker holds its lock, and returns the connection that holds it; `None` when it does not, so
    /// that only its heartbeats count.
    async fn hold(&self, options: &PostgresOptions, worker: WorkerId) -> Option<Arc<Client>> {
        let holder = {
            let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(holders.entry(worker).or_default())
        };
        let mut holder = holder.lock().await;
        if let Some(held) = holder.as_ref().filter(|held| !held.client.is_closed()) {
            return Some(Arc::clone(&held.client));
        }
        *holder = match timeout(LOCK_TIMEOUT, take(options, worker)).await {
            Ok(Ok(held)) => held,
            Ok(Err(failure)) => {
                tracing::warn!(%worker, ?failure, "the worker's lock could not be taken; only its heartbeats count");
                None
            }
            Err(_) => {
                tracing::warn!(%worker, "the worker's lock could not be taken in time; only its heartbeats count");
                None
            }
        };
        holder.as_ref().map(|held| Arc::clone(&held.client))
    }

    /// Returns the time for which a worker of this process has held its lock without a break; `None` when it does not
    /// hold it.
    pub(super) fn held_for(&self, worker: WorkerId) -> Option<Duration> {
        let holder = self.holders.lock().unwrap_or_else(PoisonError::into_inner).get(&worker).map(Arc::clone)?;
        // Locked while it is being taken.
        let held = holder.try_lock().ok()?;
        held.as_ref().filter(|held| !held.client.is_closed()).map(|held| held.since.elapsed())
    }

    fn release(&self, worker: WorkerId) {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner).remove(&worker);
    }
}

/// Takes a worker's lock on a connection that holds it until it is dropped. Returns `None` when the lock is held, which
/// can only be by the worker's own old connection that the server has not closed yet.
async fn take(options: &PostgresOptions, worker: WorkerId) -> Result<Option<HeldLock>, Failure> {
    let (client, connection) = options.config(Planner::General)?.connect(NoTls).await.map_err(Failure::connecting)?;
    // Ends with the client or the connection, whichever goes first.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection of a worker's lock ended");
        }
    });
    let row = client.query_one("SELECT pg_try_advisory_lock($1)", &[&lock_key(worker)]).await?;
    let held = HeldLock { client: Arc::new(client), since: Instant::now() };
    Ok(row.try_get::<_, bool>(0)?.then_some(held))
}

/// Returns the key of a worker's lock: both halves of its id, so that its clock and its random bits count.
pub(super) fn lock_key(worker: WorkerId) -> i64 {
    let id = u128::from_be_bytes(*worker.as_bytes());
    ((id >> 64) as u64 ^ id as u64).cast_signed()
}

/// Registers a worker, or records its heartbeat.
pub(super) async fn heartbeat(store: &PostgresStore, worker: &WorkerRecord) -> Result<(), StoreError> {
    let db = &*store.db;
    let (id, record) = (SqlId(*worker.id.as_bytes()), to_json(worker)?);
    let own = store.locks.hold(&db.options, worker.id).await;
    if let Some(client) = &own {
        let params: Params<'_> = &[&id, &true, &record, &LATE];
        match timeout(ANSWER_TIMEOUT, client.execute(HEARTBEAT_SQL, params)).await {
            Ok(Ok(_)) => {
                db.registered.seen(worker.id);
                return Ok(());
            }
            Ok(Err(error)) => tracing::debug!(%error, "a heartbeat failed on the connection of the worker's lock"),
            Err(_) => tracing::debug!("a heartbeat has no answer on the connection of the worker's lock"),
        }
    }
    let params: Params<'_> = &[&id, &false, &record, &LATE];
    db.execute(HEARTBEAT_SQL, params).await?;
    db.registered.seen(worker.id);
    if own.is_some() {
        // The server answers, but not on that connection: the next heartbeat takes the lock on a new one.
        store.locks.release(worker.id);
    }
    Ok(())
}

/// Deregisters a worker. Its row stays until recovery has looked for its tasks.
pub(super) async fn deregister(store: &PostgresStore, worker: WorkerId) -> Result<(), StoreError> {
    store.locks.release(worker);
    let db = &*store.db;
    db.registered.forget(worker);
    let sql = "UPDATE workers SET heartbeat_at = 0, locked = false, record = NULL WHERE id = $1";
    db.execute(sql, &[&SqlId(*worker.as_bytes())]).await.map(drop)
}

/// Returns all registered workers, their heartbeats converted from the server's clock to that of `now`.
pub(super) async fn workers(store: &PostgresStore, now: Timestamp) -> Result<Vec<WorkerRecord>, StoreError> {
    const WORKERS: &str = concat!(
        "SELECT record, ",
        server_clock!(),
        " - heartbeat_at FROM workers w WHERE ",
        not_dead!("w"),
        " ORDER BY id"
    );
    let at = |age| Timestamp(now.0.saturating_sub(age));
    store.db.rows(WORKERS, &[], |row| Ok(WorkerRecord { heartbeat_at: at(row.number(1)?), ..row.json(0)? })).await
}

/// Returns the workers whose lock nobody holds. Shared probes do not conflict, and end with the statement.
pub(super) async fn unlocked(conn: &Conn, workers: &[WorkerId]) -> Result<Vec<WorkerId>, Failure> {
    if workers.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<i64> = workers.iter().map(|worker| lock_key(*worker)).collect();
    let sql = "SELECT key FROM unnest($1::bigint[]) AS k (key) WHERE pg_try_advisory_xact_lock_shared(key)";
    let free = rows(conn, sql, &[&keys], |row| row.number(0)).await?;
    Ok(workers.iter().copied().filter(|worker| free.contains(&lock_key(*worker))).collect())
}
