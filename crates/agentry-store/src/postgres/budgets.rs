//! [`BudgetStore`] on PostgreSQL. The lock of the agent's row in `budget_days` orders reservations of all processes.

use agentry_core::id::CallId;
use agentry_core::money::NanoUsd;
use async_trait::async_trait;

use super::PostgresStore;
use super::failure::Failure;
use super::liveness::not_dead;
use super::pool::{Db, Tx};
use super::rows::{SqlId, execute, only};
use crate::port::REREAD_US;
use crate::sql::columns::Columns;
use crate::{BudgetStore, Reservation, ReserveResult, StoreError};

/// Creates the agent's row and locks it. The ledger sum of a new row was never read.
const LOCK: &str = "INSERT INTO budget_days AS b (agent, day, spent, read_at) VALUES ($1, 0, 0, 0)
    ON CONFLICT (agent) DO UPDATE SET read_at = b.read_at RETURNING day, spent, read_at";

const RESERVED: &str = "SELECT coalesce(sum(amount), 0)::bigint FROM reservations WHERE agent = $1 AND call <> $2";

/// Sums the ledger, and ends the reservations of calls that are in that sum or whose worker is dead: one statement, so
/// that both see the same snapshot and no call is in neither.
const READ_AGAIN: &str = concat!(
    "WITH sums AS (
        SELECT coalesce(sum(cost), 0)::bigint AS spent FROM ledger WHERE agent = $1 AND at >= $2 AND at < $3
    ), over AS (
        DELETE FROM reservations r WHERE r.agent = $1 AND (
            EXISTS (SELECT 1 FROM ledger l WHERE l.task = r.task AND l.call = r.call)
            OR (r.worker <> $5 AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = r.worker AND ",
    not_dead!("w"),
    ")))
    )
    UPDATE budget_days SET day = $2, spent = (SELECT spent FROM sums), read_at = $4 WHERE agent = $1 RETURNING spent"
);

const INSERT: &str = "INSERT INTO reservations (call, task, agent, worker, amount) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (call) DO UPDATE SET amount = excluded.amount";

async fn reserve(db: &Db, request: &Reservation) -> Result<ReserveResult, Failure> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    // A reservation that a crash of the server undoes belongs to a call without a journal entry.
    execute(&tx, "SET LOCAL synchronous_commit = off", &[]).await?;
    let agent = request.agent.as_str();
    let (known_day, known, read_at) =
        only(&tx, LOCK, &[&agent], |row| Ok((row.number(0)?, row.number(1)?, row.number(2)?))).await?;
    let is_fresh = known_day == request.day().0 && read_at > request.now.0 - REREAD_US;
    let mut spent = known;
    let mut reserved = sum(&tx, request).await?;
    if !is_fresh || !request.fits(spent, reserved) {
        spent = read_again(&tx, request).await?;
        reserved = sum(&tx, request).await?;
    }
    let answer = if request.fits(spent, reserved) {
        let (call, task) = (SqlId(*request.call.as_bytes()), SqlId(*request.task.as_bytes()));
        let worker = SqlId(*request.worker.as_bytes());
        execute(&tx, INSERT, &[&call, &task, &agent, &worker, &request.amount.0]).await?;
        ReserveResult::Reserved
    } else {
        ReserveResult::OverCap { spent: NanoUsd(spent), reserved: NanoUsd(reserved) }
    };
    tx.commit().await?;
    Ok(answer)
}

/// Returns the sum of the reservations for other calls of the agent.
async fn sum(tx: &Tx<'_>, request: &Reservation) -> Result<i64, Failure> {
    let call = SqlId(*request.call.as_bytes());
    only(tx, RESERVED, &[&request.agent.as_str(), &call], |row| row.number(0)).await
}

async fn read_again(tx: &Tx<'_>, request: &Reservation) -> Result<i64, Failure> {
    let (day, next) = request.day();
    let worker = SqlId(*request.worker.as_bytes());
    only(tx, READ_AGAIN, &[&request.agent.as_str(), &day, &next, &request.now.0, &worker], |row| row.number(0)).await
}

#[async_trait]
impl BudgetStore for PostgresStore {
    async fn reserve(&self, reservation: Reservation) -> Result<ReserveResult, StoreError> {
        self.db.retrying(|_| reserve(&self.db, &reservation)).await
    }

    async fn release(&self, call: CallId) -> Result<(), StoreError> {
        let sql = "DELETE FROM reservations WHERE call = $1";
        self.db.execute(sql, &[&SqlId(*call.as_bytes())]).await.map(drop)
    }
}
