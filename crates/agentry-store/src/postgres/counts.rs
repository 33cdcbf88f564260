//! Counts of tasks by status, and the queue's bound.
//!
//! The table `counters` is authoritative: a transaction that changes tasks adds the difference to the row of its own
//! connection. Sums are exact and need no scan.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::GenericClient;
use tokio::time::Instant;
use tokio_postgres::Row;

use super::failure::Failure;
use super::pool::Db;
use super::rows::{execute, only, rows};
use crate::sql::columns::Columns;
use crate::sql::limits::signed;
use crate::{Backlog, QueueCounts, QueuedTasks, StoreError};

/// Largest age of the count of queued tasks when the queue's bound is checked.
const ROOM_AGE: Duration = Duration::from_millis(200);
/// Retry delay for a full queue: one or two worker slots are free by then.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Number of tasks that came (positive) or went (negative), by status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct StatusChanges {
    pub(super) queued: i64,
    pub(super) running: i64,
    pub(super) waiting: i64,
}

/// Adds changes to the counters, in the transaction that changes the tasks.
pub(super) async fn add(client: &impl GenericClient, changes: StatusChanges) -> Result<(), Failure> {
    if changes == StatusChanges::default() {
        return Ok(());
    }
    let sql = "INSERT INTO counters AS c (pid, queued, running, waiting) VALUES (pg_backend_pid(), $1, $2, $3)
               ON CONFLICT (pid) DO UPDATE SET queued = c.queued + excluded.queued,
                   running = c.running + excluded.running, waiting = c.waiting + excluded.waiting";
    execute(client, sql, &[&changes.queued, &changes.running, &changes.waiting]).await.map(drop)
}

/// Returns the sums.
pub(super) async fn read(client: &impl GenericClient) -> Result<QueueCounts, Failure> {
    let sql = "SELECT coalesce(sum(queued), 0)::bigint, coalesce(sum(running), 0)::bigint,
                   coalesce(sum(waiting), 0)::bigint FROM counters";
    // Sums of differences are not negative once everything is committed.
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    let read = only(client, sql, &[], |row| Ok([row.number(0)?, row.number(1)?, row.number(2)?].map(count)));
    let [queued, running, waiting] = read.await?;
    Ok(QueueCounts { queued, running, waiting })
}

/// Returns the pending work by counting the open tasks and two small tables.
pub(super) async fn backlog(client: &impl GenericClient) -> Result<Backlog, Failure> {
    let sql = "SELECT (SELECT count(*) FROM outbox), (SELECT count(*) FROM dead_letters WHERE state = 0)";
    let (outbox, dead_letters) = only(client, sql, &[], |row| Ok((row.count(0)?, row.count(1)?))).await?;
    let mut backlog = Backlog { outbox, dead_letters, ..Backlog::default() };
    let sql =
        "SELECT mode, count(*), min(ready_at) FILTER (WHERE lane = 0) FROM open_tasks WHERE status = 0 GROUP BY mode";
    let queued = |row: &Row| Ok((row.count(0)?, QueuedTasks { count: row.count(1)?, due_since: row.time_or_none(2)? }));
    for (mode, queued) in rows(client, sql, &[], queued).await? {
        if let Some(place) = backlog.queued.get_mut::<usize>(mode) {
            *place = queued;
        }
    }
    Ok(backlog)
}

/// The approximate fill level of the queue: this process's own submissions count at once, those of others after
/// [`ROOM_AGE`].
pub(super) struct Room {
    bound: u64,
    queued: AtomicI64,
    read_at: Mutex<Option<Instant>>,
}

impl Room {
    pub(super) fn new(bound: u64) -> Self {
        Self { bound, queued: AtomicI64::new(0), read_at: Mutex::new(None) }
    }

    /// Returns the number of tasks that the queue can still take.
    pub(super) fn left(&self) -> u64 {
        self.bound.saturating_sub(u64::try_from(self.queued.load(Ordering::Relaxed)).unwrap_or(0))
    }

    /// Counts tasks that were queued or, if negative, left the queue.
    pub(super) fn moved(&self, queued: i64) {
        self.queued.fetch_add(queued, Ordering::Relaxed);
    }

    /// Returns the error of a full queue.
    pub(super) fn full(&self) -> StoreError {
        StoreError::Full { what: "the task queue", bound: self.bound, retry_after: RETRY_AFTER }
    }

    /// Reads the sums again when they are too old.
    pub(super) async fn refresh(&self, client: &impl GenericClient) -> Result<(), Failure> {
        let due = {
            let mut read_at = self.read_at.lock().unwrap_or_else(PoisonError::into_inner);
            let due = read_at.is_none_or(|at| at.elapsed() >= ROOM_AGE);
            if due {
                *read_at = Some(Instant::now());
            }
            due
        };
        if due {
            let counts = read(client).await?;
            self.queued.store(signed(counts.queued), Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Db {
    /// Fails when the queue cannot take `more` tasks.
    pub(super) async fn check_room(&self, client: &impl GenericClient, more: usize) -> Result<(), Failure> {
        self.room.refresh(client).await?;
        if (more as u64) > self.room.left() {
            return Err(self.room.full().into());
        }
        Ok(())
    }
}
