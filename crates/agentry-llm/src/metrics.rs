//! Metrics of each provider and model: latency, tokens, errors, retries, waits, cost.

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
use crate::{LlmError, LlmErrorKind, TimedReply};

/// Pairs of provider and model with series of their own; further models count as [`OTHER`].
const MAX_MODELS: usize = 200;
/// Model label of all pairs beyond the bound.
const OTHER: &str = "other";

/// Bucket bounds of durations, in seconds.
const TIMES: [f64; 14] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// Bucket bounds of waits, in seconds.
const WAITS: [f64; 8] = [0.0001, 0.001, 0.01, 0.1, 1.0, 5.0, 15.0, 60.0];
const RATES: [f64; 10] = [1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 5_000.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    provider: &'static str,
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    provider: &'static str,
    model: String,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    provider: &'static str,
    model: String,
    r#type: &'static str,
}

/// Metrics by model, for one provider.
type Models = HashMap<Arc<str>, Arc<ModelMetrics>>;
type MeasuredModels = HashMap<ProviderKind, Models>;
type Histograms = Family<ModelLabels, Histogram, fn() -> Histogram>;
type Dollars = Counter<f64, std::sync::atomic::AtomicU64>;

#[derive(Debug)]
pub(crate) struct Metrics {
    models: Arc<RwLock<MeasuredModels>>,
    in_flight: Family<ModelLabels, Gauge>,
    completed: Family<ModelLabels, Counter>,
    errors: Family<ErrorLabels, Counter>,
    retries: Family<ModelLabels, Counter>,
    tokens: Family<TokenLabels, Counter>,
    cost: Family<ModelLabels, Dollars>,
    first_token: Histograms,
    duration: Histograms,
    rate: Histograms,
    wait: Histograms,
}

impl Default for Metrics {
    fn default() -> Self {
        let times: fn() -> Histogram = || Histogram::new(TIMES);
        Self {
            models: Arc::default(),
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
    pub fn register(&self, registry: &mut Registry, breakers: &Arc<Breakers>) {
        registry.register("agentry_llm_calls", "Calls of models that were answered", self.completed.clone());
        registry.register("agentry_llm_retries", "Retries of model calls", self.retries.clone());
        let help = "Model calls that failed or were not made, by class";
        registry.register("agentry_llm_errors", help, self.errors.clone());
        let help = "Tokens as providers counted them; cached, cache_write and reasoning are parts of the others";
        registry.register("agentry_llm_tokens", help, self.tokens.clone());
        let help = "Cost of this process's calls by the price table; calls without a price are left out";
        registry.register("agentry_llm_cost_dollars", help, self.cost.clone());
        registry.register("agentry_llm_calls_in_flight", "Calls of models in flight", self.in_flight.clone());
        let help = "Time from sending to the first token of a stream";
        registry.register("agentry_llm_first_token_seconds", help, self.first_token.clone());
        let help = "Time from sending to the end of an answer";
        registry.register("agentry_llm_call_duration_seconds", help, self.duration.clone());
        let help = "Output tokens per second of an answer";
        registry.register("agentry_llm_output_tokens_per_second", help, self.rate.clone());
        let help = "Time that a call waited for a slot and a permit";
        registry.register("agentry_llm_permit_wait_seconds", help, self.wait.clone());
        registry.register_collector(Box::new(BreakerCollector {
            breakers: Arc::clone(breakers),
            models: Arc::clone(&self.models),
        }));
    }

    pub fn of(&self, target: &LlmTarget) -> Arc<ModelMetrics> {
        {
            let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = models.get(&target.provider).and_then(|models| models.get(&target.model)) {
                return Arc::clone(found);
            }
        }
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        let is_full = models.values().map(HashMap::len).sum::<usize>() >= MAX_MODELS;
        let model: Arc<str> = if is_full { OTHER.into() } else { Arc::clone(&target.model) };
        let of_provider = models.entry(target.provider).or_default();
        let new =
            || Arc::new(self.new_model(ModelLabels { provider: target.provider.as_str(), model: model.to_string() }));
        Arc::clone(of_provider.entry(Arc::clone(&model)).or_insert_with(new))
    }

    fn new_model(&self, labels: ModelLabels) -> ModelMetrics {
        ModelMetrics {
            in_flight: self.in_flight.get_or_create_owned(&labels),
            completed: self.completed.get_or_create_owned(&labels),
            retries: self.retries.get_or_create_owned(&labels),
            errors: self.errors.clone(),
            tokens: self.tokens.clone(),
            cost: self.cost.get_or_create_owned(&labels),
            first_token: self.first_token.get_or_create_owned(&labels),
            duration: self.duration.get_or_create_owned(&labels),
            rate: self.rate.get_or_create_owned(&labels),
            wait: self.wait.get_or_create_owned(&labels),
            labels,
        }
    }
}

/// Metrics of one model. Errors and token types that never occurred have no series.
#[derive(Debug)]
pub(crate) struct ModelMetrics {
    labels: ModelLabels,
    in_flight: Gauge,
    completed: Counter,
    retries: Counter,
    errors: Family<ErrorLabels, Counter>,
    tokens: Family<TokenLabels, Counter>,
    cost: Dollars,
    first_token: Histogram,
    duration: Histogram,
    rate: Histogram,
    wait: Histogram,
}

impl ModelMetrics {
    pub fn begins(&self) -> InFlight<'_> {
        self.in_flight.inc();
        InFlight(&self.in_flight)
    }

    pub fn waited(&self, wait: Duration) {
        self.wait.observe(wait.as_secs_f64());
    }

    pub fn retried(&self) {
        self.retries.inc();
    }

    pub fn ended(&self, result: &Result<TimedReply, LlmError>) {
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

    pub fn failed(&self, kind: LlmErrorKind) {
        let ModelLabels { provider, model } = self.labels.clone();
        self.errors.get_or_create(&ErrorLabels { provider, model, class: LlmErrorKind::CLASSES[kind.class()] }).inc();
    }

    /// Counts a call's cost. Money is an integer everywhere else; Prometheus has floats.
    #[allow(clippy::cast_precision_loss, reason = "for display")]
    pub fn record_cost(&self, cost: NanoUsd) {
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
                let ModelLabels { provider, model } = self.labels.clone();
                self.tokens.get_or_create(&TokenLabels { provider, model, r#type }).inc_by(count);
            }
        }
    }

    /// Records output tokens per second, from the first token to the last, or over the whole duration of an answer that
    /// did not stream.
    fn observe_rate(&self, timed: &TimedReply) {
        let writing = timed.duration.saturating_sub(timed.first_token.unwrap_or_default());
        let tokens = u32::try_from(timed.reply.usage.output_tokens).unwrap_or(u32::MAX);
        if tokens > 1 && writing >= Duration::from_millis(1) {
            self.rate.observe(f64::from(tokens) / writing.as_secs_f64());
        }
    }
}

pub(crate) struct InFlight<'a>(&'a Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Collects the breakers that are not closed, for every model with metrics.
#[derive(Debug)]
struct BreakerCollector {
    breakers: Arc<Breakers>,
    models: Arc<RwLock<MeasuredModels>>,
}

impl Collector for BreakerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let open = self.breakers.open();
        let help = "Hosts at which a model's circuit breaker is open.";
        let mut encoder = encoder.encode_descriptor("agentry_llm_breakers_open", help, None, MetricType::Gauge)?;
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        for labels in models.values().flat_map(HashMap::values).map(|model| &model.labels) {
            let is_of = |(provider, model): &&(ProviderKind, Arc<str>)| {
                provider.as_str() == labels.provider && **model == *labels.model
            };
            let hosts = open.iter().filter(is_of).count();
            ConstGauge::new(i64::try_from(hosts).unwrap_or(i64::MAX)).encode(encoder.encode_family(labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use agentry_core::chat::{ChatReply, StopReason};

    use super::*;
    use crate::test_call::call;

    fn encoded(metrics: &Metrics) -> String {
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
        let text = encoded(&metrics);
        assert!(text.contains("agentry_llm_retries_total{provider=\"openai\",model=\"other\"} 10\n"), "{text}");
        assert!(!text.contains("\"m200\""), "{text}");
    }

    #[test]
    fn every_metric_is_encoded() {
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
            native: None,
        };
        let (duration, first_token) = (Duration::from_secs(3), Some(Duration::from_secs(1)));
        model.ended(&Ok(TimedReply { reply, duration, first_token, provider_call_id: None, is_uncounted: false }));
        let error = LlmError {
            kind: LlmErrorKind::Timeout,
            provider: "openai",
            model: String::new(),
            message: String::new(),
            usage: Usage::default(),
            is_uncounted: false,
        };
        model.ended(&Err(error));
        model.waited(Duration::from_micros(50));
        model.record_cost(NanoUsd(1_500_000_000));
        let _in_flight = model.begins();
        let text = encoded(&metrics);
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
