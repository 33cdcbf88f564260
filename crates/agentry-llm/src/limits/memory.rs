//! Token buckets of this process, for the embedded engine.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use agentry_core::id::CallId;
use async_trait::async_trait;
use tokio::time::Instant;

use super::{Buckets, Limit, LimitDecision, LimitRequest};

const MINUTE: Duration = Duration::from_secs(60);

/// Token buckets of one process.
#[derive(Debug, Default)]
pub struct MemoryBuckets {
    /// One per model with a limit.
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

    fn take(&mut self, request: &LimitRequest<'_>) -> LimitDecision {
        self.fill(request.limit);
        let (all_requests, all_tokens) = full(request.limit);
        let tokens = needed(request);
        let mut wait = Duration::ZERO;
        if request.limit.requests_per_minute.is_some() && self.requests < 1.0 {
            wait = wait.max(MINUTE.mul_f64((1.0 - self.requests) / all_requests));
        }
        if request.limit.tokens_per_minute.is_some() && self.tokens < tokens {
            wait = wait.max(MINUTE.mul_f64((tokens - self.tokens) / all_tokens));
        }
        if !wait.is_zero() {
            return LimitDecision::RetryIn(wait.max(Duration::from_millis(1)));
        }
        if request.limit.concurrent.is_some_and(|most| self.under_way.len() >= most as usize) {
            return LimitDecision::Busy;
        }
        self.requests -= 1.0;
        self.tokens -= tokens;
        self.under_way.insert(request.call);
        LimitDecision::Granted
    }
}

#[allow(clippy::cast_precision_loss, reason = "limits are far below 2^52")]
fn full(limit: &Limit) -> (f64, f64) {
    let requests = limit.requests_per_minute.map_or(0.0, f64::from);
    (requests, limit.tokens_per_minute.unwrap_or(0) as f64)
}

/// Returns the tokens that a call takes, at most the capacity: more would never be available.
#[allow(clippy::cast_precision_loss, reason = "limits are far below 2^52")]
fn needed(request: &LimitRequest<'_>) -> f64 {
    request.tokens.min(request.limit.tokens_per_minute.unwrap_or(0)) as f64
}

#[async_trait]
impl Buckets for MemoryBuckets {
    async fn take(&self, request: &LimitRequest<'_>) -> LimitDecision {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        match buckets.get_mut(request.key) {
            Some(bucket) => bucket.take(request),
            None => buckets.entry(request.key.to_owned()).or_insert_with(|| Bucket::new(request.limit)).take(request),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "tokens of one call are far below 2^52")]
    fn release(&self, request: &LimitRequest<'_>, used: Option<u64>) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(bucket) = buckets.get_mut(request.key) else { return };
        if bucket.under_way.remove(&request.call)
            && let Some(used) = used
        {
            // The level may become negative: later calls wait for tokens used beyond the reservation.
            bucket.tokens += needed(request) - used as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(limit: &Limit, n: u128, tokens: u64) -> LimitRequest<'_> {
        LimitRequest { key: "k", limit, call: CallId::from_parts(1, n << 64), tokens, lease: MINUTE }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_and_tokens_come_back_with_time() {
        let limit = Limit { requests_per_minute: Some(2), tokens_per_minute: Some(600), ..Limit::default() };
        let buckets = MemoryBuckets::default();
        assert_eq!(buckets.take(&request(&limit, 1, 300)).await, LimitDecision::Granted);
        assert_eq!(buckets.take(&request(&limit, 2, 300)).await, LimitDecision::Granted);
        assert_eq!(buckets.take(&request(&limit, 3, 100)).await, LimitDecision::RetryIn(Duration::from_secs(30)));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(buckets.take(&request(&limit, 3, 10_000)).await, LimitDecision::RetryIn(Duration::from_secs(30)));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(buckets.take(&request(&limit, 3, 10_000)).await, LimitDecision::Granted, "more than fits takes all");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_used_is_what_counts() {
        let limit = Limit { tokens_per_minute: Some(600), ..Limit::default() };
        let buckets = MemoryBuckets::default();
        assert_eq!(buckets.take(&request(&limit, 1, 600)).await, LimitDecision::Granted);
        buckets.release(&request(&limit, 1, 600), Some(100));
        buckets.release(&request(&limit, 1, 600), Some(0));
        assert_eq!(buckets.take(&request(&limit, 2, 500)).await, LimitDecision::Granted);
        buckets.release(&request(&limit, 2, 500), Some(700));
        assert_eq!(buckets.take(&request(&limit, 3, 100)).await, LimitDecision::RetryIn(Duration::from_secs(30)));
    }

    #[tokio::test]
    async fn no_more_are_under_way_than_may_be() {
        let limit = Limit { concurrent: Some(1), ..Limit::default() };
        let buckets = MemoryBuckets::default();
        assert_eq!(buckets.take(&request(&limit, 1, 1)).await, LimitDecision::Granted);
        assert_eq!(buckets.take(&request(&limit, 2, 1)).await, LimitDecision::Busy);
        buckets.release(&request(&limit, 1, 1), None);
        assert_eq!(buckets.take(&request(&limit, 2, 1)).await, LimitDecision::Granted);
    }
}
