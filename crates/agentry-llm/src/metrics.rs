//! What is measured of each provider and model: times, tokens, errors, retries, waits, cost.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use agentry_core::agent::{LlmTarget, ProviderKind};
use agentry_core::chat::Usage;
use agentry_core::money::NanoUsd;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::breaker::Breakers;
use crate::{LlmError, LlmErrorKind, Timed};

/// Pairs of provider and model that are counted apart; further models count as [`OTHER`].
const MAX_MODELS: usize = 200;
/// The model of all pairs beyond.
const OTHER: &str = "other";

/// Upper bounds of times, in seconds.
const TIMES: [f64; 14] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// Upper bounds of waits, in seconds.
const WAITS: [f64; 8] = [0.0001, 0.001, 0.01, 0.1, 1.0, 5.0, 15.0, 60.0];
/// Upper bounds of tokens in a second.
const RATES: [f64; 10] = [1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 5_000.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfModel {
    provider: &'static str,
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfError {
    provider: &'static str,
    model: String,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTokens {
    provider: &'static str,
    model: String,
    r#type: &'static str,
}

/// By model, of one provider.
type Models = HashMap<Arc<str>, Arc<ModelMetrics>>;
type Known = HashMap<ProviderKind, Models>;
type Histograms = Family<OfModel, Histogram, fn() -> Histogram>;
type Dollars = Counter<f64, std::sync::atomic::AtomicU64>;

/// What is measured of all models.
#[derive(Debug)]
pub(crate) struct Metrics {
    known: Arc<RwLock<Known>>,
    in_flight: Family<OfModel, Gauge>,
    completed: Family<OfModel, Counter>,
    errors: Family<OfError, Counter>,
    retries: Family<OfModel, Counter>,
    tokens: Family<OfTokens, Counter>,
    cost: Family<OfModel, Dollars>,
    first_token: Histograms,
    duration: Histograms,
    rate: Histograms,
    wait: Histograms,
}

impl Default for Metrics {
    fn default() -> Self {
        let times: fn() -> Histogram = || Histogram::new(TIMES);
        Self {
            known: Arc::default(),
            in_flight: Family::default(),
            completed: Family::default(),
            errors: Family::default(),
            retries: Family::default(),
            tokens: Family::default(),
            cost: Family::default(),
            first_token: Family::new_with_constructor(times),
            duration: Family::new_with_constructor(times),
            rate: Family::new_with_constructor(|| Histogram::new(RATES)),
            wait: Family::new_with_constructor(|| Histogram::new(WAITS)),
        }
    }
}

impl Metrics {
    /// Shows everything in a registry.
    pub fn register(&self, registry: &mut Registry, breakers: &Arc<Breakers>) {
        registry.register("agentry_llm_calls", "Calls of models that were answered", self.completed.clone());
        registry.register("agentry_llm_retries", "Calls of models that were made again", self.retries.clone());
        let help = "Calls of models that failed or were not made, by class";
        registry.register("agentry_llm_errors", help, self.errors.clone());
        let help = "Tokens as providers counted them; cached, cache_write and reasoning are parts of the others";
        registry.register("agentry_llm_tokens", help, self.tokens.clone());
        let help = "What the calls of this process cost by the price table; calls without a price are not in it";
        registry.register("agentry_llm_cost_dollars", help, self.cost.clone());
        registry.register("agentry_llm_calls_in_flight", "Calls of models that are under way", self.in_flight.clone());
        let help = "Time from sending to the first token of a stream";
        registry.register("agentry_llm_first_token_seconds", help, self.first_token.clone());
        let help = "Time from sending to the end of an answer";
        registry.register("agentry_llm_call_duration_seconds", help, self.duration.clone());
        let help = "Tokens of an answer by the time it was written in";
        registry.register("agentry_llm_output_tokens_per_second", help, self.rate.clone());
        let help = "Time that a call waited for its place and its permit";
        registry.register("agentry_llm_permit_wait_seconds", help, self.wait.clone());
        registry.register_collector(Box::new(Open { breakers: Arc::clone(breakers), known: Arc::clone(&self.known) }));
    }

    /// That of a target.
    pub fn of(&self, target: &LlmTarget) -> Arc<ModelMetrics> {
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = known.get(&target.provider).and_then(|models| models.get(&target.model)) {
                return Arc::clone(known);
            }
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let is_full = known.values().map(HashMap::len).sum::<usize>() >= MAX_MODELS;
        let model: Arc<str> = if is_full { OTHER.into() } else { Arc::clone(&target.model) };
        let of_provider = known.entry(target.provider).or_default();
        let new = || Arc::new(self.new_model(OfModel { provider: target.provider.as_str(), model: model.to_string() }));
        Arc::clone(of_provider.entry(Arc::clone(&model)).or_insert_with(new))
    }

    fn new_model(&self, of: OfModel) -> ModelMetrics {
        ModelMetrics {
            in_flight: self.in_flight.get_or_create_owned(&of),
            completed: self.completed.get_or_create_owned(&of),
            retries: self.retries.get_or_create_owned(&of),
            errors: self.errors.clone(),
            tokens: self.tokens.clone(),
            cost: self.cost.get_or_create_owned(&of),
            first_token: self.first_token.get_or_create_owned(&of),
            duration: self.duration.get_or_create_owned(&of),
            rate: self.rate.get_or_create_owned(&of),
            wait: self.wait.get_or_create_owned(&of),
            of,
        }
    }
}

/// What is measured of one model. What never happened of errors and tokens is not shown.
#[derive(Debug)]
pub(crate) struct ModelMetrics {
    of: OfModel,
    in_flight: Gauge,
    completed: Counter,
    retries: Counter,
    errors: Family<OfError, Counter>,
    tokens: Family<OfTokens, Counter>,
    cost: Dollars,
    first_token: Histogram,
    duration: Histogram,
    rate: Histogram,
    wait: Histogram,
}

impl ModelMetrics {
    /// A call leaves the process.
    pub fn begins(&self) -> InFlight<'_> {
        self.in_flight.inc();
        InFlight(&self.in_flight)
    }

    /// How long a call waited for its place and its permit.
    pub fn waited(&self, wait: Duration) {
        self.wait.observe(wait.as_secs_f64());
    }

    /// A call is made again.
    pub fn retried(&self) {
        self.retries.inc();
    }

    /// A call ended.
    pub fn ended(&self, result: &Result<Timed, LlmError>) {
        match result {
            Ok(timed) => {
                self.completed.inc();
                self.duration.observe(timed.duration.as_secs_f64());
                if let Some(first) = timed.first_token {
                    self.first_token.observe(first.as_secs_f64());
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
        let OfModel { provider, model } = self.of.clone();
        self.errors.get_or_create(&OfError { provider, model, class: LlmErrorKind::CLASSES[kind.class()] }).inc();
    }

    /// What a call cost. Money is an integer everywhere else; Prometheus has floats.
    #[allow(clippy::cast_precision_loss, reason = "for display")]
    pub fn charged(&self, cost: NanoUsd) {
        self.cost.inc_by(cost.0 as f64 / 1e9);
    }

    fn count(&self, usage: &Usage) {
        let written = usage.cache_write_tokens + usage.cache_write_1h_tokens;
        for (r#type, count) in [
            ("input", usage.input_tokens),
            ("output", usage.output_tokens),
            ("cached", usage.cached_tokens),
            ("cache_write", written),
            ("reasoning", usage.reasoning_tokens),
        ] {
            if count > 0 {
                let OfModel { provider, model } = self.of.clone();
                self.tokens.get_or_create(&OfTokens { provider, model, r#type }).inc_by(count);
            }
        }
    }

    /// Tokens of the answer by the time from the first of them to the last; of an answer in one piece by all its time.
    fn observe_rate(&self, timed: &Timed) {
        let writing = timed.duration.saturating_sub(timed.first_token.unwrap_or_default());
        let tokens = u32::try_from(timed.reply.usage.output_tokens).unwrap_or(u32::MAX);
        if tokens > 1 && writing >= Duration::from_millis(1) {
            self.rate.observe(f64::from(tokens) / writing.as_secs_f64());
        }
    }
}

/// A call under way.
pub(crate) struct InFlight<'a>(&'a Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The breakers that are not closed, of every model that is known.
#[derive(Debug)]
struct Open {
    breakers: Arc<Breakers>,
    known: Arc<RwLock<Known>>,
}

impl Collector for Open {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let open = self.breakers.open();
        let help = "Hosts at which a model failed so often that it is left alone for now.";
        let mut encoder = encoder.encode_descriptor("agentry_llm_breakers_open", help, None, MetricType::Gauge)?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        for of in known.values().flat_map(HashMap::values).map(|model| &model.of) {
            let is_of = |(provider, model): &&(ProviderKind, Arc<str>)| {
                provider.as_str() == of.provider && **model == *of.model
            };
            let hosts = open.iter().filter(is_of).count();
            ConstGauge::new(i64::try_from(hosts).unwrap_or(i64::MAX)).encode(encoder.encode_family(of)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use agentry_core::chat::{ChatReply, StopReason};

    use super::*;
    use crate::test_call::call;

    fn shown(metrics: &Metrics) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        metrics.register(&mut registry, &Arc::default());
        prometheus_client::encoding::prometheus_text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn models_beyond_the_bound_count_together() {
        let metrics = Metrics::default();
        let mut target = call("").target;
        for n in 0..MAX_MODELS + 10 {
            target.model = format!("m{n}").into();
            metrics.of(&target).retried();
        }
        let text = shown(&metrics);
        assert!(text.contains("agentry_llm_retries_total{provider=\"openai\",model=\"other\"} 10\n"), "{text}");
        assert!(!text.contains("\"m200\""), "{text}");
    }

    #[test]
    fn everything_that_was_measured_is_shown() {
        let (metrics, mut target) = (Metrics::default(), call("").target);
        target.model = "odd\"name".into();
        let model = metrics.of(&target);
        let usage = Usage { input_tokens: 7, output_tokens: 101, cached_tokens: 3, ..Usage::default() };
        let reply = ChatReply {
            content: String::new(),
            tool_calls: Vec::new(),
            stop: StopReason::End,
            usage,
            model: "m".into(),
        };
        let (duration, first_token) = (Duration::from_secs(3), Some(Duration::from_secs(1)));
        model.ended(&Ok(Timed { reply, duration, first_token, provider_call_id: None }));
        let error = LlmError {
            kind: LlmErrorKind::Timeout,
            provider: "openai",
            model: String::new(),
            message: String::new(),
            usage: Usage::default(),
        };
        model.ended(&Err(error));
        model.waited(Duration::from_micros(50));
        model.charged(NanoUsd(1_500_000_000));
        let _under_way = model.begins();
        let text = shown(&metrics);
        let labels = "provider=\"openai\",model=\"odd\\\"name\"";
        for line in [
            format!("agentry_llm_calls_total{{{labels}}} 1"),
            format!("agentry_llm_errors_total{{{labels},class=\"timeout\"}} 1"),
            format!("agentry_llm_tokens_total{{{labels},type=\"output\"}} 101"),
            format!("agentry_llm_cost_dollars_total{{{labels}}} 1.5"),
            format!("agentry_llm_calls_in_flight{{{labels}}} 1"),
            format!("agentry_llm_first_token_seconds_sum{{{labels}}} 1.0"),
            format!("agentry_llm_call_duration_seconds_bucket{{{labels},le=\"5\"}} 1"),
            format!("agentry_llm_output_tokens_per_second_sum{{{labels}}} 50.5"),
            format!("agentry_llm_permit_wait_seconds_bucket{{{labels},le=\"0.0001\"}} 1"),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
    }
}
