//! Observation of a criterion, before it is judged.

use crate::stats::Interval;

/// Observation of a criterion.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observation {
    /// The criterion in the catalogue.
    pub criterion: &'static str,
    /// The figure, in the criterion's unit; `None` where there were too few samples.
    pub value: Option<f64>,
    pub ci95: Option<Interval>,
    /// Samples, attempts or repetitions behind it.
    pub n: u64,
    pub source: String,
    /// Metrics and plots that show it.
    pub evidence: Vec<String>,
    /// Remark beside the verdict: `shortened`, `warm starts`, `void: 3 stale reads`.
    pub remark: Option<String>,
    /// Reason why it was not measured.
    pub not_run: Option<String>,
    /// Reason why it cannot pass though it was measured.
    pub undecided: Option<String>,
    /// Whether real providers were called for it; its gates are then those of that load ([`live_gates`]).
    pub live: bool,
}

/// The name under which the gates of a scenario's calls to real providers stand: what the machine did under the simulated
/// load does not void what was paid for.
pub fn live_gates(scenario: &str) -> String {
    format!("{scenario} live")
}

impl Observation {
    /// A figure with its interval.
    pub fn new(value: f64, ci95: Interval, n: u64, source: &str) -> Self {
        Self::exact(value, n, source).ci(Some(ci95))
    }

    /// A count of events in n attempts, or the worst of n repetitions.
    pub fn exact(value: f64, n: u64, source: &str) -> Self {
        Self { value: Some(value), n, source: source.to_owned(), ..Self::default() }
    }

    /// Nothing was measured, for this reason.
    pub fn not_run(why: impl Into<String>) -> Self {
        Self { not_run: Some(why.into()), ..Self::default() }
    }

    pub fn of(self, criterion: &'static str) -> Self {
        Self { criterion, ..self }
    }

    pub fn ci(self, ci95: Option<Interval>) -> Self {
        Self { ci95, ..self }
    }

    /// With metrics and plots that show it.
    pub fn shown_by(self, evidence: &[&str]) -> Self {
        Self { evidence: evidence.iter().map(|id| (*id).to_owned()).collect(), ..self }
    }

    pub fn undecided(self, why: impl Into<String>) -> Self {
        Self { undecided: Some(why.into()), ..self }
    }

    pub fn remark(self, remark: impl Into<String>) -> Self {
        Self { remark: Some(remark.into()), ..self }
    }

    /// Real providers were called for it.
    pub fn live(self) -> Self {
        Self { live: true, ..self }
    }
}
