//! [`RetentionStore`] on SQLite: in batches, so that the writer is never held up for long.

use agentry_core::time::Timestamp;
use async_trait::async_trait;

use super::SqliteStore;
use super::db::Db;
use super::failure::Failure;
use super::rows::rows;
use crate::sql::columns::Columns;
use crate::sql::limits::sql_limit;
use crate::{Horizon, RetentionStore, StoreError};

/// Rows, or tasks with all their rows, that one transaction deletes: a few milliseconds of the writer's time.
const BATCH_ROWS: usize = 200;
/// Largest number of batches of one kind per call; the next call deletes the rest.
const MAX_BATCHES: usize = 5_000;

const EVENTS: &str = "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE at < ?1 LIMIT ?2)";
const KEYS: &str = "DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE created_at < ?1 LIMIT ?2)";
const SLOTS: &str = "DELETE FROM slots WHERE (schedule, slot) IN
    (SELECT schedule, slot FROM slots WHERE open = 0 AND decided_at < ?1 LIMIT ?2)";
const DEAD_LETTERS: &str = "DELETE FROM dead_letters WHERE seq IN
    (SELECT seq FROM dead_letters WHERE state <> 0 AND created_at < ?1 LIMIT ?2)";
/// Agent by agent, because that is how the ledger is indexed by time.
const LEDGER: &str = "DELETE FROM ledger WHERE (task, call) IN
    (SELECT l.task, l.call FROM names a CROSS JOIN ledger l ON l.agent = a.id AND l.at < ?1 LIMIT ?2)";

/// Tasks by age. The last row of the table stays in any case: the next task gets the number after it, and a reused
/// number would attach the ledger rows of a deleted task to a new one.
const TASKS: &str = "SELECT seq FROM tasks
    WHERE id < ?1 AND status >= 3 AND finished_at < ?2 AND seq < (SELECT max(seq) FROM tasks) ORDER BY id LIMIT ?3";
/// Deletes the rows of a task, and then the task itself. The ledger stays.
const OF_TASK: [&str; 5] = [
    "DELETE FROM task_bodies WHERE seq = ?1",
    "DELETE FROM task_outcomes WHERE seq = ?1",
    "DELETE FROM journal WHERE task = ?1",
    "DELETE FROM clarifications WHERE task = ?1",
    "DELETE FROM tasks WHERE seq = ?1",
];

const SESSIONS: &str = "SELECT seq FROM sessions s WHERE updated_at < ?1 AND NOT EXISTS
    (SELECT 1 FROM tasks t WHERE t.session = s.id AND t.session IS NOT NULL AND t.status < 3)
    ORDER BY updated_at LIMIT ?2";
const OF_SESSION: [&str; 2] = ["DELETE FROM messages WHERE session = ?1", "DELETE FROM sessions WHERE seq = ?1"];

/// Deletes one batch by a statement with a horizon and a limit.
fn delete(db: &Db, sql: &'static str, before: Timestamp) -> Result<usize, Failure> {
    db.execute(sql, (before.0, sql_limit(BATCH_ROWS)))
}

fn tasks(db: &Db, before: Timestamp) -> Result<usize, Failure> {
    let first = Horizon::first_id_of(before);
    let old = rows(&db.conn, TASKS, (first.as_bytes(), before.0, sql_limit(BATCH_ROWS)), |row| row.number(0))?;
    delete_each(db, &old, &OF_TASK)
}

fn sessions(db: &Db, before: Timestamp) -> Result<usize, Failure> {
    let old = rows(&db.conn, SESSIONS, (before.0, sql_limit(BATCH_ROWS)), |row| row.number(0))?;
    delete_each(db, &old, &OF_SESSION)
}

fn delete_each(db: &Db, old: &[i64], statements: &[&'static str]) -> Result<usize, Failure> {
    for sql in statements {
        let mut statement = db.sql(sql)?;
        for seq in old {
            statement.execute([seq])?;
        }
    }
    Ok(old.len())
}

/// Deletes one kind of rows, batch by batch.
async fn all(
    store: &SqliteStore,
    batch: impl Fn(&Db) -> Result<usize, Failure> + Send + Copy + 'static,
) -> Result<u64, StoreError> {
    let mut sum = 0;
    for _ in 0..MAX_BATCHES {
        let deleted = store.write(BATCH_ROWS, move |db| batch(db)).await?;
        sum += deleted as u64;
        if deleted < BATCH_ROWS {
            break;
        }
    }
    Ok(sum)
}

#[async_trait]
impl RetentionStore for SqliteStore {
    /// Outbox rows are deleted when they are settled, so there are none to delete here.
    async fn prune(&self, horizon: Horizon) -> Result<u64, StoreError> {
        let before = horizon.events;
        let mut sum = all(self, move |db| delete(db, EVENTS, before)).await?;
        sum += all(self, move |db| delete(db, KEYS, before)).await?;
        if let Some(before) = horizon.tasks {
            sum += all(self, move |db| tasks(db, before)).await?;
            sum += all(self, move |db| sessions(db, before)).await?;
            sum += all(self, move |db| delete(db, SLOTS, before)).await?;
            sum += all(self, move |db| delete(db, DEAD_LETTERS, before)).await?;
        }
        if let Some(before) = horizon.usage {
            sum += all(self, move |db| delete(db, LEDGER, before)).await?;
        }
        Ok(sum)
    }
}
