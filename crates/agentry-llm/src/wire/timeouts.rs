//! Timeouts of the parts of a call.

use std::time::Duration;

/// Timeouts of a call. The agent file sets the timeout of the whole call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Time to open a connection, including TLS.
    pub connect: Duration,
    /// Time from sending to the first content of a stream. Keep-alive events do not count.
    pub first_token: Duration,
    /// Longest silence within a stream.
    pub between_tokens: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: agentry_http::CONNECT_TIMEOUT,
            // A reasoning model may take minutes.
            first_token: Duration::from_secs(300),
            between_tokens: Duration::from_secs(60),
        }
    }
}
