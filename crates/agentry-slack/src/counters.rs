//! Counters of calls to Slack.

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
    /// Messages that waited for the rate limit of their channel.
    pub paced: AtomicU64,
    /// Retries of messages.
    pub retried: AtomicU64,
    /// Messages that were posted completely.
    pub delivered: AtomicU64,
    away: AtomicBool,
}

/// Snapshot of the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Calls of the Web API and of response URLs.
    pub calls: u64,
    /// Calls that Slack answered with 429.
    pub rate_limited: u64,
    /// Calls that Slack refused.
    pub refused: u64,
    /// Calls without a response, or that did not reach Slack.
    pub failed: u64,
    /// Searches for posts of an earlier attempt.
    pub lookups: u64,
    /// Messages that waited for the rate limit of their channel.
    pub paced: u64,
    /// Retries of messages.
    pub retried: u64,
    /// Messages that were posted completely.
    pub delivered: u64,
    /// The last call reached Slack.
    pub up: bool,
}

impl Counters {
    pub(crate) fn record<T>(&self, result: &Result<T, SlackError>, method: &str) {
        let add = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        add(&self.calls);
        if method.starts_with("conversations.") {
            add(&self.lookups);
        }
        match result {
            Ok(_) => {}
            Err(SlackError::RateLimited(_)) => drop(add(&self.rate_limited)),
            Err(SlackError::Refused(_)) => drop(add(&self.refused)),
            Err(SlackError::Unreachable(_) | SlackError::Unknown(_)) => drop(add(&self.failed)),
        }
        let away = matches!(result, Err(SlackError::Unreachable(_) | SlackError::Unknown(_)));
        self.away.store(away, Ordering::Relaxed);
    }

    /// Returns the counters.
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
