//! How many calls and tokens a model may be asked for: limits of the settings, the queue before them, and what counts.
//!
//! Each (provider, model) with a limit has a [`gate`](self::gate::Gate), where calls wait in turn, interactive ones
//! first. What is counted lives behind [`Buckets`]: in this process, or in Redis for all processes together.

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
pub(crate) use gate::Refused;

/// Bytes of a request that are taken for one token before the provider has counted.
const BYTES_PER_TOKEN: usize = 4;
/// Tokens of an answer that are assumed when its agent sets no `max_tokens`.
const ASSUMED_OUTPUT_TOKENS: u64 = 1_024;
/// How much longer than its time a call is believed to run that nobody ended.
const LEASE_MARGIN: Duration = Duration::from_secs(30);

/// What a model may be asked for. Nothing is limited that is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limit {
    /// Requests in a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens in a minute, of requests and answers together.
    pub tokens_per_minute: Option<u64>,
    /// Calls at once.
    pub concurrent: Option<u32>,
}

/// A limit, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitRule {
    /// The provider.
    pub provider: ProviderKind,
    /// The model; every model of the provider, each for itself, when absent.
    pub model: Option<String>,
    /// The limit.
    pub limit: Limit,
}

/// What is asked of the buckets.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// `provider/model`.
    pub key: &'a str,
    /// Its limit.
    pub limit: &'a Limit,
    /// Which call.
    pub call: CallId,
    /// Tokens that it may need.
    pub tokens: u64,
    /// After how long it has surely ended, should nobody say so.
    pub lease: Duration,
}

/// What the buckets answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The call may be made.
    Now,
    /// Not before this long.
    Later(Duration),
    /// Too many calls are under way.
    Busy,
}

/// Counts requests, tokens and calls under way.
#[async_trait]
pub trait Buckets: Send + Sync + 'static {
    /// Takes what a call needs, all of it or nothing.
    async fn take(&self, wanted: &Wanted<'_>) -> Taken;

    /// A call ended. Its tokens become those that it `used`, when that is known. Must not wait.
    fn give_back(&self, wanted: &Wanted<'_>, used: Option<u64>);
}

/// The gate of each model that was asked for and has a limit.
type Gates = HashMap<(ProviderKind, Arc<str>), Arc<Gate>>;

/// The limits of a process.
pub(crate) struct Limits {
    rules: Vec<LimitRule>,
    buckets: Arc<dyn Buckets>,
    gates: Mutex<Gates>,
}

/// A call's share. Given back when this is dropped.
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

    /// Waits for a call's turn; `None` when nothing limits it.
    ///
    /// # Errors
    /// When its turn does not come before `deadline`.
    pub async fn permit(&self, call: &Call, interactive: bool, deadline: Instant) -> Result<Option<Permit>, Refused> {
        let Some(gate) = self.gate(&call.target) else { return Ok(None) };
        let tokens = estimate(call);
        let lease = call.timeout + LEASE_MARGIN;
        // Before it is asked for: who is cancelled while asking may have been given it.
        let permit = Permit {
            gate: Arc::clone(&gate),
            buckets: Arc::clone(&self.buckets),
            call: call.id,
            tokens,
            lease,
            used: None,
        };
        gate.pass(&*self.buckets, &permit.wanted(), interactive, deadline).await?;
        Ok(Some(permit))
    }

    fn gate(&self, target: &LlmTarget) -> Option<Arc<Gate>> {
        let limit = self.limit(target)?;
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        // As many as the fleet's files name models.
        let gate = gates
            .entry((target.provider, Arc::clone(&target.model)))
            .or_insert_with(|| Arc::new(Gate::new(format!("{}/{}", target.provider, target.model), limit)));
        Some(Arc::clone(gate))
    }

    /// That of the model, or else that of all models of its provider.
    fn limit(&self, target: &LlmTarget) -> Option<Limit> {
        let of = |model: Option<&str>| {
            let fits = |rule: &&LimitRule| rule.provider == target.provider && rule.model.as_deref() == model;
            self.rules.iter().find(fits).map(|rule| rule.limit)
        };
        of(Some(&target.model)).or_else(|| of(None))
    }
}

impl Permit {
    /// What the provider counted.
    pub fn used(&mut self, usage: &Usage) {
        self.used = Some(usage.input_tokens.saturating_add(usage.output_tokens));
    }

    fn wanted(&self) -> Wanted<'_> {
        let Self { gate, call, tokens, lease, .. } = self;
        Wanted { key: &gate.key, limit: &gate.limit, call: *call, tokens: *tokens, lease: *lease }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.buckets.give_back(&self.wanted(), self.used);
        self.gate.released();
    }
}

/// Tokens that a call may need.
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
