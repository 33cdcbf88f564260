//! The writing connection, with its state in memory: the counts of tasks by status, and the numbers of names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use agentry_core::id::WorkerId;
use agentry_core::task::TaskStatus;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Params};

use super::failure::Failure;
use super::{SqliteOptions, rows};
use crate::QueueCounts;
use crate::liveness::Heartbeats;

/// Largest number of names (agents, versions, models) whose numbers are cached; with more, the cache is cleared.
const MAX_NAMES_IN_MEMORY: usize = 65_536;
/// Prepared statements kept per connection: more than there are in this crate.
pub(super) const STATEMENTS: usize = 256;

/// Counts of tasks by status as of the last commit; shared with readers.
pub(super) type PublishedCounts = Arc<Mutex<QueueCounts>>;

/// The writing connection.
pub(super) struct Db {
    pub(super) conn: Connection,
    pub(super) counts: QueueCounts,
    pub(super) max_queued: u64,
    /// Heartbeats of the workers of this process. The folder is locked, so all others belong to earlier processes and
    /// are dead, however fresh their last heartbeat is.
    pub(super) heartbeats: HashMap<WorkerId, Heartbeats>,
    syncs: bool,
    names: HashMap<Box<str>, i64>,
    committed: QueueCounts,
    published: PublishedCounts,
}

impl Db {
    /// Takes over an open, migrated connection.
    pub(super) fn new(conn: Connection, options: &SqliteOptions, published: PublishedCounts) -> rusqlite::Result<Self> {
        conn.set_prepared_statement_cache_capacity(STATEMENTS);
        let count = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, u64>(0));
        let counts = QueueCounts {
            queued: count(
                "SELECT (SELECT count(*) FROM tasks WHERE status = 0 AND session IS NULL AND delayed = 0)
                      + (SELECT count(*) FROM tasks WHERE status = 0 AND delayed = 1)
                      + (SELECT count(*) FROM tasks WHERE status = 0 AND delayed = 0
                                                      AND session IS NOT NULL AND status < 3)",
            )?,
            running: count("SELECT count(*) FROM tasks WHERE status = 1")?,
            waiting: count("SELECT count(*) FROM tasks WHERE status = 2")?,
        };
        let db = Self {
            conn,
            counts,
            max_queued: options.max_queued,
            heartbeats: HashMap::new(),
            syncs: true,
            names: HashMap::new(),
            committed: counts,
            published,
        };
        db.publish();
        Ok(db)
    }

    /// Returns a statement, prepared once.
    pub(super) fn sql(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        self.conn.prepare_cached(sql)
    }

    /// Runs a statement. Returns the number of affected rows.
    pub(super) fn execute(&self, sql: &str, params: impl Params) -> Result<usize, Failure> {
        rows::execute(&self.conn, sql, params)
    }

    /// Counts a task's transition from one status to another; `None` stands for acceptance.
    pub(super) fn count_transition(&mut self, from: Option<TaskStatus>, to: TaskStatus) {
        if let Some(count) = from.and_then(|status| place(&mut self.counts, status)) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = place(&mut self.counts, to) {
            *count += 1;
        }
    }

    /// Returns the number of a name, which is assigned on first use.
    pub(super) fn name(&mut self, name: &str) -> Result<i64, Failure> {
        if let Some(number) = self.names.get(name) {
            return Ok(*number);
        }
        let known = self.sql("SELECT id FROM names WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()?;
        let number = match known {
            Some(number) => number,
            None => self.sql("INSERT INTO names (name) VALUES (?1)")?.insert([name])?,
        };
        if self.names.len() >= MAX_NAMES_IN_MEMORY {
            self.names.clear();
        }
        self.names.insert(name.into(), number);
        Ok(number)
    }

    /// Sets whether further commits wait for the disk. Those that do also make earlier writes durable: the write-ahead
    /// log is one file, written from front to back.
    pub(super) fn sync_commits(&mut self, wanted: bool) -> rusqlite::Result<()> {
        if self.syncs != wanted {
            self.conn.execute_batch(if wanted {
                "PRAGMA synchronous = FULL"
            } else {
                "PRAGMA synchronous = NORMAL"
            })?;
            self.syncs = wanted;
        }
        Ok(())
    }

    pub(super) fn begin(&mut self) -> rusqlite::Result<()> {
        self.committed = self.counts;
        self.sql("BEGIN IMMEDIATE")?.execute([]).map(drop)
    }

    pub(super) fn commit(&mut self) -> rusqlite::Result<()> {
        self.sql("COMMIT")?.execute([])?;
        if self.counts != self.committed {
            self.committed = self.counts;
            self.publish();
        }
        Ok(())
    }

    /// Undoes everything since `begin`, in the file and in memory.
    pub(super) fn rollback(&mut self) {
        // SQLite ends the transaction by itself on some errors; then there is nothing left to roll back.
        if !self.conn.is_autocommit()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "rollback of the store failed");
        }
        self.counts = self.committed;
        self.names.clear();
    }

    /// Runs one command within a transaction so that its failure undoes only itself.
    pub(super) fn isolated(&mut self, run: impl FnOnce(&mut Self) -> Result<(), Failure>) -> Result<(), Failure> {
        let counts = self.counts;
        self.sql("SAVEPOINT command")?.execute([])?;
        match run(self) {
            Ok(()) => Ok(self.sql("RELEASE command")?.execute([]).map(drop)?),
            Err(failure) => {
                self.counts = counts;
                self.names.clear();
                if !self.conn.is_autocommit() {
                    self.conn.execute_batch("ROLLBACK TO command; RELEASE command")?;
                }
                Err(failure)
            }
        }
    }

    fn publish(&self) {
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = self.counts;
    }
}

fn place(counts: &mut QueueCounts, status: TaskStatus) -> Option<&mut u64> {
    match status {
        TaskStatus::Queued => Some(&mut counts.queued),
        TaskStatus::Running => Some(&mut counts.running),
        TaskStatus::Waiting => Some(&mut counts.waiting),
        _ => None,
    }
}
