//! One scenario while it runs: where it deploys, the figures it takes, and what it observes of criteria.

use std::time::Duration;

use agentry_lab::LabError;
use hdrhistogram::Histogram;

use crate::catalogue::Scenario;
use crate::load::{Recording, clock};
use crate::model::{Invariant, Metric, Plot, Stage, Test, Window};
use crate::run::{Findings, Lab, RunError};
use crate::stats::{encode, number, quantile_of};
use crate::sut::{Api, Deployment, Plan};
use crate::verdict::Observation;

/// A scenario while it runs.
pub(super) struct Experiment<'a> {
    /// State that all scenarios of the run share.
    pub lab: &'a mut Lab,
    pub test: Test,
    /// Observations of its criteria.
    pub seen: Vec<Observation>,
    scenario: &'static Scenario,
}

impl<'a> Experiment<'a> {
    pub fn new(scenario: &'static Scenario, lab: &'a mut Lab, title: &str, llm_profile: &str) -> Self {
        let test = lab.test(scenario.id, title, llm_profile);
        Self { lab, test, seen: Vec::new(), scenario }
    }

    pub fn end(self) -> Findings {
        Findings { test: self.test, seen: self.seen }
    }

    /// No criterion of this engine is measured, for a reason.
    pub fn not_run_at_all(&mut self, why: &str) {
        let engine = self.lab.engine;
        let own = self.scenario.criteria().filter(|spec| spec.engine.is_none_or(|only| only == engine));
        self.seen = own.map(|spec| Observation::not_run(why).of(spec.id)).collect();
    }

    pub async fn deploy(&mut self, plan: Plan) -> Result<Deployment, RunError> {
        Ok(self.lab.deploy(plan).await?)
    }

    /// The API of a deployment, or of the one that runs already.
    pub fn api<'d>(&'d self, deployment: impl Into<Option<&'d Deployment>>) -> Result<&'d Api, LabError> {
        self.lab.api(deployment.into())
    }

    /// Waits a while of the profile and notes it as a window.
    pub async fn window(&mut self, length: Duration) -> (u64, u64) {
        let began = clock::now();
        tokio::time::sleep(length).await;
        self.measured_since(began);
        (began, clock::now())
    }

    /// Notes that everything since a moment of the monotonic clock was measured.
    pub fn measured_since(&mut self, began: u64) {
        self.test.windows.push(Window { stage: Stage::Measure, t0: self.lab.time(began), t1: self.lab.now() });
    }

    /// A figure of which neither more nor less is better.
    pub fn figure(&mut self, name: &str, form: (&str, &str), value: f64, n: u64, source: &str) {
        self.test.metrics.push(Metric::new(name, form, value, n, source));
    }

    /// A figure of which less is better.
    pub fn cost(&mut self, name: &str, form: (&str, &str), value: f64, n: u64, source: &str) {
        self.test.metrics.push(cost(name, form, value, n, source));
    }

    /// A figure of which more is better.
    pub fn benefit(&mut self, name: &str, form: (&str, &str), value: f64, n: u64, source: &str) {
        let metric = Metric::new(name, form, value, n, source);
        self.test.metrics.push(Metric { more_is_better: Some(true), ..metric });
    }

    /// Counts of which fewer is better, each of n.
    pub fn counts(&mut self, prefix: &str, counts: &[(&str, u64)], n: u64, source: &str) {
        for (name, count) in counts {
            self.cost(&format!("{prefix}.{name}"), ("count", "count"), number(*count), n, source);
        }
    }

    /// Mean, p50, p95, p99 and max of microseconds, in milliseconds.
    pub fn latencies(&mut self, name: &str, histogram: &Histogram<u64>, source: &str) {
        self.test.metrics.extend(latencies(name, histogram, source));
    }

    pub fn plot(&mut self, plot: Plot) {
        self.test.plots.push(plot);
    }

    pub fn note(&mut self, sentence: impl Into<String>) {
        self.test.notes.push(sentence.into());
    }

    /// Records an observation of a criterion.
    pub fn observe(&mut self, criterion: &'static str, seen: Observation) {
        self.seen.push(seen.of(criterion));
    }

    /// The same of several criteria, such as those of one figure on different engines.
    pub fn observe_each(&mut self, criteria: &[&'static str], seen: &Observation) {
        self.seen.extend(criteria.iter().map(|id| seen.clone().of(id)));
    }

    /// Criteria that were not measured, for one reason.
    pub fn not_run(&mut self, criteria: &[&'static str], why: &str) {
        self.seen.extend(criteria.iter().map(|id| Observation::not_run(why).of(id)));
    }

    /// An invariant that was checked, and what was counted.
    pub fn invariant(&mut self, name: &str, text: &str, broken: u64, counts: &[(&str, u64)], examples: Vec<String>) {
        self.lab.safety.push(Invariant {
            invariant: name.to_owned(),
            text: text.to_owned(),
            test: self.test.id.clone(),
            valid: Some(broken == 0),
            counts: counts.iter().map(|(key, count)| ((*key).to_owned(), *count)).collect(),
            examples: examples.into_iter().take(Invariant::MAX_EXAMPLES).collect(),
        });
    }
}

/// A figure of which less is better.
pub(super) fn cost(name: &str, form: (&str, &str), value: f64, n: u64, source: &str) -> Metric {
    Metric { more_is_better: Some(false), ..Metric::new(name, form, value, n, source) }
}

/// Observes a quantile of a histogram of microseconds, in milliseconds, with its interval.
pub(super) fn of_quantile(histogram: &Histogram<u64>, quantile: f64, source: &str) -> Observation {
    let value = number(histogram.value_at_quantile(quantile)) / 1_000.0;
    let ci95 = quantile_of(histogram, quantile).map(|quantile| quantile.ci95);
    Observation::exact(value, histogram.len(), source).ci(ci95)
}

/// A rate that was seen once: its interval is itself.
pub(super) fn once(value: f64, n: u64, source: &str) -> Observation {
    Observation::new(value, [value, value], n, source)
}

/// Latencies of a histogram of microseconds as figures in milliseconds. Those that the number of samples does not support
/// have no value.
pub(super) fn latencies(name: &str, histogram: &Histogram<u64>, source: &str) -> Vec<Metric> {
    let n = histogram.len();
    let figure = |stat, value| cost(name, ("ms", stat), value, n, source);
    let mut all: Vec<Metric> = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)]
        .into_iter()
        .map(|(stat, q)| match quantile_of(histogram, q) {
            Some(seen) => Metric { ci95: Some(seen.ci95), ..figure(stat, seen.value) },
            None => figure(stat, f64::NAN),
        })
        .collect();
    let of_some = |value: f64| if n == 0 { f64::NAN } else { value / 1_000.0 };
    all.push(figure("mean", of_some(histogram.mean())));
    all.push(Metric { hdr_b64: encode(histogram).ok(), ..figure("max", of_some(number(histogram.max()))) });
    all
}

/// Completed per second in each whole 5-s window; the whole of a shorter load.
pub(super) fn windows(seen: &Recording) -> Vec<f64> {
    const WINDOW: usize = 5;
    let seconds = seen.measured_seconds();
    let whole = WINDOW.min(seconds.len().max(1));
    let chunks = seconds.chunks(whole).filter(|chunk| chunk.len() == whole);
    chunks.map(|chunk| number(chunk.iter().map(|second| second.ok).sum::<u64>()) / chunk.len() as f64).collect()
}

/// The slowest and the fastest window as the interval of a rate, of which the slowest is the figure.
pub(super) fn of_windows(rates: &[f64], n: u64, source: &str) -> Observation {
    let slowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let fastest = rates.iter().copied().fold(0.0, f64::max);
    let source = format!("{source}; the interval is from the slowest to the fastest 5-s window");
    Observation::new(if slowest.is_finite() { slowest } else { 0.0 }, [slowest, fastest], n, &source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::histogram;

    #[test]
    fn a_quantile_without_enough_samples_has_no_value() {
        let mut few = histogram();
        (1..=40).for_each(|ms| few.record(ms * 1_000).unwrap());
        let figures = latencies("x", &few, "test");
        let of = |stat: &str| figures.iter().find(|figure| figure.stat == stat).unwrap();
        assert_eq!((of("p95").value, of("p99").value), (None, None));
        assert!(of("p50").value.is_some() && of("max").hdr_b64.is_some());
    }
}
