//! Deletion of old data.

use std::time::Duration;

use agentry_core::id::TaskId;
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use crate::StoreError;

/// Ages of data to delete: everything older than these times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// Events (by arrival) and idempotency keys (by first use) from before this time are deleted.
    pub events: Timestamp,
    /// Tasks that were accepted *and* ended before this time are deleted with their journals and questions, as are
    /// sessions without activity since, decided slots and closed dead letters. `None` retains all of them.
    pub tasks: Option<Timestamp>,
    /// Ledger rows from before this time are deleted. They outlive their tasks, so that sums by agent, model and day
    /// stay correct. `None` retains all of them.
    pub usage: Option<Timestamp>,
}

impl Horizon {
    /// Returns a horizon that deletes only events and keys.
    #[must_use]
    pub fn events(before: Timestamp) -> Self {
        Self { events: before, tasks: None, usage: None }
    }

    /// Returns an id greater than those of all tasks created in milliseconds before `before`; ids are ordered by age.
    pub(crate) fn first_id_of(before: Timestamp) -> TaskId {
        let millis = u64::try_from(Duration::from_micros(u64::try_from(before.0).unwrap_or(0)).as_millis());
        TaskId::from_parts(millis.unwrap_or(u64::MAX), 0)
    }
}

/// Deletes old data.
#[async_trait]
pub trait RetentionStore: Send + Sync + 'static {
    /// Deletes data older than `horizon`, in batches that do not hold up other work, and returns the number of deleted
    /// events, keys, tasks, sessions, slots, dead letters and ledger rows. Open tasks are never deleted, whatever their
    /// age. Several processes may call it at once. A call does a bounded amount of work and leaves the rest to the next
    /// one.
    async fn prune(&self, horizon: Horizon) -> Result<u64, StoreError>;
}
