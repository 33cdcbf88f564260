//! Steering the log of the process: a port, because the server does not know how it is written.

use std::time::Duration;

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogState {
    /// The filter that holds now.
    pub filter: String,
    /// The filter that holds after it, and in how long.
    pub then: Option<(String, Duration)>,
}

/// A text that is no filter: which part of it, where it stands, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadLogFilter(pub String);

/// Steers the log of the process.
pub trait LogControl: Send + Sync + 'static {
    /// What is logged now.
    fn current(&self) -> LogState;

    /// Logs by this filter, for a time or for good.
    ///
    /// # Errors
    /// When it is no filter; nothing changes then.
    fn set(&self, filter: &str, time: Option<Duration>) -> Result<(), BadLogFilter>;
}
