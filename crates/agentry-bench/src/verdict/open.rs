//! Claims a run could not prove, with the reason and the remedy.

use crate::catalogue::{Rule, SCENARIOS, Tier, criterion};
use crate::model::{Criterion, NotProven, Report, Verdict};

/// Everything open: criteria without a verdict, scenarios that were not run, and what no run of this kind can show.
pub fn not_proven(report: &Report) -> Vec<NotProven> {
    let open = report.criteria().filter(|c| !matches!(c.verdict, Verdict::Pass | Verdict::Fail));
    let mut list: Vec<NotProven> =
        open.filter(|c| c.tier != Tier::Stretch || c.verdict != Verdict::NotRun).map(of).collect();
    for scenario in SCENARIOS.iter().filter(|s| report.tests.iter().all(|test| test.id != s.id)) {
        list.push(NotProven {
            what: format!("{} {}", scenario.id, scenario.title),
            why: if scenario.seconds(report.run.profile) == 0 {
                format!("not part of --profile {}", report.run.profile)
            } else {
                "not asked for, or ended before it".to_owned()
            },
            way: format!("agentry bench run {}", scenario.id),
        });
    }
    if report.tests.iter().any(|test| test.id == "3.2-delivery") {
        list.push(NotProven {
            what: "Durability under loss of power".to_owned(),
            why: "kill -9 leaves the page cache intact, so it says nothing about what was synced".to_owned(),
            way: "the unsynced-write nemesis of --profile full".to_owned(),
        });
    }
    let cpus = report.fingerprint.machine.cpus;
    if cpus < 8 {
        list.push(NotProven {
            what: "Behaviour on the recommended hardware (8 cores, 16 GB)".to_owned(),
            why: format!("this machine has {cpus} cores, which also ran servers and load"),
            way: "the same command on such a machine".to_owned(),
        });
    }
    list
}

fn of(open: &Criterion) -> NotProven {
    let spec = criterion(&open.id);
    let way = match (open.verdict, spec) {
        (Verdict::NotRun, Some(spec)) if spec.rule == Rule::Live => {
            "--live with keys and a --budget; `agentry bench estimate` says the price".to_owned()
        }
        (Verdict::NotRun, Some(spec)) if open.reason.contains("--profile") => format!("--profile {}", spec.needs),
        (Verdict::NotRun, _) => "what the reason names".to_owned(),
        (Verdict::Invalid, _) => "a quieter machine, or the load from another one".to_owned(),
        _ => "a longer profile, for a narrower interval".to_owned(),
    };
    NotProven { what: format!("{} “{}”", open.id, open.seed_text), why: open.reason.clone(), way }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{judged, report_with};

    #[test]
    fn open_criteria_and_missing_scenarios_are_listed_and_proven_ones_are_not() {
        let report =
            report_with(vec![judged("3.2/loss", Verdict::Pass), judged("1.1/startup-20", Verdict::Inconclusive)]);
        let list = not_proven(&report);
        assert!(list.iter().any(|open| open.what.starts_with("1.1/startup-20")));
        assert!(!list.iter().any(|open| open.what.starts_with("3.2/loss")));
        assert!(list.iter().any(|open| open.what.starts_with("6.2-scheduler") && open.way.ends_with("6.2-scheduler")));
    }
}
