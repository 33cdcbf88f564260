//! All providers of a process: shared clients, a bound on calls in flight, limits, breakers, retries, fallbacks.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use agentry_core::agent::{LlmTarget, ProviderKind};
use agentry_core::chat::Usage;
use agentry_core::money::NanoUsd;
use agentry_core::task::Priority;
use agentry_core::trace::TARGET;
use futures_util::StreamExt;
use prometheus_client::registry::Registry;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::backoff::wait_before;
use crate::breaker::{Breakers, Circuit, Cut};
use crate::limits::{Limits, Permit, Refused};
use crate::metrics::{Metrics, ModelMetrics};
use crate::{
    Abort, Attempt, Buckets, Call, ChatError, ChatOutcome, Endpoints, Hooks, LimitRule, LlmError, LlmErrorKind,
    LlmProvider, MemoryBuckets, Timed, TokenSink,
};

/// Calls that may be outside the process at once. More wait for a free place until their time is up.
pub const MAX_CONCURRENT_CALLS: usize = 2_048;
/// Places that calls of low priority, which nobody watches, leave free for others.
const INTERACTIVE_PLACES: usize = MAX_CONCURRENT_CALLS / 4;
/// Hosts that are connected to before their first call.
const MAX_WARM_HOSTS: usize = 16;
/// Of these, as many at once.
const WARM_AT_ONCE: usize = 4;

/// A wait that is taken from the time of the call after it; for less its conversation is not copied.
const NOTICEABLE: Duration = Duration::from_millis(20);

/// The providers of a process.
pub struct Providers {
    by_kind: HashMap<ProviderKind, Arc<dyn LlmProvider>>,
    places: Semaphore,
    batch_places: Semaphore,
    limits: Limits,
    breakers: Arc<Breakers>,
    metrics: Metrics,
}

impl Providers {
    /// The providers behind these endpoints. Nothing is connected before the first call.
    #[must_use]
    pub fn new(endpoints: &Endpoints) -> Self {
        Self::with_providers(endpoints.providers().collect())
    }

    /// These providers and no others.
    #[must_use]
    pub fn with_providers(by_kind: HashMap<ProviderKind, Arc<dyn LlmProvider>>) -> Self {
        Self {
            by_kind,
            places: Semaphore::new(MAX_CONCURRENT_CALLS),
            batch_places: Semaphore::new(MAX_CONCURRENT_CALLS - INTERACTIVE_PLACES),
            limits: Limits::new(Vec::new(), Arc::new(MemoryBuckets::default())),
            breakers: Arc::default(),
            metrics: Metrics::default(),
        }
    }

    /// The same within limits, which `buckets` counts.
    #[must_use]
    pub fn within(mut self, rules: Vec<LimitRule>, buckets: Arc<dyn Buckets>) -> Self {
        self.limits = Limits::new(rules, buckets);
        self
    }

    /// Connects to where these targets are, so that their first calls need not. Bounded in hosts and in time; what cannot
    /// be reached is logged and left to the first call.
    pub async fn warm(&self, targets: impl IntoIterator<Item = LlmTarget>) {
        let mut seen = HashSet::new();
        let key = |target: &LlmTarget| (target.provider, target.base_url.clone(), target.region.clone());
        let hosts = targets.into_iter().filter(|target| target.provider.leaves_process() && seen.insert(key(target)));
        let connecting = hosts.take(MAX_WARM_HOSTS).filter_map(|target| {
            let provider = Arc::clone(self.by_kind.get(&target.provider)?);
            Some(async move { provider.warm(&target).await })
        });
        futures_util::stream::iter(connecting).buffer_unordered(WARM_AT_ONCE).collect::<()>().await;
    }

    /// Shows in a registry what is measured.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry, &self.breakers);
    }

    /// Counts what a call to this target cost: prices are the caller's.
    pub fn charged(&self, target: &LlmTarget, cost: NanoUsd) {
        self.metrics.of(target).charged(cost);
    }

    /// Models that failed so often that they are left alone for now, each as `provider/model`.
    #[must_use]
    pub fn cut_off(&self) -> Vec<String> {
        let mut open: Vec<String> =
            self.breakers.open().iter().map(|(provider, model)| format!("{provider}/{model}")).collect();
        open.sort_unstable();
        open.dedup();
        open
    }

    /// The same with every provider in another one, which may ask it or answer in its place.
    #[must_use]
    pub fn wrapped(mut self, wrap: &dyn Fn(Arc<dyn LlmProvider>) -> Arc<dyn LlmProvider>) -> Self {
        self.by_kind = self.by_kind.into_iter().map(|(kind, provider)| (kind, wrap(provider))).collect();
        self
    }

    /// Asks `call.target`, then each of `fallback` until one answers.
    ///
    /// Every target has `call.timeout` for all its tries together: waits for a free place and for its limit, retries (at
    /// most three, exponential with full jitter, never before a `Retry-After`) and the calls themselves. The next target
    /// is asked only when the one before stayed unavailable or limited; a refused request or key ends the chat. The first
    /// call carries `call.id`, every other an id from `hooks`. A retried stream is written again from its start.
    pub async fn chat(
        &self,
        call: &Call,
        fallback: &[LlmTarget],
        sink: Option<Arc<dyn TokenSink>>,
        hooks: &dyn Hooks,
    ) -> ChatOutcome {
        let mut chat = Chat { providers: self, sink, hooks, started: Instant::now(), attempts: Vec::new() };
        let mut end = chat.ask(call, !fallback.is_empty()).await;
        for (index, target) in fallback.iter().enumerate() {
            match &end {
                Err(ChatError::Failed(error)) if error.may_fall_back() => {
                    tracing::warn!(%error, fallback = %target.model, "asking the fallback model");
                }
                _ => break,
            }
            let next = Call { id: hooks.new_call_id(), target: target.clone(), ..call.clone() };
            end = chat.ask(&next, index + 1 < fallback.len()).await;
        }
        ChatOutcome { attempts: chat.attempts, error: end.err() }
    }

    fn provider(&self, call: &Call) -> Result<&Arc<dyn LlmProvider>, LlmError> {
        let kind = call.target.provider;
        self.by_kind.get(&kind).ok_or_else(|| {
            error(call, LlmErrorKind::InvalidRequest, format!("provider `{kind}` is not one of this process"))
        })
    }

    /// Waits for a place among all calls of the process, and for the limit of the model.
    async fn room(&self, call: &Call, interactive: bool, deadline: Instant) -> Result<Room<'_>, LlmError> {
        let places = async {
            // Calls of batches wait for one another before they wait with the others.
            let batch = if interactive { None } else { Some(self.batch_places.acquire().await.ok()?) };
            Some((batch, self.places.acquire().await.ok()?))
        };
        let places = timeout_at(deadline, places).await.ok().flatten().ok_or_else(|| {
            let message = format!("{MAX_CONCURRENT_CALLS} calls are in flight and none ended in time; try later");
            error(call, LlmErrorKind::Unavailable, message)
        })?;
        let permit =
            self.limits.permit(call, interactive, deadline).await.map_err(|refused| limited(call, &refused))?;
        Ok(Room { _places: places, permit })
    }
}

/// What a call needs to leave the process.
struct Room<'a> {
    _places: (Option<SemaphorePermit<'a>>, SemaphorePermit<'a>),
    permit: Option<Permit>,
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
    async fn ask(&mut self, call: &Call, has_fallback: bool) -> Result<(), ChatError> {
        let deadline = Instant::now() + call.timeout;
        let metrics = self.providers.metrics.of(&call.target);
        let mut failed = match self.attempt(call, deadline, &metrics).await? {
            None => return Ok(()),
            Some(failed) => failed,
        };
        for retry in 1.. {
            let remaining = deadline.saturating_duration_since(Instant::now());
            let Some(wait) = wait_before(retry, &failed, remaining, self.hooks.jitter(), has_fallback) else { break };
            tracing::debug!(error = %failed, retry, ?wait, "retrying a provider call");
            metrics.retried();
            sleep(wait).await;
            let timeout = deadline.saturating_duration_since(Instant::now());
            let next = Call { id: self.hooks.new_call_id(), timeout, ..call.clone() };
            match self.attempt(&next, deadline, &metrics).await? {
                None => return Ok(()),
                Some(error) => failed = error,
            }
        }
        Err(failed.into())
    }

    /// One call; `None` when it was answered.
    async fn attempt(
        &mut self,
        call: &Call,
        deadline: Instant,
        metrics: &ModelMetrics,
    ) -> Result<Option<LlmError>, ChatError> {
        let provider = self.providers.provider(call)?;
        if !call.target.provider.leaves_process() {
            let began = Instant::now();
            let span = chat_span(call);
            let result = provider.call(call, self.sink.clone()).instrument(span.clone()).await;
            note_end(&span, &result);
            return Ok(self.record(call, result, began));
        }
        let interactive = call.priority != Priority::Low || self.sink.is_some();
        let circuit = Circuit::of(&call.target);
        // Asked before anything is waited for, and claimed only when nothing is left to wait for.
        if let Err(cut) = self.providers.breakers.allows(&circuit) {
            return Ok(Some(cut_off(call, &cut, metrics)));
        }
        let asked = Instant::now();
        let room = self.providers.room(call, interactive, deadline).await;
        metrics.waited(asked.elapsed());
        let mut room = room.inspect_err(|error| metrics.failed(error.kind))?;
        let admission = match self.providers.breakers.admit(&circuit) {
            Ok(admission) => admission,
            Err(cut) => return Ok(Some(cut_off(call, &cut, metrics))),
        };
        self.hooks.before(call).await.map_err(|abort: Abort| ChatError::Aborted(abort))?;
        let began = Instant::now();
        let timeout = deadline.saturating_duration_since(began);
        let result = {
            let _under_way = metrics.begins();
            let span = chat_span(call);
            let result = if call.timeout.saturating_sub(timeout) < NOTICEABLE {
                provider.call(call, self.sink.clone()).instrument(span.clone()).await
            } else {
                // The time that was waited is gone.
                provider.call(&Call { timeout, ..call.clone() }, self.sink.clone()).instrument(span.clone()).await
            };
            note_end(&span, &result);
            result
        };
        metrics.ended(&result);
        admission.ended(result.as_ref().err());
        if let Some(permit) = &mut room.permit {
            permit.used(result.as_ref().map_or_else(|error| &error.usage, |timed| &timed.reply.usage));
        }
        Ok(self.record(call, result, began))
    }

    /// Notes a call that was made; returns why it failed.
    fn record(&mut self, call: &Call, result: Result<Timed, LlmError>, began: Instant) -> Option<LlmError> {
        let failed = result.as_ref().err().cloned();
        let duration = result.as_ref().map_or_else(|_| began.elapsed(), |timed| timed.duration);
        let started_after = began.saturating_duration_since(self.started);
        let attempt = Attempt { call: call.id, target: call.target.clone(), result, started_after, duration };
        if failed.is_some() {
            self.hooks.failed(&attempt);
        }
        self.attempts.push(attempt);
        failed
    }
}

/// The span of a call, by OpenTelemetry's conventions for generative AI (1.38); none when none is kept. What is said
/// stays out of it.
fn chat_span(call: &Call) -> Span {
    let place = call.place();
    if !place.is_kept() {
        return Span::none();
    }
    let model = &*call.target.model;
    tracing::info_span!(
        target: TARGET, "chat", trace_id = place.trace.id.0, span_id = place.span.0.get(), parent_id = place.parent_id(),
        otel.name = %format_args!("chat {model}"), otel.kind = "client",
        gen_ai.operation.name = "chat", gen_ai.provider.name = call.target.provider.telemetry_name(), gen_ai.agent.name = call.agent.as_str(),
        gen_ai.request.model = model, gen_ai.response.model = Empty,
        gen_ai.usage.input_tokens = Empty, gen_ai.usage.output_tokens = Empty,
        agentry.call.id = %call.id, "error.type" = Empty,
    )
}

fn note_end(span: &Span, result: &Result<Timed, LlmError>) {
    if span.is_disabled() {
        return;
    }
    let usage = match result {
        Ok(timed) => {
            span.record("gen_ai.response.model", timed.reply.model.as_str());
            &timed.reply.usage
        }
        Err(error) => {
            span.record("error.type", LlmErrorKind::CLASSES[error.kind.class()]);
            &error.usage
        }
    };
    span.record("gen_ai.usage.input_tokens", usage.input_tokens);
    span.record("gen_ai.usage.output_tokens", usage.output_tokens);
}

/// No call was made: its breaker is open.
fn cut_off(call: &Call, cut: &Cut, metrics: &ModelMetrics) -> LlmError {
    let kind = LlmErrorKind::CircuitOpen { retry_after: cut.wait };
    metrics.failed(kind);
    let (because, wait) = (&cut.because, cut.wait.as_secs_f64());
    error(
        call,
        kind,
        format!("{because}; it failed so often that it is left alone for {wait:.1} s, and no call was made"),
    )
}

/// No call was made: its limit has no room.
fn limited(call: &Call, refused: &Refused) -> LlmError {
    let retry_after = match refused {
        Refused::TooLong { wait, .. } => Some(*wait),
        _ => None,
    };
    error(call, LlmErrorKind::RateLimited { retry_after }, format!("{refused}; see llm.limits of the settings"))
}

fn error(call: &Call, kind: LlmErrorKind, message: String) -> LlmError {
    let provider = call.target.provider.as_str();
    LlmError { kind, provider, model: call.target.model.to_string(), message, usage: Usage::default() }
}
