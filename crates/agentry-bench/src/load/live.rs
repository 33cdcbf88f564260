//! What can be seen of a load while it runs, and the way to end it early.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Numbers of a load that runs. Each is exact; together they are of about the same moment.
#[derive(Debug, Default)]
pub struct Live {
    /// Requests sent since the start.
    pub sent: AtomicU64,
    /// Answers as wanted since the start.
    pub ok: AtomicU64,
    /// Refusals and failures since the start.
    pub not_ok: AtomicU64,
    /// Requests in flight.
    pub in_flight: AtomicU64,
    /// The 95th percentile of the last second's latencies, in microseconds.
    pub p95: AtomicU64,
    stop: AtomicBool,
}

impl Live {
    /// Ends the load: nothing more is sent, what is in flight is waited for.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
