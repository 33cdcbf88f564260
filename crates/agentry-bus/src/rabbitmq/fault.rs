//! Faults that end a connection, and the timeout of every call to the broker.

use std::future::Future;
use std::time::Duration;

/// Timeout of a call. The broker answers in milliseconds; a slow disk may take a second.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Fault(String);

impl Fault {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Calls the broker with [`CALL_TIMEOUT`].
pub(super) async fn within<T>(what: &str, call: impl Future<Output = lapin::Result<T>>) -> Result<T, Fault> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Fault(format!("{what}: {error}"))),
        Err(_) => Err(Fault(format!("{what}: no answer in {} s", CALL_TIMEOUT.as_secs()))),
    }
}
