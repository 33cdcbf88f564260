//! Outages: seconds in which a server behind a port refuses every call, or holds every call up.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The kind of an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// Every call is refused at once; nothing is carried out.
    Refusing,
    /// Every call waits until the outage is over and is then carried out, whether its caller still waits or not.
    Frozen,
}

/// The outage of one server, if it has one now. Time is tokio's, so an outage ends with its runtime at the latest.
#[derive(Debug, Default)]
pub(crate) struct Outages(Mutex<Option<(Outage, Instant)>>);

impl Outages {
    /// Begins an outage of this length; it replaces the one before.
    pub(crate) fn begin(&self, outage: Outage, length: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((outage, Instant::now() + length));
    }

    /// Ends the outage now.
    pub(crate) fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Returns the outage and when it ends.
    pub(crate) fn current(&self) -> Option<(Outage, Instant)> {
        let current = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        current.filter(|(_, end)| *end > Instant::now())
    }
}
