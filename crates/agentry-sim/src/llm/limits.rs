//! Limits of requests and tokens per minute for each model: token buckets that fill evenly, as providers keep them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);
/// Models whose buckets are kept; one more clears all of them.
const MAX_MODELS: usize = 1_000;

/// A bucket's state as rate limit headers report it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BucketLevel {
    pub(super) limit: u64,
    pub(super) remaining: u64,
    /// Time until the bucket is full again.
    pub(super) full_in: Duration,
}

/// State of both buckets after a request; `None` without a limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct BucketLevels {
    pub(super) requests: Option<BucketLevel>,
    pub(super) tokens: Option<BucketLevel>,
}

/// The limit that a request exceeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LimitExceeded {
    /// "requests" or "tokens".
    pub(super) of: &'static str,
    pub(super) limit: u64,
    /// Time until the request would be admitted.
    pub(super) wait: Duration,
}

#[derive(Debug)]
pub(super) struct Limits {
    rpm: Option<u64>,
    tpm: Option<u64>,
    models: Mutex<HashMap<String, [Bucket; 2]>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Limits {
    pub(super) fn new(rpm: Option<u64>, tpm: Option<u64>) -> Self {
        Self { rpm, tpm, models: Mutex::default() }
    }

    /// Takes one request and its tokens from the buckets of a model. A request is admitted when its `input` fits; the
    /// tokens of its answer are taken as debt.
    pub(super) fn take(
        &self,
        model: &str,
        input: u64,
        output: u64,
        now: Instant,
    ) -> (BucketLevels, Result<(), LimitExceeded>) {
        if self.rpm.is_none() && self.tpm.is_none() {
            return (BucketLevels::default(), Ok(()));
        }
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if models.len() >= MAX_MODELS && !models.contains_key(model) {
            models.clear();
        }
        let full = |limit: Option<u64>| Bucket { left: limit.unwrap_or(0) as f64, at: now };
        let buckets = models.entry(model.to_owned()).or_insert_with(|| [full(self.rpm), full(self.tpm)]);
        let [requests, tokens] = buckets;
        let over = self.rpm.and_then(|limit| requests.lacks(limit, 1, now).map(|wait| ("requests", limit, wait)));
        let over = over.or_else(|| {
            self.tpm.and_then(|limit| tokens.lacks(limit, input.min(limit), now).map(|wait| ("tokens", limit, wait)))
        });
        if over.is_none() {
            requests.left -= 1.0;
            tokens.left -= (input + output) as f64;
        }
        let levels = BucketLevels {
            requests: self.rpm.map(|limit| requests.level(limit)),
            tokens: self.tpm.map(|limit| tokens.level(limit)),
        };
        (levels, over.map_or(Ok(()), |(of, limit, wait)| Err(LimitExceeded { of, limit, wait })))
    }
}

impl Bucket {
    /// Fills the bucket up to `now` and returns the time until `amount` is available, when it is not.
    fn lacks(&mut self, limit: u64, amount: u64, now: Instant) -> Option<Duration> {
        let per_second = limit as f64 / MINUTE.as_secs_f64();
        let filled = now.saturating_duration_since(self.at).as_secs_f64() * per_second;
        (self.left, self.at) = ((self.left + filled).min(limit as f64), now);
        let missing = amount as f64 - self.left;
        (missing > 0.0).then(|| if limit == 0 { MINUTE } else { Duration::from_secs_f64(missing / per_second) })
    }

    fn level(&self, limit: u64) -> BucketLevel {
        let full_in =
            if limit == 0 { MINUTE } else { MINUTE.mul_f64((limit as f64 - self.left).max(0.0) / limit as f64) };
        BucketLevel { limit, remaining: self.left.max(0.0) as u64, full_in }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_back_one_by_one() {
        let (limits, start) = (Limits::new(Some(60), None), Instant::now());
        assert!((0..60).all(|_| limits.take("m", 1, 1, start).1.is_ok()));
        let (levels, over) = limits.take("m", 1, 1, start);
        assert_eq!(over.unwrap_err(), LimitExceeded { of: "requests", limit: 60, wait: Duration::from_secs(1) });
        assert_eq!(levels.requests.unwrap().remaining, 0);
        assert!(limits.take("other", 1, 1, start).1.is_ok());
        assert!(limits.take("m", 1, 1, start + Duration::from_secs(1)).1.is_ok());
        assert!(limits.take("m", 1, 1, start + Duration::from_secs(1)).1.is_err());
    }

    #[test]
    fn the_tokens_of_answers_are_owed() {
        let (limits, start) = (Limits::new(None, Some(600)), Instant::now());
        assert!(limits.take("m", 500, 400, start).1.is_ok());
        let over = limits.take("m", 100, 0, start).1.unwrap_err();
        assert_eq!((over.of, over.wait), ("tokens", Duration::from_secs(40)));
        assert!(limits.take("m", 100, 0, start + Duration::from_secs(40)).1.is_ok());
        assert_eq!(limits.take("new", 9_000, 0, start).1, Ok(()), "what can never fit is taken from a full bucket");
    }
}
