//! The port: one trait per concern. A backend implements them all.

mod access;
mod budgets;
mod clarifications;
mod dead_letters;
mod events;
mod fleet;
mod outbox;
mod recent_tasks;
mod retention;
mod schedules;
mod sessions;
mod tasks;
mod usage;

pub use access::{AUDIT_KEPT, AccessStore, MAX_BROWSER_SESSIONS_PER_KEY, MAX_KEYS, REVOKED_KEPT};
pub(crate) use access::{audit_horizon, revoked_horizon};
pub(crate) use budgets::REREAD_US;
pub use budgets::{BudgetStore, Reservation, ReserveResult};
pub(crate) use clarifications::resolved_at;
pub use clarifications::{ClarificationStore, ResolveResult};
pub(crate) use dead_letters::outbox_body;
pub use dead_letters::{DeadLetter, DeadLetterOrigin, DeadLetterState, DeadLetterStore};
pub use events::{EventAcceptance, EventStore, IncomingEvent};
pub use fleet::{AgentStatus, FleetChanges, FleetRow, FleetStore, ReplacePolicy, VersionOffer};
pub use outbox::{Delivery, OutboxStore, PendingMessage};
pub(crate) use recent_tasks::timestamp_of_id;
pub use recent_tasks::{MAX_RECENT_TASKS, RecentTask, RecentTaskStore};
pub use retention::{Horizon, RetentionStore};
pub(crate) use schedules::merge;
pub use schedules::{Firing, FiringResult, ScheduleChanges, ScheduleStore, SlotRecord, SlotState};
pub use sessions::{SessionClaim, SessionStore, SessionView};
pub use tasks::{
    AcceptError, Acceptance, Advance, AdvanceResult, Backlog, CancelResult, ClaimRequest, ClaimedTask, Lease, Page,
    QueueCounts, QueuedTasks, Step, TaskFilter, TaskStore,
};
pub(crate) use usage::FORGOTTEN;
pub use usage::{CallCursor, UsageGroup, UsageRow, UsageStore};

/// Largest number of rows that any list returns at once.
pub const MAX_PAGE: usize = 1_000;

macro_rules! state_store {
    ($($port:ident, $layer:ident { $($method:tt)* })*) => {
        /// Everything that Agentry needs from a state store.
        ///
        /// # Errors
        ///
        /// Every method of every trait fails with [`StoreError::Unavailable`] when the store cannot be reached or
        /// cannot write now, with [`StoreError::Full`] when too many calls are waiting for it, and with
        /// [`StoreError::Broken`] when it holds unreadable data. Methods document further errors.
        ///
        /// [`StoreError::Unavailable`]: crate::StoreError::Unavailable
        /// [`StoreError::Full`]: crate::StoreError::Full
        /// [`StoreError::Broken`]: crate::StoreError::Broken
        pub trait StateStore: $($port +)* {}

        impl<T: $($port +)*> StateStore for T {}
    };
}

crate::for_each_store_method!(state_store);
