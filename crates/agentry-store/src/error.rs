//! Errors of a store, split by who must react.

use std::time::Duration;

/// Errors of a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The lease is stale: another owner has the task, or it has ended. The caller drops its work.
    #[error("the lease is stale: the task has another owner or has ended")]
    Fenced,
    /// A bound is reached; try again after the given time.
    #[error("{what} is full ({bound}); try again in {} s", retry_after.as_secs_f32())]
    Full {
        /// The full queue.
        what: &'static str,
        /// Its bound.
        bound: u64,
        /// Delay before another attempt.
        retry_after: Duration,
    },
    /// The store cannot be reached or cannot write now (disk full, closed, lost connection); trying again may help.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The store holds unreadable data, or refuses a statement: a defect of Agentry or of the disk.
    #[error("the store failed: {0}")]
    Broken(String),
}

impl StoreError {
    /// Returns the error for [`crate::MAX_KEYS`] API keys.
    pub(crate) fn too_many_keys() -> Self {
        let (bound, retry_after) = (crate::MAX_KEYS as u64, Duration::from_secs(60));
        Self::Full { what: "the list of API keys", bound, retry_after }
    }

    /// Returns whether the same call may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Unavailable(_))
    }
}
