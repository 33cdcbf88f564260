//! All providers of a process: shared clients, a bound on calls in flight, retries, fallbacks.

use std::collections::HashMap;
use std::sync::Arc;

use agentry_core::agent::{LlmTarget, ProviderKind};
use agentry_core::chat::Usage;
use agentry_core::id::CallId;
use secrecy::SecretString;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use crate::backoff::wait_before;
use crate::openai::{OpenAi, OpenAiSettings};
use crate::simulated::Simulated;
use crate::{Abort, Attempt, Call, ChatError, ChatOutcome, Hooks, LlmError, LlmErrorKind, LlmProvider, TokenSink};

/// Calls that may be outside the process at once. More wait for a free place until their time is up.
pub const MAX_CONCURRENT_CALLS: usize = 2_048;

/// Where providers are reached and with which keys.
#[derive(Debug, Clone, Default)]
pub struct Endpoints {
    /// `OPENAI_API_KEY`.
    pub openai_api_key: Option<SecretString>,
    /// Where OpenAI targets without a `base_url` of their own go.
    pub openai_base_url: Option<String>,
    /// Where every target that leaves the process goes instead, by OpenAI's protocol and without a key (`--sim`).
    pub override_base_url: Option<String>,
}

/// The providers of a process.
pub struct Providers {
    by_kind: HashMap<ProviderKind, Arc<dyn LlmProvider>>,
    places: Semaphore,
}

impl Providers {
    /// The providers behind these endpoints. Nothing is connected before the first call.
    #[must_use]
    pub fn new(endpoints: Endpoints) -> Self {
        let overridden = endpoints.override_base_url.is_some();
        let openai: Arc<dyn LlmProvider> = Arc::new(OpenAi::new(OpenAiSettings {
            api_key: endpoints.openai_api_key,
            base_url: endpoints.openai_base_url,
            override_base_url: endpoints.override_base_url,
        }));
        let mut by_kind: HashMap<ProviderKind, Arc<dyn LlmProvider>> = HashMap::new();
        for kind in ProviderKind::ALL {
            if kind == ProviderKind::Openai || (overridden && kind.leaves_process()) {
                by_kind.insert(kind, Arc::clone(&openai));
            }
        }
        by_kind.insert(ProviderKind::Simulated, Arc::new(Simulated));
        Self::with_providers(by_kind)
    }

    /// These providers and no others.
    #[must_use]
    pub fn with_providers(by_kind: HashMap<ProviderKind, Arc<dyn LlmProvider>>) -> Self {
        Self { by_kind, places: Semaphore::new(MAX_CONCURRENT_CALLS) }
    }

    /// The same with every provider in another one, which may ask it or answer in its place.
    #[must_use]
    pub fn wrapped(mut self, wrap: &dyn Fn(Arc<dyn LlmProvider>) -> Arc<dyn LlmProvider>) -> Self {
        self.by_kind = self.by_kind.into_iter().map(|(kind, provider)| (kind, wrap(provider))).collect();
        self
    }

    /// Asks `call.target`, then each of `fallback` until one answers.
    ///
    /// Every target has `call.timeout` for all its tries together: waits for a free place, retries (at most three,
    /// exponential with full jitter, never before a `Retry-After`) and the calls themselves. The next target is asked
    /// only when the one before stayed unavailable or limited; a refused request or key ends the chat. The first
    /// call carries `call.id`, every other an id from `hooks`. A retried stream is written again from its start.
    pub async fn chat(
        &self,
        call: &Call,
        fallback: &[LlmTarget],
        sink: Option<Arc<dyn TokenSink>>,
        hooks: &dyn Hooks,
    ) -> ChatOutcome {
        let mut chat = Chat { providers: self, sink, hooks, started: Instant::now(), attempts: Vec::new() };
        let mut end = chat.ask(call).await;
        for target in fallback {
            match &end {
                Err(ChatError::Failed(error)) if error.is_retryable() => {
                    tracing::warn!(%error, fallback = %target.model, "asking the fallback model");
                }
                _ => break,
            }
            let next = Call { id: hooks.new_call_id(), target: target.clone(), ..call.clone() };
            end = chat.ask(&next).await;
        }
        ChatOutcome { attempts: chat.attempts, error: end.err() }
    }

    fn provider(&self, call: &Call) -> Result<&Arc<dyn LlmProvider>, LlmError> {
        let kind = call.target.provider;
        self.by_kind.get(&kind).ok_or_else(|| {
            let message =
                format!("provider `{kind}` is not available in this version; use openai with base_url, or --sim");
            error(call, LlmErrorKind::InvalidRequest, message)
        })
    }
}

/// One chat under way.
struct Chat<'a> {
    providers: &'a Providers,
    sink: Option<Arc<dyn TokenSink>>,
    hooks: &'a dyn Hooks,
    started: Instant,
    attempts: Vec<Attempt>,
}

impl Chat<'_> {
    /// One target, with its retries.
    async fn ask(&mut self, call: &Call) -> Result<(), ChatError> {
        let deadline = Instant::now() + call.timeout;
        let mut failed = match self.attempt(call, deadline).await? {
            None => return Ok(()),
            Some(failed) => failed,
        };
        for retry in 1.. {
            let remaining = deadline.saturating_duration_since(Instant::now());
            let Some(wait) = wait_before(retry, &failed, remaining, self.hooks.jitter()) else { break };
            tracing::debug!(error = %failed, retry, ?wait, "retrying a provider call");
            sleep(wait).await;
            let timeout = deadline.saturating_duration_since(Instant::now());
            let next = Call { id: self.hooks.new_call_id(), timeout, ..call.clone() };
            match self.attempt(&next, deadline).await? {
                None => return Ok(()),
                Some(error) => failed = error,
            }
        }
        Err(failed.into())
    }

    /// One call; `None` when it was answered.
    async fn attempt(&mut self, call: &Call, deadline: Instant) -> Result<Option<LlmError>, ChatError> {
        let provider = self.providers.provider(call)?;
        let _place = if call.target.provider.leaves_process() {
            let place = timeout_at(deadline, self.providers.places.acquire()).await.ok().and_then(Result::ok);
            let place = place.ok_or_else(|| {
                let message = format!("{MAX_CONCURRENT_CALLS} calls are in flight and none ended in time; try later");
                error(call, LlmErrorKind::Unavailable, message)
            })?;
            self.hooks.before(call).await.map_err(|abort: Abort| ChatError::Aborted(abort))?;
            Some(place)
        } else {
            None
        };
        let began = Instant::now();
        let result = provider.call(call, self.sink.clone()).await;
        let failed = result.as_ref().err().cloned();
        self.record(call.id, call.target.clone(), result, began);
        Ok(failed)
    }

    fn record(&mut self, call: CallId, target: LlmTarget, result: Result<crate::Timed, LlmError>, began: Instant) {
        let duration = result.as_ref().map_or_else(|_| began.elapsed(), |timed| timed.duration);
        let started_after = began.saturating_duration_since(self.started);
        self.attempts.push(Attempt { call, target, result, started_after, duration });
    }
}

fn error(call: &Call, kind: LlmErrorKind, message: String) -> LlmError {
    let provider = crate::openai::word(call.target.provider);
    LlmError { kind, provider, model: call.target.model.to_string(), message, usage: Usage::default() }
}
