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
    /// Unique id.
    pub id: ClarificationId,
    /// The waiting task.
    pub task: TaskId,
    /// The agent that asks.
    pub agent: AgentName,
    /// The part of the task that asks; see [`crate::journal::Scope`].
    pub scope: String,
    /// Text of the question.
    pub question: String,
    /// Answers to choose from; any text if empty.
    #[serde(default)]
    pub options: Vec<String>,
    /// Time of the question.
    pub asked_at: Timestamp,
    /// Time after which no answer is accepted.
    pub expires_at: Timestamp,
    /// Answer assumed on expiry; without it the asking step fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Additional destination, besides the list of clarifications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<ReplyTo>,
    /// Result; `None` while the question is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
}

impl Clarification {
    /// Returns the thread of the question, if it is known beforehand; see
    /// [`SlackAddress::thread_key`](crate::slack::SlackAddress::thread_key).
    #[must_use]
    pub fn thread_key(&self) -> Option<String> {
        self.reply_to.as_ref()?.slack()?.thread_key()
    }
}

/// The result of a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Resolution {
    /// A person answered.
    Answered {
        /// Text of the answer.
        answer: String,
        /// The person, as the channel identifies them.
        by: String,
        /// Time of the answer.
        at: Timestamp,
    },
    /// The time expired; the default counts.
    Defaulted {
        /// The default.
        answer: String,
        /// Time of expiry.
        at: Timestamp,
    },
    /// The time expired without a default.
    Expired {
        /// Time of expiry.
        at: Timestamp,
    },
    /// The task ended before.
    Withdrawn {
        /// Time of withdrawal.
        at: Timestamp,
    },
}

impl Resolution {
    /// Returns the answer, if there is one.
    #[must_use]
    pub fn answer(&self) -> Option<&str> {
        match self {
            Self::Answered { answer, .. } | Self::Defaulted { answer, .. } => Some(answer),
            Self::Expired { .. } | Self::Withdrawn { .. } => None,
        }
    }
}
