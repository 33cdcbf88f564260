//! What is measured of each provider and model: times, tokens, errors, retries, waits. Plain atomics.

mod histogram;
mod render;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use agentry_core::agent::{LlmTarget, ProviderKind};
use agentry_core::chat::Usage;

use crate::{LlmError, LlmErrorKind, Timed};
use histogram::Histogram;

/// Pairs of provider and model that are counted apart; further models count as [`OTHER`].
const MAX_MODELS: usize = 200;
/// The model of all pairs beyond.
const OTHER: &str = "other";

/// Upper bounds of times, in microseconds: 5 ms to 10 min.
const TIMES_US: [u64; 14] = [
    5_000,
    25_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
    600_000_000,
];
/// Upper bounds of waits, in microseconds: 100 µs to 1 min.
const WAITS_US: [u64; 8] = [100, 1_000, 10_000, 100_000, 1_000_000, 5_000_000, 15_000_000, 60_000_000];
/// Upper bounds of tokens in a second, in millionths.
const RATES: [u64; 10] = [
    1_000_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
];

/// What is measured of one model.
#[derive(Debug)]
pub(crate) struct ModelMetrics {
    provider: ProviderKind,
    model: String,
    in_flight: AtomicUsize,
    completed: AtomicU64,
    errors: [AtomicU64; LlmErrorKind::CLASSES.len()],
    retries: AtomicU64,
    tokens: [AtomicU64; TOKENS.len()],
    first_token: Histogram,
    duration: Histogram,
    rate: Histogram,
    wait: Histogram,
}

/// What kinds of tokens are counted, as metrics name them.
const TOKENS: [&str; 5] = ["input", "output", "cached", "cache_write", "reasoning"];

impl ModelMetrics {
    fn new(provider: ProviderKind, model: String) -> Self {
        Self {
            provider,
            model,
            in_flight: AtomicUsize::new(0),
            completed: AtomicU64::new(0),
            errors: Default::default(),
            retries: AtomicU64::new(0),
            tokens: Default::default(),
            first_token: Histogram::new(&TIMES_US),
            duration: Histogram::new(&TIMES_US),
            rate: Histogram::new(&RATES),
            wait: Histogram::new(&WAITS_US),
        }
    }

    /// A call leaves the process.
    pub fn begins(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(&self.in_flight)
    }

    /// How long a call waited for its place and its permit.
    pub fn waited(&self, wait: Duration) {
        self.wait.observe(micros(wait));
    }

    /// A call is made again.
    pub fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// A call ended.
    pub fn ended(&self, result: &Result<Timed, LlmError>) {
        match result {
            Ok(timed) => {
                self.completed.fetch_add(1, Ordering::Relaxed);
                self.duration.observe(micros(timed.duration));
                if let Some(first) = timed.first_token {
                    self.first_token.observe(micros(first));
                }
                self.count(&timed.reply.usage);
                self.observe_rate(timed);
            }
            Err(error) => {
                self.failed(error.kind);
                self.count(&error.usage);
            }
        }
    }

    /// A call failed, or was not made.
    pub fn failed(&self, kind: LlmErrorKind) {
        self.errors[kind.class()].fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self, usage: &Usage) {
        let written = usage.cache_write_tokens + usage.cache_write_1h_tokens;
        let counts = [usage.input_tokens, usage.output_tokens, usage.cached_tokens, written, usage.reasoning_tokens];
        for (total, count) in self.tokens.iter().zip(counts) {
            if count > 0 {
                total.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// Tokens of the answer by the time from the first of them to the last; of an answer in one piece by all its time.
    fn observe_rate(&self, timed: &Timed) {
        let writing = timed.duration.saturating_sub(timed.first_token.unwrap_or_default());
        let tokens = timed.reply.usage.output_tokens;
        if tokens > 1 && writing >= Duration::from_millis(1) {
            let rate = u128::from(tokens) * 1_000_000_000_000 / u128::from(micros(writing).max(1));
            self.rate.observe(u64::try_from(rate).unwrap_or(u64::MAX));
        }
    }
}

/// A call under way.
pub(crate) struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// By model, of one provider.
type Models = HashMap<Arc<str>, Arc<ModelMetrics>>;

/// What is measured of all models.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    models: RwLock<HashMap<ProviderKind, Models>>,
}

impl Metrics {
    /// That of a target.
    pub fn of(&self, target: &LlmTarget) -> Arc<ModelMetrics> {
        {
            let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = models.get(&target.provider).and_then(|models| models.get(&target.model)) {
                return Arc::clone(known);
            }
        }
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        let is_full = models.values().map(HashMap::len).sum::<usize>() >= MAX_MODELS;
        let model: Arc<str> = if is_full { OTHER.into() } else { Arc::clone(&target.model) };
        let of_provider = models.entry(target.provider).or_default();
        let new = || Arc::new(ModelMetrics::new(target.provider, model.to_string()));
        Arc::clone(of_provider.entry(Arc::clone(&model)).or_insert_with(new))
    }

    fn all(&self) -> Vec<Arc<ModelMetrics>> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = models.values().flat_map(HashMap::values).cloned().collect();
        all.sort_by(|a, b| (a.provider.as_str(), &a.model).cmp(&(b.provider.as_str(), &b.model)));
        all
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_call::call;

    #[test]
    fn models_beyond_the_bound_count_together() {
        let metrics = Metrics::default();
        let mut target = call("").target;
        for n in 0..MAX_MODELS + 10 {
            target.model = format!("m{n}").into();
            metrics.of(&target).retried();
        }
        let all = metrics.all();
        assert_eq!(all.len(), MAX_MODELS + 1);
        let other = all.iter().find(|one| one.model == OTHER).unwrap();
        assert_eq!(other.retries.load(Ordering::Relaxed), 10);
    }
}
