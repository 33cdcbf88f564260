//! What was seen of a criterion, before anybody says what follows.

use crate::catalogue::{self, CriterionSpec, Op, Rule};
use crate::model::{Criterion, Engine, Gate, GateState, Profile, Verdict};

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// The criterion in the catalogue.
    pub criterion: &'static str,
    /// The figure, in the criterion's unit.
    pub value: Option<f64>,
    /// Its 95 % interval.
    pub ci95: Option<[f64; 2]>,
    /// Samples behind it.
    pub n: u64,
    /// How it was taken.
    pub source: String,
    /// Metrics and plots that show it.
    pub evidence: Vec<String>,
    /// Why it was not measured.
    pub not_run: Option<String>,
    /// Why it decides nothing though it was measured.
    pub undecided: Option<String>,
    /// What a reader should know beside the verdict.
    pub remark: Option<String>,
}

impl Observation {
    /// A figure.
    #[must_use]
    pub fn new(criterion: &'static str, value: f64, n: u64, source: &str) -> Self {
        Self { criterion, value: Some(value), n, source: source.to_owned(), ..Self::default() }
    }

    /// Nothing was measured, for this reason.
    #[must_use]
    pub fn not_run(criterion: &'static str, why: impl Into<String>) -> Self {
        Self { criterion, not_run: Some(why.into()), ..Self::default() }
    }

    /// With its interval.
    #[must_use]
    pub fn ci(self, ci95: Option<[f64; 2]>) -> Self {
        Self { ci95, ..self }
    }

    /// With what shows it.
    #[must_use]
    pub fn shown_by(self, evidence: &[&str]) -> Self {
        Self { evidence: evidence.iter().map(|name| (*name).to_owned()).collect(), ..self }
    }

    /// It was measured and decides nothing.
    #[must_use]
    pub fn undecided(self, why: impl Into<String>) -> Self {
        Self { undecided: Some(why.into()), ..self }
    }

    /// With a remark.
    #[must_use]
    pub fn remark(self, remark: impl Into<String>) -> Self {
        Self { remark: Some(remark.into()), ..self }
    }
}

/// Judges every criterion of a scenario; those that nobody observed were not run.
#[must_use]
pub fn judge(
    scenario: &catalogue::Scenario,
    seen: &[Observation],
    gates: &[Gate],
    engine: Engine,
    profile: Profile,
) -> Vec<Criterion> {
    scenario
        .criteria()
        .map(|spec| {
            let observed = seen.iter().find(|seen| seen.criterion == spec.id).cloned();
            let observed = observed.unwrap_or_else(|| {
                let why = match spec.engine {
                    Some(only) if only != engine => format!("applies to the {only} engine only"),
                    _ if profile < spec.needs => format!("needs --profile {}", spec.needs),
                    _ => "not measured".to_owned(),
                };
                Observation::not_run(spec.id, why)
            });
            criterion(spec, observed, gates, profile)
        })
        .collect()
}

fn criterion(spec: &CriterionSpec, seen: Observation, gates: &[Gate], profile: Profile) -> Criterion {
    let (verdict, reason) = verdict(spec, &seen, gates, profile);
    let reason = match &seen.remark {
        Some(remark) => format!("{reason}; {remark}"),
        None => reason,
    };
    Criterion {
        id: spec.id.to_owned(),
        seed_text: spec.seed_text.to_owned(),
        tier: spec.tier,
        critical: spec.critical,
        op: spec.op,
        target: spec.target,
        unit: spec.unit.to_owned(),
        observed: seen.value,
        ci95: seen.ci95,
        n: seen.n,
        verdict,
        reason,
        source: seen.source,
        evidence: seen.evidence,
    }
}

fn verdict(spec: &CriterionSpec, seen: &Observation, gates: &[Gate], profile: Profile) -> (Verdict, String) {
    if let Some(why) = &seen.not_run {
        return (Verdict::NotRun, why.clone());
    }
    if spec.rule == Rule::Live {
        return (Verdict::NotRun, "only live providers can show it".to_owned());
    }
    let Some(value) = seen.value.filter(|value| value.is_finite() && seen.n > 0) else {
        return (Verdict::Inconclusive, seen.undecided.clone().unwrap_or_else(|| "no samples".to_owned()));
    };
    let bound = format!("the 95 % bound is 3/n = {:.2e}", 3.0 / seen.n as f64);
    if spec.rule == Rule::ZeroEvents && value != spec.target {
        // What happened has happened, however the harness did.
        return (Verdict::Fail, format!("{value} of {}", seen.n));
    }
    let broken = gates.iter().find(|gate| {
        gate.state == GateState::Broken && gate.test.as_deref().is_none_or(|test| test.starts_with(spec.scenario))
    });
    if let Some(gate) = broken {
        return (Verdict::Invalid, format!("gate {}: {} where {} is allowed", gate.id, gate.observed, gate.limit));
    }
    if let Some(why) = &seen.undecided {
        return (Verdict::Inconclusive, why.clone());
    }
    let [low, high] = match spec.rule {
        Rule::ZeroEvents | Rule::EveryRun => [value, value],
        _ => match seen.ci95 {
            Some(interval) => interval,
            None => return (Verdict::Inconclusive, format!("too few samples for an interval (n = {})", seen.n)),
        },
    };
    let (good, bad) = sides(spec, low, high);
    match (good, bad) {
        (true, _) if profile < spec.needs => {
            (Verdict::Inconclusive, format!("it holds here, and {} is the least that decides it", spec.needs))
        }
        (true, _) => (
            Verdict::Pass,
            match spec.rule {
                Rule::ZeroEvents => format!("0 of {}; {bound}", seen.n),
                Rule::EveryRun => format!("all {} hold: at least {:.0} % of all do, at 95 %", seen.n, share(seen.n)),
                _ => "the interval is on the right side".to_owned(),
            },
        ),
        (_, true) => (Verdict::Fail, "the interval is on the wrong side".to_owned()),
        _ => (Verdict::Inconclusive, "the interval holds the target".to_owned()),
    }
}

/// Whether all of the interval is on the right side, and whether all of it is on the wrong one.
fn sides(spec: &CriterionSpec, low: f64, high: f64) -> (bool, bool) {
    let target = spec.target;
    match spec.op {
        Op::Lt => (high < target, low >= target),
        Op::Le => (high <= target, low > target),
        Op::Gt => (low > target, high <= target),
        Op::Ge => (low >= target, high < target),
        Op::Eq => (low == target && high == target, low > target || high < target),
        Op::Within => (low >= -target && high <= target, low > target || high < -target),
    }
}

/// The least share in percent of all starts that hold when each of n did, at 95 %.
fn share(n: u64) -> f64 {
    100.0 * 0.05_f64.powf(1.0 / n as f64)
}
