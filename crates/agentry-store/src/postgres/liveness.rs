//! Who lives: heartbeats, and a lock of the server that a worker's process holds through a connection of its own.
//!
//! The server frees the lock the moment the process is gone (its sockets close), which shows a killed worker at once; a
//! frozen one keeps its lock and is shown by its heartbeats.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentry_core::id::WorkerId;
use agentry_core::time::Timestamp;
use agentry_core::worker::{HEARTBEAT, MISSED_HEARTBEATS, WorkerRecord};
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

use super::PostgresStore;
use super::failure::Failure;
use super::options::{Planner, PostgresOptions};
use super::pool::{Conn, Db};
use super::rows::{SqlId, collect, execute, json_at, query, to_json};
use crate::StoreError;

/// How long a heartbeat counts, in microseconds; as in [`WorkerRecord::is_alive`].
pub(super) const ALIVE_FOR: i64 = HEARTBEAT.as_micros() as i64 * MISSED_HEARTBEATS as i64;
/// How old the heartbeat of a worker whose lock is free must be before it counts as dead, in microseconds. A process
/// that lost only its lock's connection says so with its next heartbeat, within [`HEARTBEAT`].
const UNLOCKED_FOR: i64 = 1_500_000;
/// How long nobody is declared dead after the server could not be reached, or has started: all heartbeats are old and all
/// locks free then, and the living need a moment to say that they live.
pub(super) const GRACE: Duration = Duration::from_millis(HEARTBEAT.as_millis() as u64 * MISSED_HEARTBEATS as u64);
/// How long taking the lock may hold up a heartbeat.
const LOCK_TIMEOUT: Duration = Duration::from_millis(1_000);

/// The locks that this process holds for its workers.
#[derive(Default)]
pub(super) struct Lives {
    holders: Mutex<HashMap<WorkerId, Arc<tokio::sync::Mutex<Option<Client>>>>>,
}

impl Lives {
    /// Makes sure that a worker holds its lock. False: it does not, and its heartbeats alone speak for it.
    async fn hold(&self, options: &PostgresOptions, worker: WorkerId) -> bool {
        let holder = {
            let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(holders.entry(worker).or_default())
        };
        let mut holder = holder.lock().await;
        if holder.as_ref().is_some_and(|client| !client.is_closed()) {
            return true;
        }
        *holder = match timeout(LOCK_TIMEOUT, take(options, worker)).await {
            Ok(Ok(client)) => client,
            Ok(Err(failure)) => {
                tracing::warn!(%worker, ?failure, "the worker's lock could not be taken; its heartbeats speak for it");
                None
            }
            Err(_) => {
                tracing::warn!(%worker, "the worker's lock could not be taken in time; its heartbeats speak for it");
                None
            }
        };
        holder.is_some()
    }

    fn let_go(&self, worker: WorkerId) {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner).remove(&worker);
    }
}

/// Takes a worker's lock on a connection that holds it until it is dropped. `None`: somebody has it, who can only be the
/// worker's own old connection that the server has not given up yet.
async fn take(options: &PostgresOptions, worker: WorkerId) -> Result<Option<Client>, Failure> {
    let (client, connection) = options.config(Planner::General)?.connect(NoTls).await.map_err(Failure::connecting)?;
    // Ends with the client or the connection, whichever goes first.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection of a worker's lock ended");
        }
    });
    let row = client.query_one("SELECT pg_try_advisory_lock($1)", &[&lock_key(worker)]).await?;
    Ok(row.try_get::<_, bool>(0)?.then_some(client))
}

/// The key of a worker's lock: both halves of its id, so that its clock and its random bits count.
pub(super) fn lock_key(worker: WorkerId) -> i64 {
    let id = u128::from_be_bytes(*worker.as_bytes());
    ((id >> 64) as u64 ^ id as u64).cast_signed()
}

/// Registers a worker or says that it lives.
pub(super) async fn heartbeat(store: &PostgresStore, worker: &WorkerRecord) -> Result<(), StoreError> {
    let db = &*store.db;
    let record = to_json(worker).map_err(|failure| failure.to_store_error())?;
    let locked = store.lives.hold(&db.options, worker.id).await;
    let (id, record) = (SqlId(*worker.id.as_bytes()), record.as_str());
    db.retrying(|_| async move {
        let sql = "INSERT INTO workers (id, heartbeat_at, locked, gone, record) VALUES ($1, $2, $3, false, $4)
                   ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at, locked = excluded.locked,
                       gone = false, record = excluded.record";
        execute(&db.conn().await?, sql, &[&id, &worker.heartbeat_at.0, &locked, &record]).await
    })
    .await?;
    db.registered.seen(worker.id);
    Ok(())
}

/// A worker leaves in good order. Its row stays until recovery has looked for what it owned.
pub(super) async fn deregister(store: &PostgresStore, worker: WorkerId) -> Result<(), StoreError> {
    store.lives.let_go(worker);
    let db = &*store.db;
    db.registered.forget(worker);
    let id = SqlId(*worker.as_bytes());
    db.retrying(|_| async move {
        let sql = "UPDATE workers SET heartbeat_at = 0, locked = false, record = NULL WHERE id = $1";
        execute(&db.conn().await?, sql, &[&id]).await.map(drop)
    })
    .await
}

/// All workers that are registered.
pub(super) async fn workers(store: &PostgresStore) -> Result<Vec<WorkerRecord>, StoreError> {
    let db = &*store.db;
    db.retrying(|_| async move {
        let sql = "SELECT record FROM workers WHERE NOT gone AND record IS NOT NULL ORDER BY id";
        collect(&query(&db.conn().await?, sql, &[]).await?, |row| json_at(row, 0))
    })
    .await
}

/// What a worker's row says about its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Alive,
    /// Dead if nobody holds its lock, see [`unlocked`].
    Unsure,
    Dead,
}

impl Life {
    /// At `now`, from the last heartbeat (0: none) and whether it said that it holds its lock; `young`: the server has
    /// just started.
    pub(super) fn new(heartbeat_at: i64, locked: bool, young: bool, now: Timestamp) -> Self {
        let age = now.0.saturating_sub(heartbeat_at);
        if heartbeat_at == 0 || (age >= ALIVE_FOR && !young) {
            Self::Dead
        } else if young {
            Self::Alive
        } else if locked && age >= UNLOCKED_FOR {
            Self::Unsure
        } else {
            Self::Alive
        }
    }
}

/// Whether the server could not be reached a moment ago.
pub(super) fn just_back(db: &Db) -> bool {
    db.last_unreachable().is_some_and(|at| at.elapsed() < GRACE)
}

/// Those of the workers whose lock nobody holds. Shared probes do not hinder one another, and they end with the
/// statement.
pub(super) async fn unlocked(conn: &Conn, workers: &[WorkerId]) -> Result<Vec<WorkerId>, Failure> {
    if workers.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<i64> = workers.iter().map(|worker| lock_key(*worker)).collect();
    let sql = "SELECT key FROM unnest($1::bigint[]) AS k (key) WHERE pg_try_advisory_xact_lock_shared(key)";
    let free = collect(&query(conn, sql, &[&keys]).await?, |row| Ok(row.try_get::<_, i64>(0)?))?;
    Ok(workers.iter().copied().filter(|worker| free.contains(&lock_key(*worker))).collect())
}
