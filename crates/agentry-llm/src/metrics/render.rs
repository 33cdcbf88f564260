//! The measurements in Prometheus' text format.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agentry_core::agent::ProviderKind;

use super::histogram::Histogram;
use super::{Metrics, ModelMetrics, TOKENS};
use crate::LlmErrorKind;

/// The counters of one name.
type Counter = (&'static str, &'static str, fn(&ModelMetrics) -> &AtomicU64);
/// The histograms of one name.
type Times = (&'static str, &'static str, fn(&ModelMetrics) -> &Histogram);

/// The counters of one name that are told apart by one more label: name, label, its words.
type Kinds = (&'static str, &'static str, &'static [&'static str], fn(&ModelMetrics) -> &[AtomicU64]);

const COUNTERS: [Counter; 2] = [
    ("agentry_llm_calls_total", "Calls of models that were answered.", |model| &model.completed),
    ("agentry_llm_retries_total", "Calls of models that were made again.", |model| &model.retries),
];

const HISTOGRAMS: [Times; 4] = [
    ("agentry_llm_first_token_seconds", "Time from sending to the first token of a stream.", |model| {
        &model.first_token
    }),
    ("agentry_llm_call_duration_seconds", "Time from sending to the end of an answer.", |model| &model.duration),
    ("agentry_llm_output_tokens_per_second", "Tokens of an answer by the time it was written in.", |model| &model.rate),
    ("agentry_llm_permit_wait_seconds", "Time that a call waited for its place and its permit.", |model| &model.wait),
];

impl Metrics {
    /// Everything that was measured. `open` are the breakers that are not closed.
    pub(crate) fn render(&self, open: &[(ProviderKind, Arc<str>)]) -> String {
        let models = self.all();
        let labels: Vec<String> = models.iter().map(|model| labels(model)).collect();
        let mut out = String::new();
        for (name, help, counter) in COUNTERS {
            head(&mut out, name, "counter", help);
            for (model, labels) in models.iter().zip(&labels) {
                let _ = writeln!(out, "{name}{{{labels}}} {}", counter(model).load(Ordering::Relaxed));
            }
        }
        kinds(&mut out, &models, &labels);
        let name = "agentry_llm_calls_in_flight";
        head(&mut out, name, "gauge", "Calls of models that are under way.");
        for (model, labels) in models.iter().zip(&labels) {
            let _ = writeln!(out, "{name}{{{labels}}} {}", model.in_flight.load(Ordering::Relaxed));
        }
        let name = "agentry_llm_breakers_open";
        head(&mut out, name, "gauge", "Hosts at which a model failed so often that it is left alone for now.");
        for (model, labels) in models.iter().zip(&labels) {
            let count = open.iter().filter(|(kind, name)| *kind == model.provider && **name == *model.model).count();
            let _ = writeln!(out, "{name}{{{labels}}} {count}");
        }
        for (name, help, histogram) in HISTOGRAMS {
            head(&mut out, name, "histogram", help);
            for (model, labels) in models.iter().zip(&labels) {
                histogram(model).render(&mut out, name, labels);
            }
        }
        out
    }
}

/// What has a label more: errors by class, tokens by type. What never happened is not shown.
fn kinds(out: &mut String, models: &[Arc<ModelMetrics>], labels: &[String]) {
    let errors: Kinds = ("agentry_llm_errors_total", "class", &LlmErrorKind::CLASSES, |model| &model.errors);
    let tokens: Kinds = ("agentry_llm_tokens_total", "type", &TOKENS, |model| &model.tokens);
    for ((name, label, words, counts), help) in [
        (errors, "Calls of models that failed or were not made, by class."),
        (tokens, "Tokens as providers counted them; cached, cache_write and reasoning are parts of the others."),
    ] {
        head(out, name, "counter", help);
        for (model, labels) in models.iter().zip(labels) {
            for (word, count) in words.iter().zip(counts(model)) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let _ = writeln!(out, "{name}{{{labels},{label}=\"{word}\"}} {count}");
                }
            }
        }
    }
}

fn labels(model: &ModelMetrics) -> String {
    // A model's name comes from a file.
    let name = model.model.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("provider=\"{}\",model=\"{name}\"", model.provider)
}

/// The two lines above a metric. Writing to a `String` cannot fail, here and above.
fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use agentry_core::chat::{ChatReply, StopReason, Usage};

    use super::*;
    use crate::test_call::call;
    use crate::{LlmError, Timed};

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
        let _under_way = model.begins();
        let text = metrics.render(&[(ProviderKind::Openai, "odd\"name".into())]);
        let labels = "provider=\"openai\",model=\"odd\\\"name\"";
        for line in [
            format!("agentry_llm_calls_total{{{labels}}} 1"),
            format!("agentry_llm_errors_total{{{labels},class=\"timeout\"}} 1"),
            format!("agentry_llm_tokens_total{{{labels},type=\"output\"}} 101"),
            format!("agentry_llm_calls_in_flight{{{labels}}} 1"),
            format!("agentry_llm_breakers_open{{{labels}}} 1"),
            format!("agentry_llm_first_token_seconds_sum{{{labels}}} 1"),
            format!("agentry_llm_call_duration_seconds_bucket{{{labels},le=\"5\"}} 1"),
            format!("agentry_llm_output_tokens_per_second_sum{{{labels}}} 50.5"),
            format!("agentry_llm_permit_wait_seconds_bucket{{{labels},le=\"0.0001\"}} 1"),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
    }
}
