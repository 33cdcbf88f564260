//! The port to the log filter of the process.

use std::time::Duration;

/// The state of the log filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogState {
    /// The current filter.
    pub filter: String,
    /// The filter that follows, and the time until then.
    pub then: Option<(String, Duration)>,
}

/// The error of an invalid filter: the directive, its column and the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadLogFilter(pub String);

/// Controls the log filter of the process.
pub trait LogControl: Send + Sync + 'static {
    /// Returns the state of the filter.
    fn current(&self) -> LogState;

    /// Sets the filter, for a time or permanently.
    ///
    /// # Errors
    /// Fails when the filter is invalid; nothing changes then.
    fn set(&self, filter: &str, time: Option<Duration>) -> Result<(), BadLogFilter>;
}
