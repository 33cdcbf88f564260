//! What entries are filed under: the fact that each holds.

use agentry_core::agent::AgentName;
use agentry_core::id::TaskId;
use agentry_core::session::SessionId;

use super::proofs::Life;

/// The form of entries. A release that writes them otherwise counts it up, so that two releases side by side do not read
/// each other's.
const FORM: u32 = 1;
/// Messages in one hash, so that no hash grows with its session and old parts expire by themselves.
pub(super) const CHUNK: u64 = 128;

/// Makes keys. What may hold any character stands last.
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: format!("{prefix}:{FORM}") }
    }

    /// The record of a task that has ended.
    pub(super) fn task(&self, id: TaskId) -> String {
        format!("{}:task:{id}", self.prefix)
    }

    /// A page of the journal of a task that has ended.
    pub(super) fn journal(&self, id: TaskId, after: u32, limit: usize) -> String {
        format!("{}:journal:{after}:{limit}:{id}", self.prefix)
    }

    /// A version of an agent.
    pub(super) fn version(&self, agent: &AgentName, version: &str) -> String {
        format!("{}:version:{}:{version}", self.prefix, agent.as_str())
    }

    /// Messages of a life of a session whose numbers lie in a chunk.
    pub(super) fn messages(&self, session: &SessionId, life: Life, chunk: u64) -> String {
        format!("{}:messages:{}:{chunk}:{session}", self.prefix, life.0.0)
    }
}

/// The chunk of a message's number, which is at least 1.
pub(super) fn chunk(number: u64) -> u64 {
    (number - 1) / CHUNK
}
