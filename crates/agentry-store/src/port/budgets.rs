//! Budgets of a day: money is set aside before a call, by whichever process makes it.

use agentry_core::agent::AgentName;
use agentry_core::id::{CallId, TaskId, WorkerId};
use agentry_core::money::NanoUsd;
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use crate::StoreError;

/// How old a sum of the ledger may be when money is set aside; a refusal is never based on an old one.
pub(crate) const REREAD_US: i64 = 1_000_000;
/// A UTC day.
const DAY_US: i64 = 86_400_000_000;

/// What a call may cost at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The call; its ledger row takes the reservation's place. Retries of it stand under the same reservation.
    pub call: CallId,
    /// The task it is made for.
    pub task: TaskId,
    /// Whose budget.
    pub agent: AgentName,
    /// Who makes it; when it dies, the reservation goes.
    pub worker: WorkerId,
    /// What the call may cost.
    pub amount: NanoUsd,
    /// What the agent may spend on the UTC day of `now`.
    pub cap: NanoUsd,
    /// Now.
    pub now: Timestamp,
}

impl Reservation {
    /// The first moments of today and of tomorrow (UTC).
    pub(crate) fn day(&self) -> (i64, i64) {
        let start = self.now.0 - self.now.0.rem_euclid(DAY_US);
        (start, start + DAY_US)
    }

    /// Returns whether it stays within its cap beside what was spent and what is reserved, in nano-dollars.
    pub(crate) fn fits(&self, spent: i64, reserved: i64) -> bool {
        spent.saturating_add(reserved).saturating_add(self.amount.0) <= self.cap.0
    }
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// It is set aside.
    Yes,
    /// It does not fit under the cap any more.
    No {
        /// What the ledger has for today.
        spent: NanoUsd,
        /// What is set aside for calls under way.
        reserved: NanoUsd,
    },
}

/// Budgets of a day.
#[async_trait]
pub trait BudgetStore: Send + Sync + 'static {
    /// Sets money aside: what the ledger has for today, what is set aside, and this together stay within the cap, over
    /// all processes. The same call may be reserved again. A reservation ends with the ledger row of its call, with its
    /// worker, or by [`BudgetStore::release`].
    ///
    /// # Errors
    /// When the store is unavailable; then nothing is known of the reservation, and reserving again is safe.
    async fn reserve(&self, reservation: Reservation) -> Result<Reserved, StoreError>;

    /// Gives back what was set aside for a call that was not made.
    async fn release(&self, call: CallId) -> Result<(), StoreError>;
}
