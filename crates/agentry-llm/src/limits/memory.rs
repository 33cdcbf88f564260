//! Buckets in this process, for the embedded engine.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use agentry_core::id::CallId;
use async_trait::async_trait;
use tokio::time::Instant;

use super::{Buckets, Limit, Taken, Wanted};

const MINUTE: Duration = Duration::from_secs(60);

/// Buckets in this process.
#[derive(Debug, Default)]
pub struct MemoryBuckets {
    /// As many as models have limits.
    buckets: Mutex<HashMap<String, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    requests: f64,
    tokens: f64,
    filled_at: Instant,
    under_way: HashSet<CallId>,
}

impl Bucket {
    /// Full, as after a minute in which nobody asked.
    fn new(limit: &Limit) -> Self {
        let (requests, tokens) = full(limit);
        Self { requests, tokens, filled_at: Instant::now(), under_way: HashSet::new() }
    }

    fn fill(&mut self, limit: &Limit) {
        let now = Instant::now();
        let share = (now - self.filled_at).as_secs_f64() / MINUTE.as_secs_f64();
        let (requests, tokens) = full(limit);
        self.requests = (self.requests + requests * share).min(requests);
        self.tokens = (self.tokens + tokens * share).min(tokens);
        self.filled_at = now;
    }

    fn take(&mut self, wanted: &Wanted<'_>) -> Taken {
        self.fill(wanted.limit);
        let (all_requests, all_tokens) = full(wanted.limit);
        let tokens = needed(wanted);
        let mut wait = Duration::ZERO;
        if wanted.limit.requests_per_minute.is_some() && self.requests < 1.0 {
            wait = wait.max(MINUTE.mul_f64((1.0 - self.requests) / all_requests));
        }
        if wanted.limit.tokens_per_minute.is_some() && self.tokens < tokens {
            wait = wait.max(MINUTE.mul_f64((tokens - self.tokens) / all_tokens));
        }
        if !wait.is_zero() {
            return Taken::Later(wait.max(Duration::from_millis(1)));
        }
        if wanted.limit.concurrent.is_some_and(|most| self.under_way.len() >= most as usize) {
            return Taken::Busy;
        }
        self.requests -= 1.0;
        self.tokens -= tokens;
        self.under_way.insert(wanted.call);
        Taken::Now
    }
}

/// What fits into the buckets.
#[allow(clippy::cast_precision_loss, reason = "limits are far below 2^52")]
fn full(limit: &Limit) -> (f64, f64) {
    let requests = limit.requests_per_minute.map_or(0.0, f64::from);
    (requests, limit.tokens_per_minute.unwrap_or(0) as f64)
}

/// What a call takes: more than fits would be waited for in vain.
#[allow(clippy::cast_precision_loss, reason = "limits are far below 2^52")]
fn needed(wanted: &Wanted<'_>) -> f64 {
    wanted.tokens.min(wanted.limit.tokens_per_minute.unwrap_or(0)) as f64
}

#[async_trait]
impl Buckets for MemoryBuckets {
    async fn take(&self, wanted: &Wanted<'_>) -> Taken {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        match buckets.get_mut(wanted.key) {
            Some(bucket) => bucket.take(wanted),
            None => buckets.entry(wanted.key.to_owned()).or_insert_with(|| Bucket::new(wanted.limit)).take(wanted),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "tokens of one call are far below 2^52")]
    fn give_back(&self, wanted: &Wanted<'_>, used: Option<u64>) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(bucket) = buckets.get_mut(wanted.key) else { return };
        if bucket.under_way.remove(&wanted.call)
            && let Some(used) = used
        {
            // Below nothing, too: what was used beyond the reservation is waited for by those after it.
            bucket.tokens += needed(wanted) - used as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(limit: &Limit, n: u128, tokens: u64) -> Wanted<'_> {
        Wanted { key: "k", limit, call: CallId::from_parts(1, n << 64), tokens, lease: MINUTE }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_and_tokens_come_back_with_time() {
        let limit = Limit { requests_per_minute: Some(2), tokens_per_minute: Some(600), ..Limit::default() };
        let buckets = MemoryBuckets::default();
        assert_eq!(buckets.take(&wanted(&limit, 1, 300)).await, Taken::Now);
        assert_eq!(buckets.take(&wanted(&limit, 2, 300)).await, Taken::Now);
        assert_eq!(buckets.take(&wanted(&limit, 3, 100)).await, Taken::Later(Duration::from_secs(30)));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(buckets.take(&wanted(&limit, 3, 10_000)).await, Taken::Later(Duration::from_secs(30)));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(buckets.take(&wanted(&limit, 3, 10_000)).await, Taken::Now, "more than fits takes all");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_used_is_what_counts() {
        let limit = Limit { tokens_per_minute: Some(600), ..Limit::default() };
        let buckets = MemoryBuckets::default();
        assert_eq!(buckets.take(&wanted(&limit, 1, 600)).await, Taken::Now);
        buckets.give_back(&wanted(&limit, 1, 600), Some(100));
        buckets.give_back(&wanted(&limit, 1, 600), Some(0));
        assert_eq!(buckets.take(&wanted(&limit, 2, 500)).await, Taken::Now);
        buckets.give_back(&wanted(&limit, 2, 500), Some(700));
        assert_eq!(buckets.take(&wanted(&limit, 3, 100)).await, Taken::Later(Duration::from_secs(30)));
    }

    #[tokio::test]
    async fn no_more_are_under_way_than_may_be() {
        let limit = Limit { concurrent: Some(1), ..Limit::default() };
        let buckets = MemoryBuckets::default();
        assert_eq!(buckets.take(&wanted(&limit, 1, 1)).await, Taken::Now);
        assert_eq!(buckets.take(&wanted(&limit, 2, 1)).await, Taken::Busy);
        buckets.give_back(&wanted(&limit, 1, 1), None);
        assert_eq!(buckets.take(&wanted(&limit, 2, 1)).await, Taken::Now);
    }
}
