//! Forgetting what is old enough.

use std::time::Duration;

use agentry_core::id::TaskId;
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use crate::StoreError;

/// What is forgotten: whatever is older than these moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// Events, by when they came, and idempotency keys, by when they were first used.
    pub events: Timestamp,
    /// Tasks that were accepted *and* ended before, with their journals and questions; conversations that nobody
    /// touched since; decided slots; dead letters that are closed. `None`: all are kept.
    pub tasks: Option<Timestamp>,
    /// Ledger rows. They outlive their tasks, so that sums by agent, model and day stay right. `None`: all are kept.
    pub usage: Option<Timestamp>,
}

impl Horizon {
    /// Forgets events and keys, and nothing else.
    #[must_use]
    pub fn events(before: Timestamp) -> Self {
        Self { events: before, tasks: None, usage: None }
    }

    /// An id that is larger than those of all tasks made in milliseconds before `before`: ids are ordered by age.
    pub(crate) fn first_id_of(before: Timestamp) -> TaskId {
        let millis = u64::try_from(Duration::from_micros(u64::try_from(before.0).unwrap_or(0)).as_millis());
        TaskId::from_parts(millis.unwrap_or(u64::MAX), 0)
    }
}

/// Forgetting.
#[async_trait]
pub trait RetentionStore: Send + Sync + 'static {
    /// Forgets what is older than `horizon`, in pieces that hold nobody up, and returns how many rows of events, keys,
    /// tasks, conversations, slots, dead letters and the ledger went. What is open is never forgotten, however old.
    /// Several processes may do it at once. It does a bounded amount of work; what is left goes with the next call.
    async fn prune(&self, horizon: Horizon) -> Result<u64, StoreError>;
}
