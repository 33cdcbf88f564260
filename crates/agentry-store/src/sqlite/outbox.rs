//! [`OutboxStore`] on SQLite. A sent message is deleted; one that is given up becomes a dead letter.

use std::collections::HashSet;

use agentry_core::id::{OutboxId, WorkerId};
use agentry_core::outbox::OutboxMessage;
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use super::db::Db;
use super::failure::Failure;
use super::rows::{row, rows};
use super::{SqliteStore, dead_letters, recover};
use crate::sql::columns::{Columns, to_json};
use crate::sql::limits::sql_limit;
use crate::{Delivery, OutboxStore, PendingMessage, StoreError};

/// Inserts messages that are due at once.
pub(super) fn insert_all(db: &Db, messages: &[OutboxMessage]) -> Result<(), Failure> {
    messages.iter().try_for_each(|message| insert_at(db, message, message.created_at))
}

pub(super) fn insert_at(db: &Db, message: &OutboxMessage, ready_at: Timestamp) -> Result<(), Failure> {
    insert(db, message.id, ready_at, &to_json(message)?)
}

/// Inserts an encoded message. An existing one stays unchanged.
pub(super) fn insert(db: &Db, id: OutboxId, ready_at: Timestamp, body: &str) -> Result<(), Failure> {
    let sql = "INSERT OR IGNORE INTO outbox (id, attempt, ready_at, message) VALUES (?1, 0, ?2, ?3)";
    db.execute(sql, (id.as_bytes(), ready_at.0, body)).map(drop)
}

/// Releases messages whose claimer deregistered or was declared dead.
pub(super) fn release_dead_claims(db: &Db) -> Result<(), Failure> {
    let sql = "SELECT DISTINCT claimed_by FROM outbox WHERE claimed_by IS NOT NULL";
    for claimer in rows(&db.conn, sql, [], |row| row.id::<WorkerId>(0))? {
        if !recover::is_registered(db, claimer)? {
            db.execute("UPDATE outbox SET claimed_by = NULL WHERE claimed_by = ?1", [claimer.as_bytes()])?;
        }
    }
    Ok(())
}

/// Releases messages that their claimer does not know of: the answer to its claim, or the settlement, was lost.
fn release_unknown_claims(db: &Db, claimer: WorkerId, held: &HashSet<OutboxId>) -> Result<(), Failure> {
    let sql = "SELECT id FROM outbox WHERE claimed_by = ?1";
    let claimed: Vec<OutboxId> = rows(&db.conn, sql, [claimer.as_bytes()], |row| row.id(0))?;
    for id in claimed.iter().filter(|id| !held.contains(id)) {
        db.execute("UPDATE outbox SET claimed_by = NULL WHERE id = ?1", [id.as_bytes()])?;
    }
    Ok(())
}

fn claim(
    db: &Db,
    worker: WorkerId,
    now: Timestamp,
    limit: usize,
    held: &HashSet<OutboxId>,
) -> Result<Vec<PendingMessage>, Failure> {
    release_dead_claims(db)?;
    release_unknown_claims(db, worker, held)?;
    let sql = "SELECT seq, attempt, message FROM outbox WHERE claimed_by IS NULL AND ready_at <= ?1
               ORDER BY ready_at, seq LIMIT ?2";
    let due = rows(&db.conn, sql, (now.0, sql_limit(limit)), |row| {
        Ok((row.number(0)?, PendingMessage { attempt: row.count::<u32>(1)? + 1, message: row.json(2)? }))
    })?;
    for (seq, pending) in &due {
        let sql = "UPDATE outbox SET claimed_by = ?2, attempt = ?3 WHERE seq = ?1";
        db.execute(sql, (seq, worker.as_bytes(), pending.attempt))?;
    }
    Ok(due.into_iter().map(|(_, pending)| pending).collect())
}

fn settle(db: &mut Db, id: OutboxId, delivery: &Delivery, now: Timestamp) -> Result<(), Failure> {
    match delivery {
        Delivery::Sent => {
            db.execute("DELETE FROM outbox WHERE id = ?1", [id.as_bytes()])?;
        }
        Delivery::RetryAt(at) => {
            let sql = "UPDATE outbox SET claimed_by = NULL, ready_at = ?2 WHERE id = ?1";
            db.execute(sql, (id.as_bytes(), at.0))?;
        }
        Delivery::Dead(reason) => {
            let sql = "DELETE FROM outbox WHERE id = ?1 RETURNING message";
            if let Some(message) = row(&db.conn, sql, [id.as_bytes()], |row| row.json(0))? {
                dead_letters::insert_message(db, &message, reason, now)?;
            }
        }
    }
    Ok(())
}

#[async_trait]
impl OutboxStore for SqliteStore {
    async fn claim_outbox(
        &self,
        worker: WorkerId,
        now: Timestamp,
        limit: usize,
        held: &[OutboxId],
    ) -> Result<Vec<PendingMessage>, StoreError> {
        let held: HashSet<OutboxId> = held.iter().copied().collect();
        self.write(limit.min(crate::MAX_PAGE), move |db| claim(db, worker, now, limit, &held)).await
    }

    async fn settle_outbox(&self, results: Vec<(OutboxId, Delivery)>, now: Timestamp) -> Result<(), StoreError> {
        self.write(results.len(), move |db| {
            results.iter().try_for_each(|(id, delivery)| settle(db, *id, delivery, now))
        })
        .await
    }

    async fn next_outbox(&self) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT ready_at FROM outbox WHERE claimed_by IS NULL ORDER BY ready_at, seq LIMIT 1";
        self.row(sql, [], |row| row.time(0)).await
    }
}
