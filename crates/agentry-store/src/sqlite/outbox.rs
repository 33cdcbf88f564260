//! [`OutboxStore`] on SQLite. A message that was sent is deleted; one that was given up becomes a dead letter.

use std::collections::HashSet;

use agentry_core::id::{OutboxId, WorkerId};
use agentry_core::outbox::OutboxMessage;
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use super::db::Db;
use super::failure::Failure;
use super::rows::{collect, first, from_json, sql_limit, to_json};
use super::{SqliteStore, dead_letters, recover};
use crate::{Delivery, OutboxStore, PendingMessage, StoreError};

/// Puts messages into the outbox, due at once. A message that is there already stays as it is.
pub(super) fn insert_all(db: &Db, messages: &[OutboxMessage]) -> Result<(), Failure> {
    for message in messages {
        insert(db, message, message.created_at)?;
    }
    Ok(())
}

/// Puts a message into the outbox.
pub(super) fn insert(db: &Db, message: &OutboxMessage, ready_at: Timestamp) -> Result<(), Failure> {
    db.sql("INSERT OR IGNORE INTO outbox (id, attempt, ready_at, message) VALUES (?1, 0, ?2, ?3)")?.execute((
        message.id.as_bytes(),
        ready_at.0,
        to_json(message)?,
    ))?;
    Ok(())
}

/// Frees messages whose claimer left or was declared dead.
pub(super) fn free_of_the_dead(db: &Db) -> Result<(), Failure> {
    let mut statement = db.sql("SELECT DISTINCT claimed_by FROM outbox WHERE claimed_by IS NOT NULL")?;
    let claimers = collect(&mut statement, [], |row| Ok(WorkerId::from_bytes(row.get(0)?)))?;
    for claimer in claimers {
        if !recover::is_registered(db, claimer)? {
            db.sql("UPDATE outbox SET claimed_by = NULL WHERE claimed_by = ?1")?.execute([claimer.as_bytes()])?;
        }
    }
    Ok(())
}

/// Frees messages that their claimer does not know of: the answer to its claim, or the settling, was lost.
fn free_of_nobody(db: &Db, claimer: WorkerId, held: &HashSet<OutboxId>) -> Result<(), Failure> {
    let mut statement = db.sql("SELECT id FROM outbox WHERE claimed_by = ?1")?;
    let claimed = collect(&mut statement, [claimer.as_bytes()], |row| Ok(OutboxId::from_bytes(row.get(0)?)))?;
    for id in claimed.iter().filter(|id| !held.contains(id)) {
        db.sql("UPDATE outbox SET claimed_by = NULL WHERE id = ?1")?.execute([id.as_bytes()])?;
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
    free_of_the_dead(db)?;
    free_of_nobody(db, worker, held)?;
    let mut statement = db.sql(
        "SELECT seq, attempt, message FROM outbox WHERE claimed_by IS NULL AND ready_at <= ?1 ORDER BY ready_at, seq LIMIT ?2",
    )?;
    let due = collect(&mut statement, (now.0, sql_limit(limit)), |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)? + 1, super::rows::json_at(row, 2)?))
    })?;
    due.into_iter()
        .map(|(seq, attempt, message)| {
            db.sql("UPDATE outbox SET claimed_by = ?2, attempt = ?3 WHERE seq = ?1")?.execute((
                seq,
                worker.as_bytes(),
                attempt,
            ))?;
            Ok(PendingMessage { message, attempt })
        })
        .collect()
}

fn settle(db: &mut Db, id: OutboxId, delivery: &Delivery, now: Timestamp) -> Result<(), Failure> {
    match delivery {
        Delivery::Sent => {
            db.sql("DELETE FROM outbox WHERE id = ?1")?.execute([id.as_bytes()])?;
        }
        Delivery::RetryAt(at) => {
            db.sql("UPDATE outbox SET claimed_by = NULL, ready_at = ?2 WHERE id = ?1")?
                .execute((id.as_bytes(), at.0))?;
        }
        Delivery::Dead(reason) => {
            let mut statement = db.sql("DELETE FROM outbox WHERE id = ?1 RETURNING message")?;
            let message = first(&mut statement, [id.as_bytes()], |row| Ok(row.get::<_, String>(0)?))?;
            drop(statement);
            if let Some(message) = message {
                dead_letters::insert_message(db, &from_json(&message)?, reason, now)?;
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
        self.read(|conn| {
            let sql = "SELECT ready_at FROM outbox WHERE claimed_by IS NULL ORDER BY ready_at, seq LIMIT 1";
            first(&mut *conn.prepare_cached(sql)?, [], |row| Ok(Timestamp(row.get(0)?)))
        })
        .await
    }
}
