//! Keys of cache entries: each names the fact that its entry holds.

use agentry_core::agent::AgentName;
use agentry_core::id::TaskId;
use agentry_core::session::SessionId;

use super::proofs::SessionLife;

/// Format version of entries. A release that changes the format increments it, so that two releases side by side do not
/// read each other's entries.
const FORM: u32 = 1;
/// Messages per hash, so that no hash grows with its session and old parts expire by themselves.
pub(super) const CHUNK: u64 = 128;

/// Builds keys. A part that may contain any character comes last.
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: format!("{prefix}:{FORM}") }
    }

    /// Returns the key of the record of an ended task.
    pub(super) fn task(&self, id: TaskId) -> String {
        format!("{}:task:{id}", self.prefix)
    }

    /// Returns the key of a journal page of an ended task.
    pub(super) fn journal(&self, id: TaskId, after: u32, limit: usize) -> String {
        format!("{}:journal:{after}:{limit}:{id}", self.prefix)
    }

    /// Returns the key of an agent version.
    pub(super) fn version(&self, agent: &AgentName, version: &str) -> String {
        format!("{}:version:{}:{version}", self.prefix, agent.as_str())
    }

    /// Returns the key of the messages of a session whose numbers lie in a chunk.
    pub(super) fn messages(&self, session: &SessionId, life: SessionLife, chunk: u64) -> String {
        format!("{}:messages:{}:{chunk}:{session}", self.prefix, life.0.0)
    }
}

/// Returns the chunk of a message number, which is at least 1.
pub(super) fn chunk(number: u64) -> u64 {
    (number - 1) / CHUNK
}
