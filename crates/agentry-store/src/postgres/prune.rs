//! [`RetentionStore`] on PostgreSQL: in batches, so that no statement and no lock lasts long.

use agentry_core::time::Timestamp;
use async_trait::async_trait;

use super::PostgresStore;
use super::pool::Db;
use super::rows::{Params, SqlId};
use crate::{Horizon, RetentionStore, StoreError};

/// Rows deleted per statement: some tens of milliseconds of work.
const BATCH_ROWS: i64 = 5_000;
/// Tasks or sessions deleted per statement, each with its rows of other tables.
const BATCH_ENTITIES: i64 = 500;
/// Largest number of batches of one table per call: five million rows; the next call deletes the rest.
const MAX_BATCHES: usize = 1_000;

/// Rows that another process deletes at the same time are skipped.
const EVENTS: &str = "DELETE FROM events WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM events WHERE at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)) AND at < $1";
const KEYS: &str = "DELETE FROM idempotency WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM idempotency WHERE created_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)) AND created_at < $1";
const SLOTS: &str = "DELETE FROM slots WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM slots WHERE NOT open AND decided_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))
    AND NOT open AND decided_at < $1";
const DEAD_LETTERS: &str = "DELETE FROM dead_letters WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM dead_letters WHERE state <> 0 AND created_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))
    AND state <> 0 AND created_at < $1";
const LEDGER: &str = "DELETE FROM ledger WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM ledger WHERE at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)) AND at < $1";

/// Ended tasks by age, with their rows of other tables except the ledger.
const TASKS: &str = "WITH old AS MATERIALIZED (
        SELECT id FROM ended_tasks WHERE id < $3 AND finished_at < $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
    ), bodies AS (DELETE FROM tasks WHERE id = ANY (ARRAY(SELECT id FROM old))
    ), entries AS (DELETE FROM journal WHERE task = ANY (ARRAY(SELECT id FROM old))
    ), questions AS (DELETE FROM clarifications WHERE task = ANY (ARRAY(SELECT id FROM old)))
    DELETE FROM ended_tasks WHERE id = ANY (ARRAY(SELECT id FROM old))";

/// Sessions without recent activity or open tasks, with their messages. One that is being claimed is locked and
/// skipped.
const SESSIONS: &str = "WITH old AS MATERIALIZED (
        SELECT seq FROM sessions s
        WHERE updated_at < $1 AND NOT EXISTS (SELECT 1 FROM open_tasks o WHERE o.session = s.id)
        ORDER BY updated_at LIMIT $2 FOR UPDATE SKIP LOCKED
    ), said AS (DELETE FROM messages WHERE session = ANY (ARRAY(SELECT seq FROM old)))
    DELETE FROM sessions WHERE seq = ANY (ARRAY(SELECT seq FROM old))";

/// Moves the counts of closed connections to the row without a connection, so that the table stays short.
const FOLD: &str = "WITH old AS (
        SELECT pid FROM counters c
        WHERE pid <> 0 AND NOT EXISTS (SELECT 1 FROM pg_stat_activity a WHERE a.pid = c.pid)
        ORDER BY pid FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM counters c USING old WHERE c.pid = old.pid RETURNING c.queued, c.running, c.waiting
    )
    INSERT INTO counters AS c (pid, queued, running, waiting)
    SELECT 0, sum(queued), sum(running), sum(waiting) FROM gone HAVING count(*) > 0
    ON CONFLICT (pid) DO UPDATE SET queued = c.queued + excluded.queued, running = c.running + excluded.running,
        waiting = c.waiting + excluded.waiting";

/// Deletes batch by batch until a batch finds no rows.
async fn delete(db: &Db, sql: &str, params: Params<'_>) -> Result<u64, StoreError> {
    let mut deleted = 0;
    for _ in 0..MAX_BATCHES {
        let batch = db.execute(sql, params).await?;
        deleted += batch;
        if batch == 0 {
            break;
        }
    }
    Ok(deleted)
}

/// Deletes tasks and everything that follows their age.
async fn tasks(db: &Db, before: Timestamp) -> Result<u64, StoreError> {
    let first = SqlId(*Horizon::first_id_of(before).as_bytes());
    let tasks = delete(db, TASKS, &[&before.0, &BATCH_ENTITIES, &first]).await?;
    let sessions = delete(db, SESSIONS, &[&before.0, &BATCH_ENTITIES]).await?;
    let slots = delete(db, SLOTS, &[&before.0, &BATCH_ROWS]).await?;
    let letters = delete(db, DEAD_LETTERS, &[&before.0, &BATCH_ROWS]).await?;
    Ok(tasks + sessions + slots + letters)
}

#[async_trait]
impl RetentionStore for PostgresStore {
    /// Outbox rows are deleted when they are settled, so there are none to delete here.
    async fn prune(&self, horizon: Horizon) -> Result<u64, StoreError> {
        let db = &self.db;
        let mut sum = delete(db, EVENTS, &[&horizon.events.0, &BATCH_ROWS]).await?;
        sum += delete(db, KEYS, &[&horizon.events.0, &BATCH_ROWS]).await?;
        if let Some(before) = horizon.tasks {
            sum += tasks(db, before).await?;
        }
        if let Some(before) = horizon.usage {
            sum += delete(db, LEDGER, &[&before.0, &BATCH_ROWS]).await?;
        }
        db.execute(FOLD, &[]).await?;
        Ok(sum)
    }
}
