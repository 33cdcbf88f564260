//! How long each part of a call may take.

use std::time::Duration;

/// How long each part of a call may take. The whole of it has the `timeout` of the agent's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To open a connection, TLS included.
    pub connect: Duration,
    /// From sending to the first content of a stream. A provider that only says that it lives does not count.
    pub first_token: Duration,
    /// The longest silence within a stream.
    pub between_tokens: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: agentry_http::CONNECT_TIMEOUT,
            // A model that thinks before it speaks may take minutes.
            first_token: Duration::from_secs(300),
            between_tokens: Duration::from_secs(60),
        }
    }
}
