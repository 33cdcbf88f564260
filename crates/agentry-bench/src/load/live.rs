//! Counters of a load while it runs, and the way to end it early.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counters of a load that runs. Each is exact; together they are of about the same moment.
#[derive(Debug, Default)]
pub struct Live {
    pub sent: AtomicU64,
    pub ok: AtomicU64,
    pub not_ok: AtomicU64,
    /// 95th percentile of the last second's latencies, in microseconds.
    pub p95: AtomicU64,
    stop: AtomicBool,
}

impl Live {
    /// Ends the load: nothing more is sent, and requests in flight are waited for.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
