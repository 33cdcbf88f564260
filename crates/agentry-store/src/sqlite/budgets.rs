//! [`BudgetStore`] on SQLite. The one writer orders reservations.

use agentry_core::id::{CallId, TaskId, WorkerId};
use agentry_core::money::NanoUsd;
use async_trait::async_trait;

use super::db::Db;
use super::failure::Failure;
use super::rows::{collect, first};
use super::{SqliteStore, recover};
use crate::port::REREAD_US;
use crate::{BudgetStore, Reservation, Reserved, StoreError};

fn reserve(db: &Db, want: &Reservation) -> Result<Reserved, Failure> {
    let (day, _) = want.day();
    let known = first(
        &mut *db.sql("SELECT spent FROM budget_days WHERE agent = ?1 AND day = ?2 AND read_at > ?3")?,
        (want.agent.as_str(), day, want.now.0 - REREAD_US),
        |row| Ok(row.get::<_, i64>(0)?),
    )?;
    let spent = match known {
        Some(spent) if fits(want, spent, reserved(db, want)?) => spent,
        _ => read_again(db, want)?,
    };
    let reserved = reserved(db, want)?;
    if !fits(want, spent, reserved) {
        return Ok(Reserved::No { spent: NanoUsd(spent), reserved: NanoUsd(reserved) });
    }
    db.sql("INSERT OR REPLACE INTO reservations (call, task, agent, worker, amount) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute((
            want.call.as_bytes(),
            want.task.as_bytes(),
            want.agent.as_str(),
            want.worker.as_bytes(),
            want.amount.0,
        ))?;
    Ok(Reserved::Yes)
}

fn fits(want: &Reservation, spent: i64, reserved: i64) -> bool {
    spent.saturating_add(reserved).saturating_add(want.amount.0) <= want.cap.0
}

/// What is set aside for other calls of the agent.
fn reserved(db: &Db, want: &Reservation) -> Result<i64, Failure> {
    let sql = "SELECT coalesce(sum(amount), 0) FROM reservations WHERE agent = ?1 AND call <> ?2";
    Ok(db.sql(sql)?.query_row((want.agent.as_str(), want.call.as_bytes()), |row| row.get(0))?)
}

/// Sums the ledger, and ends the reservations of calls that are in that sum or whose worker is dead.
fn read_again(db: &Db, want: &Reservation) -> Result<i64, Failure> {
    let (day, next) = want.day();
    let agent = want.agent.as_str();
    let sum = "SELECT coalesce(sum(cost), 0) FROM ledger
               WHERE agent = (SELECT id FROM names WHERE name = ?1) AND at >= ?2 AND at < ?3";
    let spent: i64 = db.sql(sum)?.query_row((agent, day, next), |row| row.get(0))?;
    let open: Vec<(CallId, TaskId, WorkerId)> =
        collect(&mut *db.sql("SELECT call, task, worker FROM reservations WHERE agent = ?1")?, [agent], |row| {
            Ok((CallId::from_bytes(row.get(0)?), TaskId::from_bytes(row.get(1)?), WorkerId::from_bytes(row.get(2)?)))
        })?;
    let written = "SELECT 1 FROM ledger WHERE task = (SELECT seq FROM tasks WHERE id = ?1) AND call = ?2";
    for (call, task, worker) in open {
        let in_ledger = db.sql(written)?.exists((task.as_bytes(), call.as_bytes()))?;
        if in_ledger || !(worker == want.worker || recover::is_registered(db, worker)?) {
            release(db, call)?;
        }
    }
    db.sql("INSERT OR REPLACE INTO budget_days (agent, day, spent, read_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute((agent, day, spent, want.now.0))?;
    Ok(spent)
}

fn release(db: &Db, call: CallId) -> Result<(), Failure> {
    db.sql("DELETE FROM reservations WHERE call = ?1")?.execute([call.as_bytes()])?;
    Ok(())
}

#[async_trait]
impl BudgetStore for SqliteStore {
    /// Need not reach the disk before the call is made: the folder belongs to one process, and with it every reservation
    /// dies.
    async fn reserve(&self, reservation: Reservation) -> Result<Reserved, StoreError> {
        self.write_soon(2, move |db| reserve(db, &reservation)).await
    }

    async fn release(&self, call: CallId) -> Result<(), StoreError> {
        self.write_soon(1, move |db| release(db, call)).await
    }
}
