//! Advice, with the number behind it. A rule applies only when a criterion is missed *and* a metric shows the
//! cause; without such a metric there is no advice. `docs/tuning.md` is written from the same rules.

mod rules;
#[cfg(test)]
mod tuning;

pub use rules::{AdviceRule, CAUSES, RULES};

use crate::model::{Advice, Metric, Report, Verdict};
use crate::show::with_unit;

/// The share of processor time above which the machine itself is the limit.
const MACHINE_BOUND_PERCENT: f64 = 95.0;
/// The metric that says so.
const BOX_CPU: &str = "cpu.box";

/// Everything that the evidence of a report supports, in the order of the rules.
pub fn advise(report: &Report) -> Vec<Advice> {
    RULES.iter().flat_map(|rule| apply(report, rule)).collect()
}

fn apply(report: &Report, rule: &AdviceRule) -> Vec<Advice> {
    let Some(criterion) = rule.criteria.iter().find(|id| missed(report, id)) else { return Vec::new() };
    if rule.yields_to_machine
        && let Some(metric) = find(report, BOX_CPU).filter(|m| m.value.is_some_and(|v| v > MACHINE_BOUND_PERCENT))
    {
        return vec![Advice {
            rule: format!("{}/machine-bound", rule.id),
            criterion: (*criterion).to_owned(),
            seed_hint: "none: machine-bound".to_owned(),
            action: "The machine is the limit. Use a larger one before anything is tuned.".to_owned(),
            evidence: quote(metric),
            metric: metric.name.clone(),
        }];
    }
    let fired = CAUSES.iter().filter(|cause| cause.rule == rule.id).filter_map(|cause| {
        let metric = find(report, cause.metric).filter(|m| m.value.is_some_and(|value| value > cause.above))?;
        if let Some((other, least)) = cause.and
            && !find(report, other).is_some_and(|m| m.value.is_some_and(|value| value > least))
        {
            return None;
        }
        Some(Advice {
            rule: format!("{}/{}", rule.id, cause.id),
            criterion: (*criterion).to_owned(),
            seed_hint: cause.hint.to_owned(),
            action: cause.action.to_owned(),
            evidence: format!("{}; the rule fires above {}", quote(metric), with_unit(cause.above, cause.unit)),
            metric: metric.name.clone(),
        })
    });
    fired.collect()
}

fn missed(report: &Report, id: &str) -> bool {
    report.criteria().any(|c| c.id == id && matches!(c.verdict, Verdict::Fail | Verdict::Inconclusive))
}

/// The metric with this name and the largest value: the worst case is the evidence.
fn find<'a>(report: &'a Report, name: &str) -> Option<&'a Metric> {
    let all = report
        .tests
        .iter()
        .flat_map(|test| &test.metrics)
        .filter(|metric| metric.name == name && metric.value.is_some());
    all.max_by(|a, b| a.value.unwrap_or(f64::MIN).total_cmp(&b.value.unwrap_or(f64::MIN)))
}

fn quote(metric: &Metric) -> String {
    let value = metric.value.map_or_else(|| "–".to_owned(), |value| with_unit(value, &metric.unit));
    format!("{} {} {value} (n = {}, {})", metric.name, metric.stat, metric.n, metric.source)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::catalogue;
    use crate::fixtures::{judged, metric, report_with};

    fn with(criterion: &str, verdict: Verdict, metrics: &[(&str, &str, f64)]) -> Vec<String> {
        let mut report = report_with(vec![judged(criterion, verdict)]);
        report.tests[0].metrics = metrics.iter().map(|(name, unit, value)| metric(name, unit, *value)).collect();
        advise(&report).into_iter().map(|advice| advice.rule).collect()
    }

    #[test]
    fn nothing_is_advised_without_a_miss_or_without_evidence() {
        let evidence = [("startup.init_share", "%", 60.0)];
        assert_eq!(with("1.1/startup-20", Verdict::Pass, &evidence), Vec::<String>::new());
        assert_eq!(with("1.1/startup-20", Verdict::Fail, &[]), Vec::<String>::new());
        assert_eq!(with("1.1/startup-20", Verdict::Fail, &[("startup.init_share", "%", 40.0)]), Vec::<String>::new());
        assert_eq!(with("1.1/startup-20", Verdict::Fail, &evidence), ["startup/parallel-init"]);
    }

    #[test]
    fn the_number_is_quoted() {
        let mut report = report_with(vec![judged("1.1/startup-20", Verdict::Fail)]);
        report.tests[0].metrics = vec![metric("startup.init_share", "%", 61.4)];
        let advice = advise(&report);
        assert!(advice[0].evidence.contains("61.4 %") && advice[0].evidence.contains("50 %"), "{advice:?}");
        assert_eq!(advice[0].seed_hint, "Parallel agent initialization");
    }

    #[test]
    fn a_second_condition_must_hold_too() {
        let busy = ("worker.busy", "%", 95.0);
        assert_eq!(with("tier/throughput-100", Verdict::Fail, &[busy]), Vec::<String>::new());
        let idle = ("cpu.idle_elsewhere", "%", 30.0);
        assert_eq!(with("tier/throughput-100", Verdict::Fail, &[busy, idle]), ["throughput/worker-processes"]);
    }

    #[test]
    fn a_machine_at_its_limit_silences_the_rest() {
        let metrics = [("worker.busy", "%", 95.0), ("cpu.idle_elsewhere", "%", 30.0), ("cpu.box", "%", 98.0)];
        assert_eq!(with("tier/throughput-100", Verdict::Fail, &metrics), ["throughput/machine-bound"]);
    }

    #[test]
    fn rules_and_causes_name_what_exists() {
        let mut seen = BTreeSet::new();
        for rule in RULES {
            assert!(seen.insert(rule.id.to_owned()), "{} twice", rule.id);
            assert!(CAUSES.iter().any(|cause| cause.rule == rule.id), "{} has no cause", rule.id);
            for id in rule.criteria {
                assert!(catalogue::criterion(id).is_some(), "{}: {id}", rule.id);
            }
        }
        for cause in CAUSES {
            assert!(RULES.iter().any(|rule| rule.id == cause.rule), "{}", cause.id);
            assert!(seen.insert(format!("{}/{}", cause.rule, cause.id)), "{} twice", cause.id);
        }
    }

    /// Every hint of the optimisation table has a rule that can give it.
    #[test]
    fn every_hint_of_the_table_can_be_given() {
        let hints = [
            "Parallel agent initialization",
            "Lazy loading of agent resources",
            "Connection pool pre-warming",
            "Configuration caching",
            "Increase worker processes",
            "Optimize database queries",
            "Add Redis caching layers",
            "Batch event publishing",
            "Conversation history pruning",
            "State compression",
            "Shared resource pools",
            "Garbage collection tuning",
        ];
        for hint in hints {
            assert!(CAUSES.iter().any(|cause| cause.hint == hint), "{hint}");
        }
    }
}
