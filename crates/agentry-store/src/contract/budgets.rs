//! Contract tests of daily budgets: a cap is never exceeded, by any number of concurrent reservations.

use std::sync::Arc;

use agentry_core::id::{CallId, WorkerId};
use agentry_core::money::{LedgerRow, NanoUsd};
use agentry_core::time::Timestamp;

use super::build::{T0, agent, at, heartbeat, ledger_row, running, worker};
use crate::{Advance, Lease, Reservation, ReserveResult, StateStore, Step};

/// Daily budget of the test agent, in nano-dollars.
const CAP: i64 = 1_000;

fn want(lease: Lease, amount: i64, now: Timestamp) -> Reservation {
    Reservation {
        call: CallId::generate(),
        task: lease.task,
        agent: agent(),
        worker: lease.worker,
        amount: NanoUsd(amount),
        cap: NanoUsd(CAP),
        now,
    }
}

/// Writes the ledger row of a reserved call.
async fn pay(store: &Arc<dyn StateStore>, lease: Lease, call: CallId, cost: i64, at: Timestamp) {
    let mut write = Advance::new(lease, at, Step::Continue);
    write.ledger.push(LedgerRow { call, cost: Some(NanoUsd(cost)), at, ..ledger_row(lease.task, "m") });
    store.advance(write.into()).await.unwrap();
}

fn no(spent: i64, reserved: i64) -> ReserveResult {
    ReserveResult::OverCap { spent: NanoUsd(spent), reserved: NanoUsd(reserved) }
}

/// A hundred concurrent reservations get as much as the cap holds, and not one call more.
pub async fn a_hundred_at_once_stay_within_the_cap(store: Arc<dyn StateStore>) {
    let lease = running(&store, worker(&store, T0).await).await.lease;
    let tries = (0..100).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.reserve(want(lease, 30, T0)).await.unwrap() })
    });
    let mut yes = 0;
    for one in tries.collect::<Vec<_>>() {
        yes += usize::from(one.await.unwrap() == ReserveResult::Reserved);
    }
    assert_eq!(yes, 33, "33 × 30 of {CAP}");
    assert_eq!(store.reserve(want(lease, 11, T0)).await.unwrap(), no(0, 990));
    assert_eq!(store.reserve(want(lease, 10, T0)).await.unwrap(), ReserveResult::Reserved);
}

/// The ledger row replaces the reservation: the unused rest can be reserved at once.
pub async fn a_ledger_row_takes_the_place_of_its_reservation(store: Arc<dyn StateStore>) {
    let lease = running(&store, worker(&store, T0).await).await.lease;
    let first = want(lease, 900, at(1));
    assert_eq!(store.reserve(first.clone()).await.unwrap(), ReserveResult::Reserved);
    assert_eq!(store.reserve(first.clone()).await.unwrap(), ReserveResult::Reserved, "the same call again");
    assert_eq!(store.reserve(want(lease, 200, at(1))).await.unwrap(), no(0, 900));
    pay(&store, lease, first.call, 50, at(1)).await;
    assert_eq!(store.reserve(want(lease, 951, at(1))).await.unwrap(), no(50, 0));
    assert_eq!(store.reserve(want(lease, 950, at(1))).await.unwrap(), ReserveResult::Reserved);
}

/// Releasing a call that was not made frees its reservation.
pub async fn a_released_reservation_is_free(store: Arc<dyn StateStore>) {
    let lease = running(&store, worker(&store, T0).await).await.lease;
    let first = want(lease, CAP, T0);
    assert_eq!(store.reserve(first.clone()).await.unwrap(), ReserveResult::Reserved);
    store.release(first.call).await.unwrap();
    assert_eq!(store.reserve(want(lease, CAP, T0)).await.unwrap(), ReserveResult::Reserved);
}

/// A day ends at midnight UTC; calls in flight then count for the new day.
pub async fn a_new_day_has_its_cap(store: Arc<dyn StateStore>) {
    let lease = running(&store, worker(&store, T0).await).await.lease;
    let evening = at(86_399);
    let (paid, open) = (want(lease, 600, evening), want(lease, 400, evening));
    for one in [&paid, &open] {
        assert_eq!(store.reserve(one.clone()).await.unwrap(), ReserveResult::Reserved);
    }
    pay(&store, lease, paid.call, 600, evening).await;
    assert_eq!(store.reserve(want(lease, 1, evening)).await.unwrap(), no(600, 400));
    let morning = at(86_400);
    assert_eq!(store.reserve(want(lease, 601, morning)).await.unwrap(), no(0, 400));
    assert_eq!(store.reserve(want(lease, 600, morning)).await.unwrap(), ReserveResult::Reserved);
}

/// The reservations of a dead worker are free once it is declared dead.
pub async fn a_dead_worker_holds_no_reservation(store: Arc<dyn StateStore>) {
    let (dead, alive) = (worker(&store, T0).await, WorkerId::generate());
    let lost = running(&store, dead).await.lease;
    assert_eq!(store.reserve(want(lost, CAP, T0)).await.unwrap(), ReserveResult::Reserved);
    store.deregister(dead).await.unwrap();
    heartbeat(&store, alive, at(60)).await;
    store.recover(alive, at(60), 10).await.unwrap();
    let next = running(&store, alive).await.lease;
    assert_eq!(store.reserve(want(next, CAP, at(60))).await.unwrap(), ReserveResult::Reserved);
}
