//! Forgetting what is too old to matter: in pieces, so that no statement and no lock lasts long.

use agentry_core::time::Timestamp;

use super::PostgresStore;
use super::pool::Db;
use super::rows::execute;
use crate::StoreError;

/// Rows deleted by one statement: some tens of milliseconds of work.
const PIECE: i64 = 5_000;
/// Pieces of one table in one call: five million rows; what is left goes with the next call.
const MAX_PIECES: usize = 1_000;

/// Rows that another process deletes at the moment are passed over.
const EVENTS: &str = "DELETE FROM events WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM events WHERE at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)) AND at < $1";
const KEYS: &str = "DELETE FROM idempotency WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM idempotency WHERE created_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)) AND created_at < $1";

/// Adds what connections that are gone have counted to the row of nobody, so that the sums stay short.
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

async fn delete(db: &Db, sql: &str, before: Timestamp) -> Result<u64, StoreError> {
    let mut deleted = 0;
    for _ in 0..MAX_PIECES {
        let piece = db.retrying(|_| async move { execute(&db.conn().await?, sql, &[&before.0, &PIECE]).await }).await?;
        deleted += piece;
        if piece == 0 {
            break;
        }
    }
    Ok(deleted)
}

/// Forgets events and idempotency keys. Outbox rows are deleted when they are settled, so there are none to forget.
pub(super) async fn prune(store: &PostgresStore, before: Timestamp) -> Result<u64, StoreError> {
    let db = &store.db;
    let events = delete(db, EVENTS, before).await?;
    let keys = delete(db, KEYS, before).await?;
    db.retrying(|_| async move { execute(&db.conn().await?, FOLD, &[]).await }).await?;
    Ok(events + keys)
}
