//! One criterion: an observation becomes pass, fail, inconclusive, invalid or not-run, with the reason in a sentence.

use super::{Observation, live_gates};
use crate::catalogue::{CriterionSpec, Op, Rule, Scenario};
use crate::model::{Criterion, Engine, Gate, GateState, Profile, Verdict};
use crate::show::{count, interval, percent, with_unit};
use crate::stats::{Interval, proven_share, rule_of_three};

/// Reason why a figure that only a real provider can show was not measured.
pub const NEEDS_LIVE: &str = "needs --live with keys: the simulator itself sets this figure";

/// Input of a verdict besides the observation.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The profile of the run.
    pub profile: Profile,
    pub engine: Engine,
    /// The validity gate that was broken, if one was.
    pub broken: Option<&'a str>,
}

/// Judges every criterion of a scenario; those that nobody observed were not run.
pub fn judge_all(
    scenario: &Scenario,
    seen: &[Observation],
    gates: &[Gate],
    (engine, profile): (Engine, Profile),
) -> Vec<Criterion> {
    let judged = |spec: &CriterionSpec| match seen.iter().find(|seen| seen.criterion == spec.id) {
        Some(seen) => judge_with_gates(spec, seen, gates, (engine, profile)),
        None => not_run(spec, &why_unseen(spec, engine, profile)),
    };
    scenario.criteria().map(judged).collect()
}

fn why_unseen(spec: &CriterionSpec, engine: Engine, profile: Profile) -> String {
    match spec.engine {
        Some(only) if only != engine => format!("n/a: applies to the {only} engine only"),
        _ if spec.rule == Rule::Live => NEEDS_LIVE.to_owned(),
        _ if profile < spec.needs => format!("needs --profile {}", spec.needs),
        _ => "not measured".to_owned(),
    }
}

fn judge_with_gates(
    spec: &CriterionSpec,
    seen: &Observation,
    gates: &[Gate],
    (engine, profile): (Engine, Profile),
) -> Criterion {
    if let Some(why) = &seen.not_run {
        return not_run(spec, why);
    }
    let own = if seen.live { live_gates(spec.scenario) } else { spec.scenario.to_owned() };
    let of_test = |gate: &&Gate| gate.test.as_deref().is_none_or(|test| test == own);
    let broken = gates.iter().filter(of_test).find(|gate| gate.state == GateState::Broken);
    let broken = broken.map(|gate| format!("{}: {} where {} is allowed", gate.id, gate.observed, gate.limit));
    let context = |broken| Context { profile, engine, broken };
    let mut criterion = judge(spec, seen, &context(broken.as_deref()));
    if criterion.verdict == Verdict::Invalid && spec.rule == Rule::ZeroEvents {
        // What happened has happened, however the harness did.
        let anyway = judge(spec, seen, &context(None));
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

/// Judges one criterion.
pub fn judge(spec: &CriterionSpec, seen: &Observation, context: &Context<'_>) -> Criterion {
    let (verdict, reason) = decide(spec, seen, context);
    let reason = match &seen.remark {
        Some(note) => format!("{reason}; {note}"),
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
        observed: seen.value.filter(|value| value.is_finite() && seen.n > 0),
        ci95: seen.ci95.filter(|bounds| bounds.iter().all(|bound| bound.is_finite())),
        n: seen.n,
        verdict,
        reason,
        source: seen.source.clone(),
        evidence: seen.evidence.clone(),
    }
}

/// A criterion that was not measured.
pub fn not_run(spec: &CriterionSpec, reason: &str) -> Criterion {
    let nothing = Observation { source: "not measured".to_owned(), live: true, ..Observation::default() };
    let context = Context { profile: Profile::Full, engine: spec.engine.unwrap_or(Engine::Embedded), broken: None };
    let mut criterion = judge(spec, &nothing, &context);
    (criterion.verdict, criterion.reason) = (Verdict::NotRun, reason.to_owned());
    criterion
}

fn decide(spec: &CriterionSpec, seen: &Observation, context: &Context<'_>) -> (Verdict, String) {
    if let Some(engine) = spec.engine.filter(|engine| *engine != context.engine) {
        return (Verdict::NotRun, format!("n/a: applies to the {engine} engine only"));
    }
    if spec.rule == Rule::Live && !seen.live {
        return (Verdict::NotRun, NEEDS_LIVE.to_owned());
    }
    if let Some(gate) = context.broken {
        return (Verdict::Invalid, format!("the measurement is not valid: {gate}"));
    }
    let Some(value) = seen.value.filter(|value| value.is_finite()) else {
        return (Verdict::Inconclusive, format!("insufficient n: {} samples give no figure", count(seen.n)));
    };
    if seen.n == 0 {
        return (Verdict::Inconclusive, "nothing was attempted, and that proves nothing".to_owned());
    }
    let (verdict, reason) = match spec.rule {
        Rule::ZeroEvents => zero_events(spec, value, seen.n),
        Rule::EveryRun => every_run(spec, value, seen.n),
        Rule::Interval | Rule::Substitute | Rule::Live => by_interval(spec, value, seen.ci95),
    };
    if context.profile < spec.needs && !(spec.rule == Rule::ZeroEvents && verdict == Verdict::Fail) {
        let seen = with_unit(value, spec.unit);
        return (Verdict::NotRun, format!("only --profile {} can decide it; this run saw {seen}", spec.needs));
    }
    (verdict, reason)
}

fn zero_events(spec: &CriterionSpec, value: f64, n: u64) -> (Verdict, String) {
    if value > spec.target {
        return (Verdict::Fail, format!("{} in {}", with_unit(value, spec.unit), count(n)));
    }
    (Verdict::Pass, format!("0 in {}; 95 % bound 3/n = {}", count(n), percent(rule_of_three(n))))
}

fn every_run(spec: &CriterionSpec, value: f64, n: u64) -> (Verdict, String) {
    let target = target(spec);
    if !holds(spec, value) {
        return (
            Verdict::Fail,
            format!("the worst of {} is {}, and not {target}", count(n), with_unit(value, spec.unit)),
        );
    }
    let share = percent(proven_share(n));
    (Verdict::Pass, format!("{n} of {n} are {target}, which proves {share} of all at 95 %"))
}

fn by_interval(spec: &CriterionSpec, value: f64, ci95: Option<Interval>) -> (Verdict, String) {
    let Some(bounds) = ci95.filter(|bounds| bounds.iter().all(|bound| bound.is_finite())) else {
        let seen = with_unit(value, spec.unit);
        return (Verdict::Inconclusive, format!("{seen} has no interval: too few samples or windows"));
    };
    let target = target(spec);
    let shown = interval(bounds, spec.unit);
    match bounds.map(|bound| holds(spec, bound)) {
        [true, true] => (Verdict::Pass, format!("the whole 95 % interval {shown} is {target}")),
        [false, false] if !around(spec, bounds) => {
            (Verdict::Fail, format!("no part of the 95 % interval {shown} is {target}"))
        }
        _ => (Verdict::Inconclusive, format!("the 95 % interval {shown} straddles {target}")),
    }
}

/// Both bounds outside, on different sides: a wide interval around zero.
fn around(spec: &CriterionSpec, [low, high]: Interval) -> bool {
    spec.op == Op::Within && low < 0.0 && high > 0.0
}

fn holds(spec: &CriterionSpec, value: f64) -> bool {
    let target = spec.target;
    match spec.op {
        Op::Lt => value < target,
        Op::Le => value <= target,
        Op::Gt => value > target,
        Op::Ge => value >= target,
        Op::Eq => (value - target).abs() < f64::EPSILON,
        Op::Within => value.abs() <= target,
    }
}

/// The target as text: `< 100 ms`.
fn target(spec: &CriterionSpec) -> String {
    match spec.op {
        Op::Within => format!("within ±{}", with_unit(spec.target, spec.unit)),
        op => format!("{op} {}", with_unit(spec.target, spec.unit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{self, criterion};

    const CI: Context<'static> = Context { profile: Profile::Ci, engine: Engine::Cluster, broken: None };

    fn verdict(id: &str, seen: &Observation, context: &Context<'_>) -> Verdict {
        judge(criterion(id).unwrap(), seen, context).verdict
    }

    #[test]
    fn an_interval_must_be_on_one_side() {
        let seen = |low, high| Observation::new(f64::midpoint(low, high), [low, high], 1_000, "test");
        let table = [
            ("3.1/delivery-p95", 80.0, 99.9, Verdict::Pass),
            ("3.1/delivery-p95", 80.0, 100.0, Verdict::Inconclusive),
            ("3.1/delivery-p95", 100.0, 120.0, Verdict::Fail),
            ("3.1/sustained", 200.0, 210.0, Verdict::Pass),
            ("3.1/sustained", 199.0, 210.0, Verdict::Inconclusive),
            ("3.1/sustained", 100.0, 199.9, Verdict::Fail),
            ("2.1/hit-rate", 90.0, 99.0, Verdict::Inconclusive),
            ("2.2/no-blocking", 0.9, 1.10, Verdict::Pass),
            ("1.3/distribution", 10.1, 11.0, Verdict::Fail),
        ];
        for (id, low, high, expected) in table {
            assert_eq!(verdict(id, &seen(low, high), &CI), expected, "{id} {low} {high}");
        }
        let standard = Context { profile: Profile::Standard, ..CI };
        for (low, high, expected) in [
            (-9.0, 9.0, Verdict::Pass),
            (-9.0, 11.0, Verdict::Inconclusive),
            (-90.0, 90.0, Verdict::Inconclusive),
            (11.0, 12.0, Verdict::Fail),
        ] {
            assert_eq!(verdict("6.2/drift-slope", &seen(low, high), &standard), expected, "{low} {high}");
        }
    }

    #[test]
    fn nothing_passes_because_nothing_was_measured() {
        let cases = [
            Observation { n: 58, ..Observation::default() }.remark("too short"),
            Observation::exact(0.0, 0, "test"),
            Observation { value: Some(1.0), n: 10, ..Observation::default() },
            Observation::new(f64::NAN, [0.0, 1.0], 10, "test"),
            Observation::new(1.0, [0.0, f64::INFINITY], 10, "test"),
        ];
        for seen in cases {
            assert_eq!(verdict("3.1/delivery-p95", &seen, &CI), Verdict::Inconclusive, "{seen:?}");
        }
        assert_eq!(verdict("3.2/loss", &Observation::exact(0.0, 0, "test"), &CI), Verdict::Inconclusive);
    }

    #[test]
    fn zero_of_n_prints_what_it_proves() {
        let judged = judge(criterion("3.2/loss").unwrap(), &Observation::exact(0.0, 5_000, "ledger"), &CI);
        assert_eq!(judged.verdict, Verdict::Pass);
        assert!(judged.reason.contains("0 in 5,000") && judged.reason.contains("0.06 %"), "{}", judged.reason);
        assert_eq!(verdict("3.2/loss", &Observation::exact(1.0, 5_000, "ledger"), &CI), Verdict::Fail);
    }

    #[test]
    fn the_worst_run_decides() {
        let judged = judge(criterion("1.1/startup-20").unwrap(), &Observation::exact(4_999.0, 10, "events"), &CI);
        assert_eq!(judged.verdict, Verdict::Pass);
        assert!(judged.reason.contains("74.1 %"), "{}", judged.reason);
        assert_eq!(verdict("1.1/startup-20", &Observation::exact(5_000.0, 10, "events"), &CI), Verdict::Fail);
    }

    #[test]
    fn gates_engines_profiles_and_keys_come_first() {
        let good = Observation::new(1.0, [0.5, 1.5], 1_000, "test");
        let broken = Context { broken: Some("schedule lag p99 9 ms"), ..CI };
        assert_eq!(verdict("3.1/delivery-p95", &good, &broken), Verdict::Invalid);
        assert_eq!(verdict("stretch/tasks-p95-embedded", &good, &CI), Verdict::NotRun);
        assert_eq!(verdict("5.1/ttft-openai", &good, &CI), Verdict::NotRun);
        assert_eq!(verdict("5.1/ttft-openai", &good.clone().live(), &CI), Verdict::Pass);
        assert_eq!(verdict("4.1/leak", &good, &CI), Verdict::NotRun);
        assert_eq!(verdict("4.1/leak", &good, &Context { profile: Profile::Full, ..CI }), Verdict::Pass);
        // What happened has happened, however short the run.
        let quick = Context { profile: Profile::Quick, ..CI };
        assert_eq!(verdict("1.3/scale-down", &Observation::exact(2.0, 10, "ledger"), &quick), Verdict::Fail);
    }

    #[test]
    fn what_was_not_run_says_why() {
        let missed = not_run(criterion("3.2/loss").unwrap(), "no rabbitmq-server on this machine");
        assert_eq!((missed.verdict, missed.observed), (Verdict::NotRun, None));
        assert!(missed.reason.contains("rabbitmq-server"));
    }

    fn judged(seen: &[Observation], gates: &[Gate]) -> Vec<Criterion> {
        let scenario = catalogue::scenario("3.2").unwrap();
        judge_all(scenario, seen, gates, (Engine::Embedded, Profile::Full))
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
        let seen =
            [Observation::exact(0.0, 100, "t").of("3.2/loss"), Observation::exact(1.0, 100, "t").of("3.2/duplicates")];
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
            let all = judge_all(scenario, &[seen], gates, (Engine::Embedded, Profile::Ci));
            of(&all, "5.1/ttft-openai").verdict
        };
        let seen = || Observation::new(400.0, [300.0, 500.0], 90, "t").of("5.1/ttft-openai");
        let (simulated, called) = (gate(scenario.id), gate(&live_gates(scenario.id)));
        assert_eq!(verdict(seen(), &[]), Verdict::NotRun);
        assert_eq!(verdict(seen().live(), &[simulated]), Verdict::Pass);
        assert_eq!(verdict(seen().live(), &[called]), Verdict::Invalid);
    }

    #[test]
    fn what_decides_nothing_does_not_pass() {
        let seen = [Observation::exact(0.0, 100, "t").of("3.2/loss").undecided("not all had ended")];
        assert_eq!(of(&judged(&seen, &[]), "3.2/loss").verdict, Verdict::Inconclusive);
    }
}
