//! What was seen of a criterion, before anybody says what follows.

use crate::catalogue::{self, CriterionSpec, Rule};
use crate::model::{Criterion, Engine, Gate, GateState, Profile, Verdict};
use crate::verdict::{self, Context};

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
    /// Whether real providers were called for it; its gates are then those of that load ([`gates_of_live`]).
    pub live: bool,
}

/// The name under which the gates of a scenario's calls to real providers stand: what the machine did under the simulated
/// load does not void what was paid for.
#[must_use]
pub fn gates_of_live(scenario: &str) -> String {
    format!("{scenario} live")
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

    /// Real providers were called for it.
    #[must_use]
    pub fn live(self) -> Self {
        Self { live: true, ..self }
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
        .map(|spec| match seen.iter().find(|seen| seen.criterion == spec.id) {
            Some(seen) => criterion(spec, seen, gates, engine, profile),
            None => {
                let why = match spec.engine {
                    Some(only) if only != engine => format!("n/a: applies to the {only} engine only"),
                    _ if spec.rule == Rule::Live => verdict::NEEDS_LIVE.to_owned(),
                    _ if profile < spec.needs => format!("needs --profile {}", spec.needs),
                    _ => "not measured".to_owned(),
                };
                verdict::not_run(spec, &why)
            }
        })
        .collect()
}

fn criterion(spec: &CriterionSpec, seen: &Observation, gates: &[Gate], engine: Engine, profile: Profile) -> Criterion {
    if let Some(why) = &seen.not_run {
        return verdict::not_run(spec, why);
    }
    let own = if seen.live { gates_of_live(spec.scenario) } else { spec.scenario.to_owned() };
    let of_test = |gate: &&Gate| gate.test.as_deref().is_none_or(|test| test == own);
    let broken = gates.iter().filter(of_test).find(|gate| gate.state == GateState::Broken);
    let broken = broken.map(|gate| format!("{}: {} where {} is allowed", gate.id, gate.observed, gate.limit));
    let observed = verdict::Observation {
        value: seen.value,
        ci95: seen.ci95,
        n: seen.n,
        source: seen.source.clone(),
        evidence: seen.evidence.clone(),
        note: seen.remark.clone(),
    };
    let context = |broken| Context { profile, engine, live: seen.live, broken };
    let mut criterion = verdict::judge(spec, &observed, &context(broken.as_deref()));
    if criterion.verdict == Verdict::Invalid && spec.rule == Rule::ZeroEvents {
        // What happened has happened, however the harness did.
        let anyway = verdict::judge(spec, &observed, &context(None));
        if anyway.verdict == Verdict::Fail {
            return anyway;
        }
    }
    if let Some(why) = &seen.undecided
        && criterion.verdict == Verdict::Pass
    {
        (criterion.verdict, criterion.reason) = (Verdict::Inconclusive, why.clone());
    }
    criterion
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(seen: &[Observation], gates: &[Gate]) -> Vec<Criterion> {
        let scenario = catalogue::scenario("3.2").unwrap();
        judge(scenario, seen, gates, Engine::Embedded, Profile::Full)
    }

    fn of<'a>(all: &'a [Criterion], id: &str) -> &'a Criterion {
        all.iter().find(|criterion| criterion.id == id).unwrap()
    }

    #[test]
    fn what_nobody_saw_was_not_run_and_never_passes() {
        let all = judged(&[], &[]);
        assert!(!all.is_empty() && all.iter().all(|criterion| criterion.verdict == Verdict::NotRun));
    }

    #[test]
    fn a_broken_gate_voids_a_pass_and_excuses_no_loss() {
        let gate = Gate {
            id: "steal".into(),
            test: Some("3.2-delivery".into()),
            limit: "2 %".into(),
            observed: "9 %".into(),
            state: GateState::Broken,
        };
        let seen = [Observation::new("3.2/loss", 0.0, 100, "t"), Observation::new("3.2/duplicates", 1.0, 100, "t")];
        let all = judged(&seen, &[gate]);
        assert_eq!(of(&all, "3.2/loss").verdict, Verdict::Invalid);
        assert_eq!(of(&all, "3.2/duplicates").verdict, Verdict::Fail);
        assert_eq!(of(&judged(&seen, &[]), "3.2/loss").verdict, Verdict::Pass);
    }

    #[test]
    fn only_what_was_called_live_is_judged_and_by_its_own_gates() {
        let scenario = catalogue::scenario("5.1").unwrap();
        let gate = |test: &str| Gate {
            id: "steal".into(),
            test: Some(test.to_owned()),
            limit: "2 %".into(),
            observed: "9 %".into(),
            state: GateState::Broken,
        };
        let verdict = |seen: Observation, gates: &[Gate]| {
            let all = judge(scenario, &[seen], gates, Engine::Embedded, Profile::Ci);
            of(&all, "5.1/ttft-openai").verdict
        };
        let seen = || Observation::new("5.1/ttft-openai", 400.0, 90, "t").ci(Some([300.0, 500.0]));
        let (simulated, called) = (gate(scenario.id), gate(&gates_of_live(scenario.id)));
        assert_eq!(verdict(seen(), &[]), Verdict::NotRun);
        assert_eq!(verdict(seen().live(), &[simulated]), Verdict::Pass);
        assert_eq!(verdict(seen().live(), &[called]), Verdict::Invalid);
    }

    #[test]
    fn what_decides_nothing_does_not_pass() {
        let seen = [Observation::new("3.2/loss", 0.0, 100, "t").undecided("not all had ended")];
        assert_eq!(of(&judged(&seen, &[]), "3.2/loss").verdict, Verdict::Inconclusive);
    }
}
