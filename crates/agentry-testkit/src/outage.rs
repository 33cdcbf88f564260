//! Outages: seconds in which a server behind a port refuses or holds up every call.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Kind of an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// Every call is refused at once; nothing is executed.
    Refusing,
    /// Every call waits until the outage is over and is then executed, whether its caller still waits or not.
    Frozen,
}

/// The current outage of one server, if any. Time is tokio's, so an outage ends with its runtime at the latest.
#[derive(Debug, Default)]
pub(crate) struct Outages(Mutex<Option<(Outage, Instant)>>);

impl Outages {
    /// Starts an outage of this length, which replaces the current one.
    pub(crate) fn begin(&self, outage: Outage, length: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((outage, Instant::now() + length));
    }

    /// Ends the outage now.
    pub(crate) fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Returns the outage and its end.
    pub(crate) fn current(&self) -> Option<(Outage, Instant)> {
        let current = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        current.filter(|(_, end)| *end > Instant::now())
    }
}
