//! What follows from the criteria: tables, comparison, advice, and what stays open.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Verdict;

/// The three verdict tables.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tiers {
    /// Minimum Viable Performance.
    pub min_viable: TierOutcome,
    /// Production-Ready Performance.
    pub production_ready: TierOutcome,
    /// Stretch.
    pub stretch: TierOutcome,
}

/// One table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TierOutcome {
    /// Whether every row passes.
    pub reached: bool,
    /// Its rows.
    pub rows: Vec<TierRow>,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TierRow {
    /// Its id in the catalogue.
    pub id: String,
    /// What is asked: `Startup Time`.
    pub label: String,
    /// The target in the words of the table.
    pub target: String,
    /// Taken from a section's acceptance list, not from the tables themselves (†).
    pub dagger: bool,
    /// Whether a failure fails the run.
    pub critical: bool,
    /// What was observed, for a reader.
    pub observed: String,
    /// The verdict: the worst of its criteria.
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub reason: String,
    /// The criteria behind it.
    pub criteria: Vec<String>,
}

/// The comparison with earlier runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// What it was compared with.
    pub reference: String,
    /// Runs of each arm.
    pub runs: [u32; 2],
    /// Its rows.
    pub rows: Vec<BaselineRow>,
    /// What limits the comparison: too few runs, no A/A noise.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What became of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Worse, beyond chance and noise.
    Regression,
    /// Better, beyond chance and noise.
    Improvement,
    /// Changed beyond chance and noise, where neither direction is better.
    Changed,
    /// Within chance or noise.
    Same,
    /// Too few runs to say.
    Undecided,
}

/// One metric of the comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineRow {
    /// `test/metric stat`.
    pub metric: String,
    /// Unit.
    pub unit: String,
    /// Median of the baseline.
    pub before: f64,
    /// Median of the new runs.
    pub after: f64,
    /// Relative difference of the medians: 0.05 is five percent more.
    pub delta: f64,
    /// 95 % interval of the same; `None` under six runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci95: Option<[f64; 2]>,
    /// Mann–Whitney p after Holm; `None` with one run in an arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_holm: Option<f64>,
    /// Differences below this are noise.
    pub noise: f64,
    /// What follows.
    pub verdict: Change,
}

/// One piece of advice; it exists only when a number speaks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Advice {
    /// The rule that fired.
    pub rule: String,
    /// The criterion it would help.
    pub criterion: String,
    /// The hint in the words of the optimisation table.
    pub seed_hint: String,
    /// What to do, in one sentence.
    pub action: String,
    /// The number that fired it.
    pub evidence: String,
    /// The metric that number is.
    pub metric: String,
}

/// Something this run could not prove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotProven {
    /// The criterion or claim.
    pub what: String,
    /// Why not.
    pub why: String,
    /// What would prove it.
    pub way: String,
}
