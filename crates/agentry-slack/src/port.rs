//! The port: what is asked of Slack.

use std::time::Duration;

use agentry_core::time::Timestamp;
use async_trait::async_trait;
use serde_json::Value;

/// What a post says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Post {
    /// In mrkdwn, at most [`crate::MAX_TEXT`] characters; with blocks it is what notifications show.
    pub text: String,
    /// Blocks instead of the text alone.
    pub blocks: Option<Value>,
    /// What is kept in the post's metadata, so that it can be found again.
    pub mark: Option<String>,
}

/// A post that carries a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// The mark.
    pub mark: String,
    /// The post's `ts`.
    pub ts: String,
}

/// Why Slack did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlackError {
    /// Not now: nothing was done.
    #[error("Slack limits the rate; again after {} s", .0.as_secs())]
    RateLimited(Duration),
    /// Slack cannot be reached: nothing was done.
    #[error("{0}")]
    Away(String),
    /// It may or may not have been done: the answer was lost.
    #[error("{0}")]
    Unknown(String),
    /// Slack does not do it, and asking again does not help.
    #[error("{0}")]
    Refused(String),
}

/// Slack's Web API, as far as it is used.
#[async_trait]
pub trait Slack: Send + Sync + 'static {
    /// Posts into a channel or one of its threads; returns the post's `ts`.
    ///
    /// # Errors
    /// See [`SlackError`].
    async fn post(&self, team: &str, channel: &str, thread: Option<&str>, post: &Post) -> Result<String, SlackError>;

    /// Changes a post. Doing it twice is doing it once.
    ///
    /// # Errors
    /// See [`SlackError`].
    async fn update(&self, team: &str, channel: &str, ts: &str, post: &Post) -> Result<(), SlackError>;

    /// Posts of this app that carry marks, in a thread or channel, not older than `since`.
    ///
    /// # Errors
    /// See [`SlackError`].
    async fn marked(
        &self,
        team: &str,
        channel: &str,
        thread: Option<&str>,
        since: Timestamp,
    ) -> Result<Vec<Marked>, SlackError>;

    /// Answers a command or a click at its `response_url`. `replace`: what the answer before said goes.
    ///
    /// # Errors
    /// See [`SlackError`].
    async fn respond(&self, url: &str, post: &Post, replace: bool) -> Result<(), SlackError>;

    /// Opens a dialog for who clicked.
    ///
    /// # Errors
    /// See [`SlackError`].
    async fn open_dialog(&self, team: &str, trigger: &str, view: &Value) -> Result<(), SlackError>;
}
