//! All providers of a process: shared clients, a bound on calls in flight, limits, breakers, retries, fallbacks.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use agentry_core::agent::{LlmTarget, ProviderKind};
use agentry_core::models::ModelTable;
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
use crate::breaker::{Breakers, Circuit, OpenCircuit};
use crate::limits::{GateError, Limits, Permit};
use crate::metrics::{Metrics, ModelMetrics};
use crate::wire::failure::error;
use crate::{
    Abort, Attempt, Buckets, Call, ChatError, ChatOutcome, Endpoints, Hooks, LimitRule, LlmError, LlmErrorKind,
    LlmProvider, MemoryBuckets, TimedReply, TokenSink,
};

/// Largest number of calls in flight. Further calls wait until their timeout.
pub const MAX_CONCURRENT_CALLS: usize = 2_048;
/// Slots that calls of low priority without a sink leave free for others.
const INTERACTIVE_SLOTS: usize = MAX_CONCURRENT_CALLS / 4;
const MAX_WARM_HOSTS: usize = 16;
const WARM_AT_ONCE: usize = 4;

/// A shorter wait is not subtracted from the call's timeout, which saves a copy of the conversation.
const NOTICEABLE: Duration = Duration::from_millis(20);

/// The LLM providers of a process.
pub struct Providers {
    by_kind: HashMap<ProviderKind, Arc<dyn LlmProvider>>,
    slots: Semaphore,
    batch_slots: Semaphore,
    limits: Limits,
    breakers: Arc<Breakers>,
    metrics: Metrics,
    models: Arc<ModelTable>,
}

impl Providers {
    /// Creates the providers of these endpoints. They connect with their first call.
    #[must_use]
    pub fn new(endpoints: &Endpoints) -> Self {
        Self::with_providers(endpoints.providers().collect())
    }

    /// Uses these providers and no others.
    #[must_use]
    pub fn with_providers(by_kind: HashMap<ProviderKind, Arc<dyn LlmProvider>>) -> Self {
        Self {
            by_kind,
            slots: Semaphore::new(MAX_CONCURRENT_CALLS),
            batch_slots: Semaphore::new(MAX_CONCURRENT_CALLS - INTERACTIVE_SLOTS),
            limits: Limits::new(Vec::new(), Arc::new(MemoryBuckets::default())),
            breakers: Arc::default(),
            metrics: Metrics::default(),
            models: Arc::new(ModelTable::builtin()),
        }
    }

    /// Uses this table of models instead of the one that ships with Agentry.
    #[must_use]
    pub fn with_models(mut self, models: Arc<ModelTable>) -> Self {
        self.models = models;
        self
    }

    /// Adds limits, which `buckets` count.
    #[must_use]
    pub fn with_limits(mut self, rules: Vec<LimitRule>, buckets: Arc<dyn Buckets>) -> Self {
        self.limits = Limits::new(rules, buckets);
        self
    }

    /// Connects to the hosts of these targets before their first calls. Bounded in hosts and in time; failures are
    /// logged.
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

    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry, &self.breakers);
    }

    /// Counts the cost of a call to this target, which the caller computes.
    pub fn record_cost(&self, target: &LlmTarget, cost: NanoUsd) {
        self.metrics.of(target).record_cost(cost);
    }

    /// Returns the models whose breakers are open, each as `provider/model`.
    #[must_use]
    pub fn open_breakers(&self) -> Vec<String> {
        let mut open: Vec<String> =
            self.breakers.open().iter().map(|(provider, model)| format!("{provider}/{model}")).collect();
        open.sort_unstable();
        open.dedup();
        open
    }

    /// Wraps every provider.
    #[must_use]
    pub fn wrap_providers(mut self, wrap: &dyn Fn(Arc<dyn LlmProvider>) -> Arc<dyn LlmProvider>) -> Self {
        self.by_kind = self.by_kind.into_iter().map(|(kind, provider)| (kind, wrap(provider))).collect();
        self
    }

    /// Calls `call.target`, then each of `fallback` until one answers.
    ///
    /// Every target has `call.timeout` for all its attempts together: waits for a slot and for its limit, retries (at
    /// most three, exponential with full jitter, never before a `Retry-After`) and the calls themselves. The next
    /// target is called when the one before stayed unavailable or limited, is gone, or refused the request or to answer;
    /// a refused key ends the chat. What a target's model does not take of the parameters is left out. The first call
    /// has `call.id`, every other an id from `hooks`. The watchers of a stream that is retried are told to begin again.
    pub async fn chat(
        &self,
        call: &Call,
        fallback: &[LlmTarget],
        sink: Option<Arc<dyn TokenSink>>,
        hooks: &dyn Hooks,
    ) -> ChatOutcome {
        let mut chat = Chat { providers: self, sink, hooks, started: Instant::now(), attempts: Vec::new() };
        let mut end = match self.fitted(call) {
            Ok(call) => chat.call_target(&call, !fallback.is_empty()).await,
            Err(error) => Err(error.into()),
        };
        for (index, target) in fallback.iter().enumerate() {
            match &end {
                Err(ChatError::Failed(error)) if error.may_fall_back() => {
                    tracing::warn!(%error, fallback = %target.model, "provider call failed; calling the fallback model");
                }
                _ => break,
            }
            let next = Call { id: hooks.new_call_id(), target: target.clone(), ..call.clone() };
            end = match self.fitted(&next) {
                Ok(next) => chat.call_target(&next, index + 1 < fallback.len()).await,
                Err(error) => Err(error.into()),
            };
        }
        ChatOutcome { attempts: chat.attempts, error: end.err() }
    }

    /// Returns the call with the traits of its model, without the parameters that the model refuses.
    ///
    /// # Errors
    /// Something would be left out, and the agent's file says that this is an error.
    pub fn fitted(&self, call: &Call) -> Result<Call, LlmError> {
        let traits = self.models.of(call.target.provider, &call.target.model);
        let admitted = traits.admit(&call.params);
        if let Some(left_out) = admitted.left_out.first().filter(|_| call.params.strict_parameters) {
            let message = format!("`{}` cannot be sent: {}", left_out.key, left_out.reason);
            return Err(error(call, LlmErrorKind::InvalidRequest, message));
        }
        let mut call = Call { params: admitted.params, traits, ..call.clone() };
        if call.must_limit {
            call.params.max_tokens = Some(call.output_limit());
        }
        Ok(call)
    }

    fn provider(&self, call: &Call) -> Result<&Arc<dyn LlmProvider>, LlmError> {
        let kind = call.target.provider;
        self.by_kind.get(&kind).ok_or_else(|| {
            error(call, LlmErrorKind::InvalidRequest, format!("provider `{kind}` is not available in this process"))
        })
    }

    /// Waits for a slot and for the limit of the model.
    async fn reserve(&self, call: &Call, interactive: bool, deadline: Instant) -> Result<CallSlots<'_>, LlmError> {
        let slots = async {
            // Calls of low priority compete for their own slots before they compete with the others.
            let batch = if interactive { None } else { Some(self.batch_slots.acquire().await.ok()?) };
            Some((batch, self.slots.acquire().await.ok()?))
        };
        let slots = timeout_at(deadline, slots).await.ok().flatten().ok_or_else(|| {
            let message = format!("{MAX_CONCURRENT_CALLS} calls are in flight and none ended in time; try later");
            error(call, LlmErrorKind::Unavailable, message)
        })?;
        let permit =
            self.limits.permit(call, interactive, deadline).await.map_err(|gate_error| limited(call, &gate_error))?;
        Ok(CallSlots { _slots: slots, permit })
    }
}

struct CallSlots<'a> {
    _slots: (Option<SemaphorePermit<'a>>, SemaphorePermit<'a>),
    permit: Option<Permit>,
}

struct Chat<'a> {
    providers: &'a Providers,
    sink: Option<Arc<dyn TokenSink>>,
    hooks: &'a dyn Hooks,
    started: Instant,
    attempts: Vec<Attempt>,
}

impl Chat<'_> {
    async fn call_target(&mut self, call: &Call, has_fallback: bool) -> Result<(), ChatError> {
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

    /// Makes one attempt; returns `None` when it was answered.
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
            record_result(&span, &result);
            return Ok(self.record(call, result, began));
        }
        let interactive = call.priority != Priority::Low || self.sink.is_some();
        let circuit = Circuit::of(&call.target);
        // The breaker is checked before the waits, and the probe is taken only after them.
        if let Err(open) = self.providers.breakers.allows(&circuit) {
            return Ok(Some(circuit_open(call, &open, metrics)));
        }
        let queued_at = Instant::now();
        let slots = self.providers.reserve(call, interactive, deadline).await;
        metrics.waited(queued_at.elapsed());
        let mut slots = slots.inspect_err(|error| metrics.failed(error.kind))?;
        let admission = match self.providers.breakers.admit(&circuit) {
            Ok(admission) => admission,
            Err(open) => return Ok(Some(circuit_open(call, &open, metrics))),
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
                // The wait has used up a part of the timeout.
                provider.call(&Call { timeout, ..call.clone() }, self.sink.clone()).instrument(span.clone()).await
            };
            record_result(&span, &result);
            result
        };
        metrics.ended(&result);
        admission.record(result.as_ref().err());
        if let Some(permit) = &mut slots.permit {
            permit.used(result.as_ref().map_or_else(|error| &error.usage, |timed| &timed.reply.usage));
        }
        Ok(self.record(call, result, began))
    }

    fn record(&mut self, call: &Call, result: Result<TimedReply, LlmError>, began: Instant) -> Option<LlmError> {
        let failed = result.as_ref().err().cloned();
        let duration = result.as_ref().map_or_else(|_| began.elapsed(), |timed| timed.duration);
        let started_after = began.saturating_duration_since(self.started);
        let attempt = Attempt { call: call.id, target: call.target.clone(), result, started_after, duration };
        if failed.is_some() {
            if let Some(sink) = &self.sink {
                sink.restart();
            }
            self.hooks.failed(&attempt);
        }
        self.attempts.push(attempt);
        failed
    }
}

/// Creates the span of a call, by OpenTelemetry's conventions for generative AI (1.38), unless the trace is not
/// sampled. It contains no content.
fn chat_span(call: &Call) -> Span {
    let place = call.place();
    if !place.is_exported() {
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

fn record_result(span: &Span, result: &Result<TimedReply, LlmError>) {
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

/// Returns the error of a call that an open breaker refused.
fn circuit_open(call: &Call, open: &OpenCircuit, metrics: &ModelMetrics) -> LlmError {
    let kind = LlmErrorKind::CircuitOpen { retry_after: open.wait };
    metrics.failed(kind);
    let (last_failure, wait) = (&open.last_failure, open.wait.as_secs_f64());
    error(
        call,
        kind,
        format!("{last_failure}; circuit breaker open for {wait:.1} s after too many failures, no call was made"),
    )
}

/// Returns the error of a call that a limit refused.
fn limited(call: &Call, gate_error: &GateError) -> LlmError {
    let retry_after = match gate_error {
        GateError::TooLong { wait, .. } => Some(*wait),
        _ => None,
    };
    error(call, LlmErrorKind::RateLimited { retry_after }, format!("{gate_error}; see llm.limits of the settings"))
}
