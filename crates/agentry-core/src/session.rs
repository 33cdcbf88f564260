//! A session: one conversation of a continuous agent.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::agent::AgentName;
use crate::chat::Message;
use crate::id::TaskId;
use crate::time::Timestamp;

/// The longest session key, in bytes.
pub const MAX_SESSION_KEY_BYTES: usize = 256;

/// Agent and session key, written `agent:key`; agent names have no colon.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// Returns the session of `agent` under `key`.
    #[must_use]
    pub fn new(agent: &AgentName, key: &str) -> Self {
        Self(format!("{agent}:{key}").into())
    }

    /// Returns the session with this written form; `None` without a colon.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.contains(':').then(|| Self(text.into()))
    }

    /// Returns the agent's name.
    #[must_use]
    pub fn agent(&self) -> &str {
        self.0.split_once(':').map_or("", |(agent, _)| agent)
    }

    /// Returns the key within the agent.
    #[must_use]
    pub fn key(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, key)| key)
    }

    /// Returns the written form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The stored state of a session besides its messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Unique id.
    pub id: SessionId,
    /// Fencing token: grows with every owner; every state write checks it.
    pub fence: u64,
    /// Number of stored messages, which is the number of the last one.
    pub messages: u64,
    /// Number of completed turns.
    pub turns: u64,
    /// Summary of the removed messages, with strategy `summarize`.
    pub summary: Option<Summary>,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of the last completed turn.
    pub updated_at: Timestamp,
}

/// The part of a conversation that left the window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Text of the summary.
    pub text: String,
    /// Number of the last message it covers.
    pub through: u64,
}

/// A message of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionMessage {
    /// Number within the session, from 1 without gaps.
    pub number: u64,
    /// The task whose turn it belongs to.
    pub task: TaskId,
    /// Time of the message.
    pub at: Timestamp,
    /// Content.
    pub message: Message,
}

/// The additions of one turn to a session; written in the transaction that ends the task.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionWrite {
    /// The session.
    pub session: SessionId,
    /// The owner's fencing token; the write is refused when it is stale.
    pub fence: u64,
    /// Messages to append, in order.
    pub messages: Vec<Message>,
    /// The new summary, when the window was summarised.
    pub summary: Option<Summary>,
}
