//! [`OutboxStore`] on PostgreSQL. A sent message is deleted; one that is given up becomes a dead letter.

use agentry_core::id::{OutboxId, WorkerId};
use agentry_core::outbox::OutboxMessage;
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use super::failure::Failure;
use super::liveness::not_dead;
use super::pool::{Conn, Db, Tx};
use super::rows::{Params, SqlId, execute, rows};
use super::{PostgresStore, dead_letters};
use crate::sql::columns::{Columns, all_to_json};
use crate::sql::limits::sql_limit;
use crate::{Delivery, OutboxStore, PendingMessage, StoreError};

/// Number of due messages whose claimers are checked with each claim. Messages of dead workers are among the oldest;
/// with more than this many claimed ones before them, they are found once those are settled.
const MAX_LOOKED_AT: i64 = 4_096;

/// Inserts messages that are due at once. An existing message stays unchanged.
pub(super) async fn insert_all(tx: &Tx<'_>, messages: &[OutboxMessage]) -> Result<(), Failure> {
    if messages.is_empty() {
        return Ok(());
    }
    let ids: Vec<SqlId> = messages.iter().map(|message| SqlId(*message.id.as_bytes())).collect();
    let ready: Vec<i64> = messages.iter().map(|message| message.created_at.0).collect();
    let bodies = all_to_json(messages)?;
    let sql = "INSERT INTO outbox (id, ready_at, attempt, message)
               SELECT id, ready_at, 0, message
               FROM UNNEST($1::uuid[], $2::bigint[], $3::text[]) WITH ORDINALITY AS f (id, ready_at, message, n)
               ORDER BY n
               ON CONFLICT (id) DO NOTHING";
    execute(tx, sql, &[&ids, &ready, &bodies]).await.map(drop)
}

/// Returns claimers of due messages that deregistered or were declared dead.
///
/// One snapshot has claims and workers: a worker is registered before it claims, so its row is there with its claims.
async fn dead_claimers(conn: &Conn, now: Timestamp) -> Result<Vec<SqlId>, Failure> {
    const DEAD_CLAIMERS: &str = concat!(
        "SELECT DISTINCT claimed_by FROM (
             SELECT claimed_by FROM outbox WHERE ready_at <= $1 ORDER BY ready_at, seq LIMIT $2
         ) AS oldest
         WHERE claimed_by IS NOT NULL AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = claimed_by AND ",
        not_dead!("w"),
        ")"
    );
    rows(conn, DEAD_CLAIMERS, &[&now.0, &MAX_LOOKED_AT], |row| Ok(row.try_get(0)?)).await
}

async fn claim(
    db: &Db,
    worker: WorkerId,
    now: Timestamp,
    limit: usize,
    held: &[SqlId],
) -> Result<Vec<PendingMessage>, Failure> {
    let conn = db.conn().await?;
    let worker = SqlId(*worker.as_bytes());
    let dead = dead_claimers(&conn, now).await?;
    let sql = "WITH due AS (
                   SELECT id FROM outbox
                   WHERE ready_at <= $2 AND (claimed_by IS NULL OR claimed_by = ANY($4)
                                             OR (claimed_by = $1 AND id <> ALL($5)))
                   ORDER BY ready_at, seq LIMIT $3 FOR UPDATE SKIP LOCKED
               )
               UPDATE outbox o SET claimed_by = $1, attempt = o.attempt + 1 FROM due WHERE o.id = due.id
               RETURNING o.ready_at, o.seq, o.attempt, o.message";
    let mut claimed = rows(&conn, sql, &[&worker, &now.0, &sql_limit(limit), &dead, &held], |row| {
        let order = (row.number(0)?, row.number(1)?);
        Ok((order, PendingMessage { attempt: row.count(2)?, message: row.json(3)? }))
    })
    .await?;
    // The server returns them in the order of the update.
    claimed.sort_unstable_by_key(|(order, _)| *order);
    Ok(claimed.into_iter().map(|(_, pending)| pending).collect())
}

/// Results of attempts, by kind.
#[derive(Default)]
struct Results {
    sent: Vec<SqlId>,
    again: Vec<SqlId>,
    again_at: Vec<i64>,
    dead: Vec<SqlId>,
    reasons: Vec<String>,
}

impl Results {
    fn new(mut results: Vec<(OutboxId, Delivery)>) -> Self {
        // In the order of ids, so that concurrent settlements of the same messages do not deadlock.
        results.sort_by_key(|(id, _)| *id.as_bytes());
        let mut sorted = Self::default();
        for (id, delivery) in results {
            let id = SqlId(*id.as_bytes());
            match delivery {
                Delivery::Sent => sorted.sent.push(id),
                Delivery::RetryAt(at) => {
                    sorted.again.push(id);
                    sorted.again_at.push(at.0);
                }
                Delivery::Dead(reason) => {
                    sorted.dead.push(id);
                    sorted.reasons.push(reason);
                }
            }
        }
        sorted
    }
}

const SETTLE: &str = "
    WITH again AS (
        UPDATE outbox o SET claimed_by = NULL, ready_at = f.ready_at
        FROM UNNEST($2::uuid[], $3::bigint[]) AS f (id, ready_at) WHERE o.id = ANY($2) AND o.id = f.id
    ) DELETE FROM outbox WHERE id = ANY($1)";

async fn settle(db: &Db, results: &Results, now: Timestamp) -> Result<(), Failure> {
    let mut conn = db.conn().await?;
    let settled: Params<'_> = &[&results.sent, &results.again, &results.again_at];
    if results.dead.is_empty() {
        return execute(&conn, SETTLE, settled).await.map(drop);
    }
    let tx = conn.transaction().await?;
    execute(&tx, SETTLE, settled).await?;
    let sql = "DELETE FROM outbox WHERE id = ANY($1) RETURNING message";
    let messages = rows(&tx, sql, &[&results.dead], |row| row.json(0)).await?;
    let reason = |message: OutboxMessage| {
        let place = results.dead.binary_search(&SqlId(*message.id.as_bytes())).ok()?;
        Some((message, results.reasons[place].as_str()))
    };
    let given_up: Vec<_> = messages.into_iter().filter_map(reason).collect();
    dead_letters::insert_messages(&tx, &given_up, now).await?;
    tx.commit().await?;
    Ok(())
}

#[async_trait]
impl OutboxStore for PostgresStore {
    async fn claim_outbox(
        &self,
        worker: WorkerId,
        now: Timestamp,
        limit: usize,
        held: &[OutboxId],
    ) -> Result<Vec<PendingMessage>, StoreError> {
        let held = &held.iter().map(|id| SqlId(*id.as_bytes())).collect::<Vec<_>>();
        self.db.retrying(|_| claim(&self.db, worker, now, limit, held)).await
    }

    async fn settle_outbox(&self, results: Vec<(OutboxId, Delivery)>, now: Timestamp) -> Result<(), StoreError> {
        if results.is_empty() {
            return Ok(());
        }
        let results = &Results::new(results);
        self.db.retrying(|_| settle(&self.db, results, now)).await
    }

    async fn next_outbox(&self) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT ready_at FROM outbox WHERE claimed_by IS NULL ORDER BY ready_at, seq LIMIT 1";
        self.db.row(sql, &[], |row| row.time(0)).await
    }
}
