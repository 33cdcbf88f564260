//! What happened lately, for live pictures: a bounded look at the newest tasks.

use agentry_core::agent::AgentName;
use agentry_core::task::TaskStatus;
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use crate::StoreError;

/// Tasks that one look covers at most: some tens of milliseconds of reading.
pub const MAX_PULSE: usize = 20_000;

/// A task without what was asked and answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPulse {
    /// Who does it.
    pub agent: AgentName,
    /// Where it stands.
    pub status: TaskStatus,
    /// When it was accepted, to the millisecond.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// The newest tasks.
#[async_trait]
pub trait PulseStore: Send + Sync + 'static {
    /// Tasks accepted since `since`, newest first, at most `limit` (and [`MAX_PULSE`]). No index is kept for it: ids are
    /// in the order of their age.
    async fn pulse(&self, since: Timestamp, limit: usize) -> Result<Vec<TaskPulse>, StoreError>;
}

/// The moment in the first 48 bits of an id (UUID version 7).
pub(crate) fn moment_of(id: &[u8; 16]) -> Timestamp {
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
        assert_eq!(moment_of(id.as_bytes()), Timestamp(1_795_424_400_123_000));
    }
}
