//! A bounded list of the newest tasks, for live dashboards.

use agentry_core::agent::AgentName;
use agentry_core::task::TaskStatus;
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use crate::StoreError;

/// Largest number of tasks in one list, which takes some tens of milliseconds to read.
pub const MAX_RECENT_TASKS: usize = 20_000;

/// A task without its input and outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentTask {
    /// Agent of the task.
    pub agent: AgentName,
    /// Current status.
    pub status: TaskStatus,
    /// Time of acceptance, with millisecond precision.
    pub created_at: Timestamp,
    /// Time of its end.
    pub finished_at: Option<Timestamp>,
}

/// Lists the newest tasks.
#[async_trait]
pub trait RecentTaskStore: Send + Sync + 'static {
    /// Returns tasks accepted since `since`, newest first, at most `limit` and [`MAX_RECENT_TASKS`]. It needs no index
    /// of its own, because ids are ordered by age.
    async fn recent_tasks(&self, since: Timestamp, limit: usize) -> Result<Vec<RecentTask>, StoreError>;
}

/// Returns the time in the first 48 bits of an id (UUID version 7).
pub(crate) fn timestamp_of_id(id: &[u8; 16]) -> Timestamp {
    let millis = id[..6].iter().fold(0i64, |millis, byte| (millis << 8) | i64::from(*byte));
    Timestamp(millis * 1_000)
}

#[cfg(test)]
mod tests {
    use agentry_core::id::TaskId;

    use super::*;

    #[test]
    fn an_id_tells_when_it_was_made() {
        let id = TaskId::from_parts(1_795_424_400_123, 7);
        assert_eq!(timestamp_of_id(id.as_bytes()), Timestamp(1_795_424_400_123_000));
    }
}
