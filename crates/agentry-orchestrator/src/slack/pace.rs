//! The pace of posts: about one a second and channel, with short bursts, and never before Slack said "again after".

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::context::lock;

/// Keys remembered before those are forgotten whose pace has run off.
const MAX_KEYS: usize = 4_096;

/// A bound on how often something is done, for each key (the generic cell rate algorithm).
pub(crate) struct Pace<K> {
    every: Duration,
    /// How far ahead of the pace a burst may run.
    ahead: Duration,
    /// When each key would be done with what it was given, at an even pace.
    done_at: Mutex<HashMap<K, Instant>>,
}

impl<K: Hash + Eq + Clone> Pace<K> {
    /// One in `every`, and `burst` at once.
    pub fn new(every: Duration, burst: u32) -> Self {
        Self { every, ahead: every * burst.saturating_sub(1), done_at: Mutex::default() }
    }

    /// The moment when the next one may be done; it counts as done then.
    pub fn reserve(&self, key: &K, now: Instant) -> Instant {
        let mut done_at = lock(&self.done_at);
        if done_at.len() >= MAX_KEYS {
            done_at.retain(|_, at| *at > now);
        }
        let at = done_at.get(key).copied().map_or(now, |at| at.max(now));
        done_at.insert(key.clone(), at + self.every);
        at.checked_sub(self.ahead).map_or(now, |earliest| earliest.max(now))
    }

    /// Reserves the next one if it may be done now.
    pub fn try_reserve(&self, key: &K, now: Instant) -> bool {
        let free = lock(&self.done_at).get(key).is_none_or(|at| *at <= now + self.ahead);
        if free {
            self.reserve(key, now);
        }
        free
    }

    /// Nothing before `wait` has passed.
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
        let (pace, now) = (Pace::new(SECOND, 3), Instant::now());
        let waits: Vec<u64> = (0..5).map(|_| (pace.reserve(&"c", now) - now).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 1, 2]);
        assert_eq!(pace.reserve(&"other", now), now, "other channels do not wait");
        let later = now + Duration::from_secs(60);
        assert_eq!(pace.reserve(&"c", later), later, "an idle channel has its burst again");
    }

    #[test]
    fn what_slack_said_is_kept() {
        let (pace, now) = (Pace::new(SECOND, 3), Instant::now());
        pace.hold(&"c", now, SECOND * 30);
        assert!(!pace.try_reserve(&"c", now));
        assert_eq!(pace.reserve(&"c", now), now + SECOND * 30);
        assert!(pace.try_reserve(&"c", now + SECOND * 40));
    }
}
