//! A clarification: a question to a human that pauses a task durably.

use serde::{Deserialize, Serialize};

use crate::agent::AgentName;
use crate::id::{ClarificationId, TaskId};
use crate::slack::ReplyTo;
use crate::time::Timestamp;

/// The longest answer, in bytes.
pub const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// A question to a human.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clarification {
    /// Its name.
    pub id: ClarificationId,
    /// The task that waits for it.
    pub task: TaskId,
    /// The agent that asks.
    pub agent: AgentName,
    /// Which part of the task asks; see [`crate::journal::Scope`].
    pub scope: String,
    /// What is asked.
    pub question: String,
    /// Answers to choose from; empty: any text.
    #[serde(default)]
    pub options: Vec<String>,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// When nobody may answer any more.
    pub expires_at: Timestamp,
    /// What is answered then; without it the asking step fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Where it is asked, besides the list of clarifications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<ReplyTo>,
    /// How it ended; `None` while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
}

impl Clarification {
    /// The thread that it is asked in, when that is known beforehand; see
    /// [`SlackPlace::thread_key`](crate::slack::SlackPlace::thread_key).
    #[must_use]
    pub fn thread_key(&self) -> Option<String> {
        self.reply_to.as_ref()?.slack()?.thread_key()
    }
}

/// How a question ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Resolution {
    /// Somebody answered.
    Answered {
        /// What.
        answer: String,
        /// Who, as the surface knows them.
        by: String,
        /// When.
        at: Timestamp,
    },
    /// Nobody did; the default stands.
    Defaulted {
        /// The default.
        answer: String,
        /// When.
        at: Timestamp,
    },
    /// Nobody did, and there is no default.
    Expired {
        /// When.
        at: Timestamp,
    },
    /// The task ended before.
    Withdrawn {
        /// When.
        at: Timestamp,
    },
}

impl Resolution {
    /// The answer to go on with, if there is one.
    #[must_use]
    pub fn answer(&self) -> Option<&str> {
        match self {
            Self::Answered { answer, .. } | Self::Defaulted { answer, .. } => Some(answer),
            Self::Expired { .. } | Self::Withdrawn { .. } => None,
        }
    }
}
