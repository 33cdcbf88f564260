//! The Slack port.

use std::time::Duration;

use agentry_core::time::Timestamp;
use async_trait::async_trait;
use serde_json::Value;

/// Content of a post.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Post {
    /// mrkdwn text of at most [`crate::MAX_TEXT`] characters; with blocks, the text of notifications.
    pub text: String,
    /// Blocks instead of the text.
    pub blocks: Option<Value>,
    /// Marker in the post's metadata, by which it is found again.
    pub mark: Option<String>,
}

/// A post with a marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkedPost {
    /// Marker of the post.
    pub mark: String,
    /// `ts` of the post.
    pub ts: String,
}

/// Reason for which Slack did not carry out a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlackError {
    /// Rate limited: nothing was done.
    #[error("Slack limits the rate; again after {} s", .0.as_secs())]
    RateLimited(Duration),
    /// Slack is unreachable: nothing was done.
    #[error("{0}")]
    Unreachable(String),
    /// The response was lost, so the outcome is unknown.
    #[error("{0}")]
    Unknown(String),
    /// Slack refuses the call, and a retry does not help.
    #[error("{0}")]
    Refused(String),
}

/// The effect of a response on the message that it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseMode {
    /// A new message.
    New,
    /// Replaces the original message.
    ReplaceOriginal,
}

/// The part of Slack's Web API that is used.
#[async_trait]
pub trait Slack: Send + Sync + 'static {
    /// Posts into a channel or a thread; returns the post's `ts`.
    ///
    /// # Errors
    /// See [`SlackError`].
    async fn post(&self, team: &str, channel: &str, thread: Option<&str>, post: &Post) -> Result<String, SlackError>;

    /// Changes a post. Idempotent.
    ///
    /// # Errors
    /// See [`SlackError`].
    async fn update(&self, team: &str, channel: &str, ts: &str, post: &Post) -> Result<(), SlackError>;

    /// Returns posts of this app with markers, in a thread or channel, not older than `since`.
    ///
    /// # Errors
    /// See [`SlackError`].
    async fn find_marked(
        &self,
        team: &str,
        channel: &str,
        thread: Option<&str>,
        since: Timestamp,
    ) -> Result<Vec<MarkedPost>, SlackError>;

    /// Answers a command or a click at its `response_url`.
    ///
    /// # Errors
    /// See [`SlackError`].
    async fn respond(&self, url: &str, post: &Post, mode: ResponseMode) -> Result<(), SlackError>;

    /// Opens a dialog for the user who clicked.
    ///
    /// # Errors
    /// See [`SlackError`].
    async fn open_dialog(&self, team: &str, trigger: &str, view: &Value) -> Result<(), SlackError>;
}
