//! Rate limiter of posts: about one a second and channel, with short bursts, and never before Slack's `Retry-After`.
//! Written by hand because `governor` can neither reserve a future time nor be held until one, and does not follow the
//! paused clock of tests.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::context::lock;

/// Number of keys at which idle ones are removed.
const MAX_KEYS: usize = 4_096;

/// A rate limit for each key (the generic cell rate algorithm).
pub(crate) struct RateLimit<K> {
    every: Duration,
    /// Amount by which a burst may run ahead of the rate.
    ahead: Duration,
    /// Time at which each key will have used up its reservations, at an even rate.
    done_at: Mutex<HashMap<K, Instant>>,
}

impl<K: Hash + Eq + Clone> RateLimit<K> {
    /// Returns a limit of one in `every`, with bursts of `burst`.
    pub fn new(every: Duration, burst: u32) -> Self {
        Self { every, ahead: every * burst.saturating_sub(1), done_at: Mutex::default() }
    }

    /// Reserves the next use, and returns its time.
    pub fn reserve(&self, key: &K, now: Instant) -> Instant {
        let mut done_at = lock(&self.done_at);
        if done_at.len() >= MAX_KEYS {
            done_at.retain(|_, at| *at > now);
        }
        let at = done_at.get(key).copied().map_or(now, |at| at.max(now));
        done_at.insert(key.clone(), at + self.every);
        at.checked_sub(self.ahead).map_or(now, |earliest| earliest.max(now))
    }

    /// Reserves the next use if it is allowed now.
    pub fn try_reserve(&self, key: &K, now: Instant) -> bool {
        let free = lock(&self.done_at).get(key).is_none_or(|at| *at <= now + self.ahead);
        if free {
            self.reserve(key, now);
        }
        free
    }

    /// Blocks a key until `wait` has passed.
    pub fn hold(&self, key: &K, now: Instant, wait: Duration) {
        lock(&self.done_at).insert(key.clone(), now + wait + self.ahead);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_goes_at_once_and_then_one_a_second() {
        let (limit, now) = (RateLimit::new(SECOND, 3), Instant::now());
        let waits: Vec<u64> = (0..5).map(|_| (limit.reserve(&"c", now) - now).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 1, 2]);
        assert_eq!(limit.reserve(&"other", now), now, "other channels do not wait");
        let later = now + Duration::from_secs(60);
        assert_eq!(limit.reserve(&"c", later), later, "an idle channel has its burst again");
    }

    #[test]
    fn what_slack_said_is_kept() {
        let (limit, now) = (RateLimit::new(SECOND, 3), Instant::now());
        limit.hold(&"c", now, SECOND * 30);
        assert!(!limit.try_reserve(&"c", now));
        assert_eq!(limit.reserve(&"c", now), now + SECOND * 30);
        assert!(limit.try_reserve(&"c", now + SECOND * 40));
    }
}
