//! What was asked of Slack, counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::SlackError;

/// Counters of this process.
#[derive(Debug, Default)]
pub struct Counters {
    calls: AtomicU64,
    rate_limited: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    lookups: AtomicU64,
    /// Times that a message waited for its channel's pace.
    pub paced: AtomicU64,
    /// Messages that were tried again.
    pub retried: AtomicU64,
    /// Messages that were posted whole.
    pub delivered: AtomicU64,
    away: AtomicBool,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Calls of the Web API and of response URLs.
    pub calls: u64,
    /// Those that were answered with 429.
    pub rate_limited: u64,
    /// Those that were refused for good.
    pub refused: u64,
    /// Those whose answer did not come, or that did not reach Slack.
    pub failed: u64,
    /// Looks for posts that an earlier try may have made.
    pub lookups: u64,
    /// Times that a message waited for its channel's pace.
    pub paced: u64,
    /// Messages that were tried again.
    pub retried: u64,
    /// Messages that were posted whole.
    pub delivered: u64,
    /// Whether the last call reached Slack.
    pub up: bool,
}

impl Counters {
    /// Counts a call by how it ended.
    pub(crate) fn note<T>(&self, result: &Result<T, SlackError>, is_lookup: bool) {
        let add = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        add(&self.calls);
        if is_lookup {
            add(&self.lookups);
        }
        match result {
            Ok(_) => {}
            Err(SlackError::RateLimited(_)) => drop(add(&self.rate_limited)),
            Err(SlackError::Refused(_)) => drop(add(&self.refused)),
            Err(SlackError::Away(_) | SlackError::Unknown(_)) => drop(add(&self.failed)),
        }
        let away = matches!(result, Err(SlackError::Away(_) | SlackError::Unknown(_)));
        self.away.store(away, Ordering::Relaxed);
    }

    /// The counters now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            calls: of(&self.calls),
            rate_limited: of(&self.rate_limited),
            refused: of(&self.refused),
            failed: of(&self.failed),
            lookups: of(&self.lookups),
            paced: of(&self.paced),
            retried: of(&self.retried),
            delivered: of(&self.delivered),
            up: !self.away.load(Ordering::Relaxed),
        }
    }
}
