//! [`BudgetStore`] on SQLite. The one writer orders reservations.

use agentry_core::id::{CallId, TaskId, WorkerId};
use agentry_core::money::NanoUsd;
use async_trait::async_trait;

use super::db::Db;
use super::failure::Failure;
use super::rows::{exists, row, rows, value};
use super::{SqliteStore, recover};
use crate::port::REREAD_US;
use crate::sql::columns::Columns;
use crate::{BudgetStore, Reservation, ReserveResult, StoreError};

fn reserve(db: &Db, request: &Reservation) -> Result<ReserveResult, Failure> {
    let (day, _) = request.day();
    let sql = "SELECT spent FROM budget_days WHERE agent = ?1 AND day = ?2 AND read_at > ?3";
    let known = row(&db.conn, sql, (request.agent.as_str(), day, request.now.0 - REREAD_US), |row| row.number(0))?;
    let spent = match known {
        Some(spent) if request.fits(spent, reserved(db, request)?) => spent,
        _ => read_again(db, request)?,
    };
    let reserved = reserved(db, request)?;
    if !request.fits(spent, reserved) {
        return Ok(ReserveResult::OverCap { spent: NanoUsd(spent), reserved: NanoUsd(reserved) });
    }
    db.execute(
        "INSERT OR REPLACE INTO reservations (call, task, agent, worker, amount) VALUES (?1, ?2, ?3, ?4, ?5)",
        (
            request.call.as_bytes(),
            request.task.as_bytes(),
            request.agent.as_str(),
            request.worker.as_bytes(),
            request.amount.0,
        ),
    )?;
    Ok(ReserveResult::Reserved)
}

/// Returns the sum of the reservations for other calls of the agent.
fn reserved(db: &Db, request: &Reservation) -> Result<i64, Failure> {
    let sql = "SELECT coalesce(sum(amount), 0) FROM reservations WHERE agent = ?1 AND call <> ?2";
    value(&db.conn, sql, (request.agent.as_str(), request.call.as_bytes()))
}

/// Sums the ledger, and ends the reservations of calls that are in that sum or whose worker is dead.
fn read_again(db: &Db, request: &Reservation) -> Result<i64, Failure> {
    let (day, next) = request.day();
    let agent = request.agent.as_str();
    let sum = "SELECT coalesce(sum(cost), 0) FROM ledger
               WHERE agent = (SELECT id FROM names WHERE name = ?1) AND at >= ?2 AND at < ?3";
    let spent: i64 = value(&db.conn, sum, (agent, day, next))?;
    let open: Vec<(CallId, TaskId, WorkerId)> =
        rows(&db.conn, "SELECT call, task, worker FROM reservations WHERE agent = ?1", [agent], |row| {
            Ok((row.id(0)?, row.id(1)?, row.id(2)?))
        })?;
    let written = "SELECT 1 FROM ledger WHERE task = (SELECT seq FROM tasks WHERE id = ?1) AND call = ?2";
    for (call, task, worker) in open {
        let in_ledger = exists(&db.conn, written, (task.as_bytes(), call.as_bytes()))?;
        if in_ledger || !(worker == request.worker || recover::is_registered(db, worker)?) {
            release(db, call)?;
        }
    }
    let sql = "INSERT OR REPLACE INTO budget_days (agent, day, spent, read_at) VALUES (?1, ?2, ?3, ?4)";
    db.execute(sql, (agent, day, spent, request.now.0))?;
    Ok(spent)
}

fn release(db: &Db, call: CallId) -> Result<(), Failure> {
    db.execute("DELETE FROM reservations WHERE call = ?1", [call.as_bytes()]).map(drop)
}

#[async_trait]
impl BudgetStore for SqliteStore {
    /// Need not reach the disk before the call is made: the folder belongs to one process, and every reservation ends
    /// with it.
    async fn reserve(&self, reservation: Reservation) -> Result<ReserveResult, StoreError> {
        self.write_relaxed(2, move |db| reserve(db, &reservation)).await
    }

    async fn release(&self, call: CallId) -> Result<(), StoreError> {
        self.write_relaxed(1, move |db| release(db, call)).await
    }
}
