//! Counters of the cache for `/metrics`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the latency buckets, in microseconds; a last bucket holds the rest. The goal for a hit is 250.
pub const LATENCY_BOUNDS_US: [u64; 9] = [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 20_000];

/// Results of one kind of read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadStats {
    /// Answered by this process or Redis.
    pub hits: u64,
    /// Answered by the store, because Redis had no usable entry.
    pub misses: u64,
    /// Answered by the store without asking Redis, because its answer could not be proved current or it is unavailable.
    pub bypasses: u64,
}

/// Latency of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latency {
    /// Answers per bucket of [`LATENCY_BOUNDS_US`], and in the one after them; not cumulative.
    pub buckets: [u64; LATENCY_BOUNDS_US.len() + 1],
    /// Sum of all latencies, in microseconds.
    pub sum_us: u64,
    /// Number of answers.
    pub count: u64,
}

/// Counters since the cache was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Reads of single tasks.
    pub tasks: ReadStats,
    /// Reads of journals.
    pub journals: ReadStats,
    /// Reads of sessions' messages.
    pub messages: ReadStats,
    /// Reads of agent versions.
    pub versions: ReadStats,
    /// Commands that failed or timed out, and entries that could not be decoded.
    pub errors: u64,
    /// Entries written.
    pub fills: u64,
    /// Entries that were not written: too large, too many at once, or Redis failed meanwhile.
    pub refused_fills: u64,
    /// Entries removed because their session was deleted.
    pub invalidations: u64,
    /// Number of times that Redis was given up until it answered again.
    pub breaker_openings: u64,
    /// True while Redis is in use.
    pub connected: bool,
    /// Latency of reads from Redis.
    pub latency: Latency,
}

/// Kinds of cached reads.
#[derive(Debug, Clone, Copy)]
pub(super) enum ReadKind {
    Task,
    Journal,
    Messages,
    Version,
}

/// Source of the answer to a read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    Hit,
    Miss,
    Bypass,
}

/// The counters behind [`CacheStats`].
#[derive(Default)]
pub(super) struct Counters {
    reads: [[AtomicU64; 3]; 4],
    pub(super) errors: AtomicU64,
    pub(super) fills: AtomicU64,
    pub(super) refused_fills: AtomicU64,
    pub(super) invalidations: AtomicU64,
    pub(super) breaker_openings: AtomicU64,
    pub(super) connected: AtomicBool,
    buckets: [AtomicU64; LATENCY_BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

impl Counters {
    /// Counts a read.
    pub(super) fn read(&self, kind: ReadKind, answer: Answer) {
        add(&self.reads[kind as usize][answer as usize], 1);
    }

    /// Records the latency of an answer.
    pub(super) fn answered(&self, after: Duration) {
        let us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        add(&self.buckets[LATENCY_BOUNDS_US.partition_point(|bound| *bound < us)], 1);
        add(&self.sum_us, us);
    }

    /// Returns all counters.
    pub(super) fn stats(&self) -> CacheStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let read = |kind: ReadKind| {
            let [hits, misses, bypasses] = &self.reads[kind as usize];
            ReadStats { hits: get(hits), misses: get(misses), bypasses: get(bypasses) }
        };
        let buckets = self.buckets.each_ref().map(get);
        CacheStats {
            tasks: read(ReadKind::Task),
            journals: read(ReadKind::Journal),
            messages: read(ReadKind::Messages),
            versions: read(ReadKind::Version),
            errors: get(&self.errors),
            fills: get(&self.fills),
            refused_fills: get(&self.refused_fills),
            invalidations: get(&self.invalidations),
            breaker_openings: get(&self.breaker_openings),
            connected: self.connected.load(Ordering::Relaxed),
            latency: Latency { buckets, sum_us: get(&self.sum_us), count: buckets.iter().sum() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_falls_into_the_bucket_that_bounds_it() {
        let counters = Counters::default();
        for us in [50, 51, 250, 20_001] {
            counters.answered(Duration::from_micros(us));
        }
        let latency = counters.stats().latency;
        assert_eq!(latency.buckets, [1, 1, 1, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((latency.count, latency.sum_us), (4, 20_352));
    }
}
