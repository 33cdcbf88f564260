//! Limits on calls and tokens per model: the rules of the settings, the queue, and the counters.
//!
//! Each (provider, model) with a limit has a [`gate`](self::gate::Gate), where calls wait in turn, interactive ones
//! first. [`Buckets`] count: in this process, or in Redis for all processes together.

mod gate;
mod memory;
mod redis;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentry_core::agent::{LlmTarget, ProviderKind};
use agentry_core::chat::Usage;
use agentry_core::id::CallId;
use async_trait::async_trait;
use tokio::time::Instant;

pub use self::memory::MemoryBuckets;
pub use self::redis::{InvalidRedisUrl, RedisBuckets};
use crate::Call;
use gate::Gate;
pub(crate) use gate::GateError;

const BYTES_PER_TOKEN: usize = 4;
/// Estimated output tokens of calls without `max_tokens`.
const ASSUMED_OUTPUT_TOKENS: u64 = 1_024;
/// Time after a call's timeout at which its lease expires.
const LEASE_MARGIN: Duration = Duration::from_secs(30);

/// Limits of a model; `None` means unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limit {
    /// Requests per minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens per minute, of requests and answers together.
    pub tokens_per_minute: Option<u64>,
    /// Calls in flight.
    pub concurrent: Option<u32>,
}

/// A limit and the models it applies to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitRule {
    /// Provider of the models.
    pub provider: ProviderKind,
    /// The model; when absent, every model of the provider, each on its own.
    pub model: Option<String>,
    /// Limits that apply.
    pub limit: Limit,
}

/// A call's request for a share of the limit.
#[derive(Debug, Clone, Copy)]
pub struct LimitRequest<'a> {
    /// Bucket key, `provider/model`.
    pub key: &'a str,
    /// Limits of the model.
    pub limit: &'a Limit,
    /// Id of the call.
    pub call: CallId,
    /// Estimated tokens.
    pub tokens: u64,
    /// Time after which the share is released without a report.
    pub lease: Duration,
}

/// Answer of the buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitDecision {
    /// The call may be made.
    Granted,
    /// Not before this delay.
    RetryIn(Duration),
    /// Too many calls are in flight.
    Busy,
}

/// Counts requests, tokens and calls in flight.
#[async_trait]
pub trait Buckets: Send + Sync + 'static {
    /// Takes everything that a call needs, or nothing.
    async fn take(&self, request: &LimitRequest<'_>) -> LimitDecision;

    /// Reports the end of a call. Its reservation is replaced by the tokens it `used`, when known. Must not block.
    fn release(&self, request: &LimitRequest<'_>, used: Option<u64>);
}

/// Gates of models that were called and have a limit.
type Gates = HashMap<(ProviderKind, Arc<str>), Arc<Gate>>;

pub(crate) struct Limits {
    rules: Vec<LimitRule>,
    buckets: Arc<dyn Buckets>,
    gates: Mutex<Gates>,
}

/// A call's share of a limit. Dropping it gives the share back.
pub(crate) struct Permit {
    gate: Arc<Gate>,
    buckets: Arc<dyn Buckets>,
    call: CallId,
    tokens: u64,
    lease: Duration,
    used: Option<u64>,
}

impl Limits {
    pub fn new(rules: Vec<LimitRule>, buckets: Arc<dyn Buckets>) -> Self {
        Self { rules, buckets, gates: Mutex::default() }
    }

    /// Waits for a call's turn; returns `None` when no limit applies.
    ///
    /// # Errors
    /// The turn does not come before `deadline`.
    pub async fn permit(&self, call: &Call, interactive: bool, deadline: Instant) -> Result<Option<Permit>, GateError> {
        let Some(gate) = self.gate(&call.target) else { return Ok(None) };
        let tokens = estimate(call);
        let lease = call.timeout + LEASE_MARGIN;
        // The permit exists before the request, because a cancelled request may have been granted.
        let permit = Permit {
            gate: Arc::clone(&gate),
            buckets: Arc::clone(&self.buckets),
            call: call.id,
            tokens,
            lease,
            used: None,
        };
        gate.pass(&*self.buckets, &permit.request(), interactive, deadline).await?;
        Ok(Some(permit))
    }

    fn gate(&self, target: &LlmTarget) -> Option<Arc<Gate>> {
        let limit = self.limit(target)?;
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        // Bounded by the models that the fleet names.
        let gate = gates
            .entry((target.provider, Arc::clone(&target.model)))
            .or_insert_with(|| Arc::new(Gate::new(format!("{}/{}", target.provider, target.model), limit)));
        Some(Arc::clone(gate))
    }

    /// Returns the rule of the model, or else the rule of its provider.
    fn limit(&self, target: &LlmTarget) -> Option<Limit> {
        let of = |model: Option<&str>| {
            let fits = |rule: &&LimitRule| rule.provider == target.provider && rule.model.as_deref() == model;
            self.rules.iter().find(fits).map(|rule| rule.limit)
        };
        of(Some(&target.model)).or_else(|| of(None))
    }
}

impl Permit {
    pub fn used(&mut self, usage: &Usage) {
        self.used = Some(usage.input_tokens.saturating_add(usage.output_tokens));
    }

    fn request(&self) -> LimitRequest<'_> {
        let Self { gate, call, tokens, lease, .. } = self;
        LimitRequest { key: &gate.key, limit: &gate.limit, call: *call, tokens: *tokens, lease: *lease }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.buckets.release(&self.request(), self.used);
        self.gate.notify_end();
    }
}

fn estimate(call: &Call) -> u64 {
    let bytes: usize = call.request.messages.iter().map(|message| message.content().len()).sum();
    (bytes / BYTES_PER_TOKEN) as u64 + call.params.max_tokens.map_or(ASSUMED_OUTPUT_TOKENS, u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_call::call;

    #[tokio::test]
    async fn the_models_own_rule_wins_over_that_of_its_provider() {
        let limit = |concurrent| Limit { concurrent: Some(concurrent), ..Limit::default() };
        let rule = |model: Option<&str>, n| LimitRule {
            provider: ProviderKind::Openai,
            model: model.map(str::to_owned),
            limit: limit(n),
        };
        let rules = vec![rule(None, 1), rule(Some("sim-small"), 2)];
        let limits = Limits::new(rules, Arc::new(MemoryBuckets::default()));
        let mut target = call("").target;
        assert_eq!(limits.limit(&target), Some(limit(2)));
        target.model = "other".into();
        assert_eq!(limits.limit(&target), Some(limit(1)));
        target.provider = ProviderKind::Ollama;
        assert!(limits.gate(&target).is_none());
    }
}
