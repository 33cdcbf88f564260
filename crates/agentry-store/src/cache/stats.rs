//! What the cache counts, for `/metrics`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the latency buckets, in microseconds; a last bucket holds the rest. 250 is the goal of a hit.
pub const LATENCY_BOUNDS_US: [u64; 9] = [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 20_000];

/// What one kind of read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadStats {
    /// Answered by this process or Redis.
    pub hits: u64,
    /// Redis was asked and had no (usable) entry: answered by the store.
    pub misses: u64,
    /// Redis was not asked, because its answer could not be proved current or because it is away: answered by the store.
    pub bypasses: u64,
}

/// How long Redis took to answer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latency {
    /// Answers in each bucket of [`LATENCY_BOUNDS_US`], and in the one after them; not cumulative.
    pub buckets: [u64; LATENCY_BOUNDS_US.len() + 1],
    /// All of them together, in microseconds.
    pub sum_us: u64,
    /// How many answers.
    pub count: u64,
}

/// What the cache did since it was made.
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
    /// Commands that failed or took too long, and entries that could not be read.
    pub errors: u64,
    /// Entries written.
    pub fills: u64,
    /// Entries that were made and not written: too large, too many at once, or Redis failed meanwhile.
    pub refused_fills: u64,
    /// Entries removed because their session was deleted.
    pub invalidations: u64,
    /// How often Redis was given up until it answered again.
    pub breaker_openings: u64,
    /// Whether Redis is in use now.
    pub connected: bool,
    /// How long Redis took to answer reads.
    pub latency: Latency,
}

/// What is read through the cache.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Task,
    Journal,
    Messages,
    Version,
}

/// How a read was answered.
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

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

impl Counters {
    /// Counts a read.
    pub(super) fn read(&self, kind: Kind, answer: Answer) {
        add(&self.reads[kind as usize][answer as usize], 1);
    }

    /// Counts how long an answer took.
    pub(super) fn answered(&self, after: Duration) {
        let us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        add(&self.buckets[LATENCY_BOUNDS_US.partition_point(|bound| *bound < us)], 1);
        add(&self.sum_us, us);
    }

    /// All of them, now.
    pub(super) fn stats(&self) -> CacheStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let read = |kind: Kind| {
            let [hits, misses, bypasses] = &self.reads[kind as usize];
            ReadStats { hits: get(hits), misses: get(misses), bypasses: get(bypasses) }
        };
        let buckets = self.buckets.each_ref().map(get);
        CacheStats {
            tasks: read(Kind::Task),
            journals: read(Kind::Journal),
            messages: read(Kind::Messages),
            versions: read(Kind::Version),
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
