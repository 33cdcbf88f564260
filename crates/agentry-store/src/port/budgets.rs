//! Daily budgets: a process reserves money before it makes a call.

use agentry_core::agent::AgentName;
use agentry_core::id::{CallId, TaskId, WorkerId};
use agentry_core::money::NanoUsd;
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use crate::StoreError;

/// Largest age of the cached ledger sum when money is reserved, in microseconds; a refusal is never based on a cached
/// sum.
pub(crate) const REREAD_US: i64 = 1_000_000;
/// Length of a UTC day in microseconds.
const DAY_US: i64 = 86_400_000_000;

/// A request to reserve the highest possible cost of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Id of the call. Its ledger row replaces the reservation; retries of the call share it.
    pub call: CallId,
    /// Task of the call.
    pub task: TaskId,
    /// Agent whose budget is charged.
    pub agent: AgentName,
    /// Worker that makes the call; the reservation ends when the worker dies.
    pub worker: WorkerId,
    /// Highest possible cost of the call.
    pub amount: NanoUsd,
    /// Budget of the agent on the UTC day of `now`.
    pub cap: NanoUsd,
    /// Current time.
    pub now: Timestamp,
}

impl Reservation {
    /// Returns the start of the current and of the next UTC day, in microseconds since the Unix epoch.
    pub(crate) fn day(&self) -> (i64, i64) {
        let start = self.now.0 - self.now.0.rem_euclid(DAY_US);
        (start, start + DAY_US)
    }

    /// Returns whether the amount fits under the cap on top of `spent` and `reserved` nano-dollars.
    pub(crate) fn fits(&self, spent: i64, reserved: i64) -> bool {
        spent.saturating_add(reserved).saturating_add(self.amount.0) <= self.cap.0
    }
}

/// Result of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReserveResult {
    /// The amount is reserved.
    Reserved,
    /// The amount does not fit under the cap.
    OverCap {
        /// Today's sum of the ledger.
        spent: NanoUsd,
        /// Sum of the reservations of calls in flight.
        reserved: NanoUsd,
    },
}

/// Stores reservations of daily budgets.
#[async_trait]
pub trait BudgetStore: Send + Sync + 'static {
    /// Reserves money, so that today's ledger sum, all reservations and this one together stay within the cap, across
    /// all processes. The same call may be reserved again. A reservation ends with the ledger row of its call, with its
    /// worker, or by [`BudgetStore::release`].
    ///
    /// # Errors
    /// The store is unavailable. Whether the money is reserved is unknown then, and reserving again is safe.
    async fn reserve(&self, reservation: Reservation) -> Result<ReserveResult, StoreError>;

    /// Releases the reservation of a call that was not made.
    async fn release(&self, call: CallId) -> Result<(), StoreError>;
}
