//! The port, one trait for each concern. A backend implements them all.

mod access;
mod budgets;
mod clarifications;
mod dead_letters;
mod events;
mod fleet;
mod outbox;
mod pulse;
mod retention;
mod schedules;
mod sessions;
mod tasks;
mod usage;

pub use access::{AUDIT_KEPT, AccessStore, MAX_BROWSER_SESSIONS_PER_KEY, MAX_KEYS, REVOKED_KEPT};
pub(crate) use access::{audit_horizon, revoked_horizon};
pub(crate) use budgets::REREAD_US;
pub use budgets::{BudgetStore, Reservation, Reserved};
pub(crate) use clarifications::resolved_at;
pub use clarifications::{Answered, ClarificationStore};
pub(crate) use dead_letters::outbox_body;
pub use dead_letters::{DeadLetter, DeadLetterOrigin, DeadLetterState, DeadLetterStore};
pub use events::{EventAccepted, EventStore, IncomingEvent};
pub use fleet::{AgentStatus, FleetChanges, FleetRow, FleetStore, Replaces, VersionOffer};
pub use outbox::{Delivery, OutboxStore, PendingMessage};
pub(crate) use pulse::moment_of;
pub use pulse::{MAX_PULSE, PulseStore, TaskPulse};
pub use retention::{Horizon, RetentionStore};
pub(crate) use schedules::merged;
pub use schedules::{Firing, FiringResult, ScheduleChanges, ScheduleStore, SlotRecord, SlotState};
pub use sessions::{SessionClaim, SessionStore, SessionView};
pub use tasks::{
    Accepted, Advance, Advanced, Backlog, Cancelled, Claimed, Lease, Page, QueueCounts, Queued, Refused, Step,
    TaskFilter, TaskStore, Want,
};
pub(crate) use usage::FORGOTTEN;
pub use usage::{CallCursor, UsageGroup, UsageRow, UsageStore};

/// The most rows any list returns at once.
pub const MAX_PAGE: usize = 1_000;

macro_rules! state_store {
    ($($port:ident, $layer:ident { $($method:tt)* })*) => {
        /// Everything Agentry asks of a state store.
        ///
        /// # Errors
        ///
        /// Every method of every concern fails with [`StoreError::Unavailable`] when the store cannot be reached or cannot
        /// write now, with [`StoreError::Full`] when too many calls wait for it, and with [`StoreError::Broken`] when it
        /// holds what it cannot read. Further errors are named at the methods.
        ///
        /// [`StoreError::Unavailable`]: crate::StoreError::Unavailable
        /// [`StoreError::Full`]: crate::StoreError::Full
        /// [`StoreError::Broken`]: crate::StoreError::Broken
        pub trait StateStore: $($port +)* {}

        impl<T: $($port +)*> StateStore for T {}
    };
}

crate::for_each_store_method!(state_store);
