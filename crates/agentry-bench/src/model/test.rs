//! One test: its windows, metrics, judged criteria and plots.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Phase, Plot, Verdict};
use crate::catalogue::{Op, Tier};

/// What was measured of one scenario or phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// The scenario of the catalogue: `3.1-throughput`, `phase-soak`.
    pub id: String,
    /// What a reader should know before the numbers: warm or cold, which shape, which payload.
    pub title: String,
    /// The phase it ran in.
    pub phase: Phase,
    /// `embedded`, `cluster`, `external`, or a finer word such as `cluster, 5 workers`.
    pub mode: String,
    /// Profile of the simulated provider: `instant`, `fast`, `realistic`, or `live`.
    pub llm_profile: String,
    /// What it ran with: rates, counts, sizes.
    #[serde(default)]
    pub params: BTreeMap<String, serde_json::Value>,
    /// Its parts in time.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// What was measured.
    #[serde(default)]
    pub metrics: Vec<Metric>,
    /// What was judged.
    #[serde(default)]
    pub criteria: Vec<Criterion>,
    /// What is drawn.
    #[serde(default)]
    pub plots: Vec<Plot>,
    /// The slowest and all failed operations, with the trace that shows why.
    #[serde(default)]
    pub slowest: Vec<SlowOperation>,
    /// Sentences that belong beside the numbers.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Files beside the report, by relative path: histories, logs, histograms.
    #[serde(default)]
    pub raw: Vec<String>,
}

impl Test {
    /// Makes a test without figures.
    pub fn new(id: &str, title: &str, phase: Phase, mode: &str, llm_profile: &str) -> Self {
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            phase,
            mode: mode.to_owned(),
            llm_profile: llm_profile.to_owned(),
            params: BTreeMap::new(),
            windows: Vec::new(),
            metrics: Vec::new(),
            criteria: Vec::new(),
            plots: Vec::new(),
            slowest: Vec::new(),
            notes: Vec::new(),
            raw: Vec::new(),
        }
    }
}

/// What a window is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Things are made; never reaches a criterion.
    Setup,
    /// Until the figures are stationary; kept, never judged.
    Warmup,
    /// What criteria are judged on.
    Measure,
    /// What was offered is being finished.
    Drain,
}

/// A part of a test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// What it is for.
    pub stage: Stage,
    /// Its begin, in seconds since the run's start.
    pub t0: f64,
    /// Its end.
    pub t1: f64,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// Dotted name: `startup.total`, `bus.delivery`.
    pub name: String,
    /// `ms`, `1/s`, `MB`, `%`, `count`.
    pub unit: String,
    /// Samples behind it.
    pub n: u64,
    /// `p50`, `p95`, `p99`, `max`, `mean`, `rate`, `slope`, `share`, `count`.
    pub stat: String,
    /// The figure; `None` where there were too few samples for one.
    pub value: Option<f64>,
    /// Its 95 % interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci95: Option<[f64; 2]>,
    /// The whole distribution as HdrHistogram V2 in base64, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hdr_b64: Option<String>,
    /// How it was taken.
    pub source: String,
    /// Whether more is better: decides what a regression is. `None` when neither direction is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more_is_better: Option<bool>,
}

impl Metric {
    /// A figure of which neither more nor less is better; one that is no number has no value.
    pub fn new(name: impl Into<String>, (unit, stat): (&str, &str), value: f64, n: u64, source: &str) -> Self {
        Self {
            name: name.into(),
            unit: unit.to_owned(),
            n,
            stat: stat.to_owned(),
            value: value.is_finite().then_some(value),
            ci95: None,
            hdr_b64: None,
            source: source.to_owned(),
            more_is_better: None,
        }
    }
}

/// One acceptance criterion, judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Criterion {
    /// Its id in the catalogue: `1.1/startup-20`.
    pub id: String,
    /// Its words, verbatim.
    pub seed_text: String,
    /// The table it belongs to.
    pub tier: Tier,
    /// Whether a failure fails the run.
    pub critical: bool,
    /// How observed and target are compared.
    pub op: Op,
    /// The target.
    pub target: f64,
    /// Unit of target, observed and interval.
    pub unit: String,
    /// What was observed; `None` when nothing could be said.
    pub observed: Option<f64>,
    /// Its 95 % interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci95: Option<[f64; 2]>,
    /// Samples behind it.
    pub n: u64,
    /// The verdict.
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub reason: String,
    /// How the figure was taken.
    pub source: String,
    /// Metrics and plots that show it.
    #[serde(default)]
    pub evidence: Vec<String>,
}

/// One operation that was slow or failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlowOperation {
    /// Its trace.
    pub trace_id: String,
    /// What it was.
    pub what: String,
    /// When it should have started, in seconds since the run's start.
    pub t: f64,
    /// From the intended start to the end, in milliseconds; `None` when it never ended.
    pub ms: Option<f64>,
    /// The error, when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
