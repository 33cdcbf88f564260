//! The verdict tables, from the judged criteria. A row is as good as the worst of its criteria; a table is reached only
//! when every row passes.

use crate::catalogue::{CriterionSpec, MIN_VIABLE, PRODUCTION_READY, STRETCH, TierSpec};
use crate::model::{Criterion, Report, TierOutcome, TierRow, Tiers, Verdict};
use crate::show::with_unit;

/// All three tables.
pub fn tiers(report: &Report) -> Tiers {
    let of = |rows: &[TierSpec]| outcome(rows.iter().map(|spec| row(report, spec)).collect());
    let applies = |spec: &&CriterionSpec| spec.engine.is_none_or(|engine| engine == report.run.engine);
    let stretch = STRETCH.iter().filter(applies).map(|spec| stretch_row(report, spec)).collect();
    Tiers { min_viable: of(MIN_VIABLE), production_ready: of(PRODUCTION_READY), stretch: outcome(stretch) }
}

fn outcome(rows: Vec<TierRow>) -> TierOutcome {
    TierOutcome { reached: !rows.is_empty() && rows.iter().all(|row| row.verdict == Verdict::Pass), rows }
}

/// Ranks a verdict: a failure is certain, an invalid or open one might be a failure, one not run says nothing.
pub fn badness(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Pass => 0,
        Verdict::NotRun => 1,
        Verdict::Inconclusive => 2,
        Verdict::Invalid => 3,
        Verdict::Fail => 4,
    }
}

fn row(report: &Report, spec: &TierSpec) -> TierRow {
    let found: Vec<(&str, Option<&Criterion>)> = spec.criteria.iter().map(|id| (*id, worst_of(report, id))).collect();
    let state = |criterion: Option<&Criterion>| criterion.map_or(Verdict::NotRun, |c| c.verdict);
    let worst = found.iter().max_by_key(|(_, c)| badness(state(*c))).and_then(|(_, c)| *c);
    let missing = found.iter().find(|(_, criterion)| criterion.is_none());
    let verdict = found.iter().map(|(_, c)| state(*c)).max_by_key(|v| badness(*v)).unwrap_or(Verdict::NotRun);
    let reason = match (worst, missing) {
        (Some(worst), _) if worst.verdict != Verdict::Pass => worst.reason.clone(),
        (_, Some((id, _))) => format!("{id} was not part of this run"),
        (Some(worst), None) => worst.reason.clone(),
        (None, None) => "no criterion".to_owned(),
    };
    let observed = found.iter().filter_map(|(_, c)| c.as_ref()?.observed.zip(Some(c.as_ref()?.unit.as_str())));
    TierRow {
        id: spec.id.to_owned(),
        label: spec.label.to_owned(),
        target: spec.target.to_owned(),
        dagger: spec.dagger,
        critical: spec.critical,
        observed: observed.map(|(value, unit)| with_unit(value, unit)).collect::<Vec<_>>().join(" · "),
        verdict,
        reason,
        criteria: spec.criteria.iter().map(|id| (*id).to_owned()).collect(),
    }
}

/// The same criterion may be judged in several tests (1 KiB and 16 KiB): the worst counts.
fn worst_of<'a>(report: &'a Report, id: &str) -> Option<&'a Criterion> {
    report.criteria().filter(|criterion| criterion.id == id).max_by_key(|criterion| badness(criterion.verdict))
}

fn stretch_row(report: &Report, spec: &CriterionSpec) -> TierRow {
    let found = worst_of(report, spec.id);
    TierRow {
        id: spec.id.to_owned(),
        label: spec.seed_text.to_owned(),
        target: format!("{} {}", spec.op, with_unit(spec.target, spec.unit)),
        dagger: false,
        critical: false,
        observed: found.and_then(|c| c.observed).map(|value| with_unit(value, spec.unit)).unwrap_or_default(),
        verdict: found.map_or(Verdict::NotRun, |c| c.verdict),
        reason: found.map_or_else(|| "was not part of this run".to_owned(), |c| c.reason.clone()),
        criteria: vec![spec.id.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{judged, report_with};

    #[test]
    fn a_row_is_as_good_as_the_worst_of_its_criteria() {
        let bus = |verdicts: [Verdict; 4]| {
            let ids = ["3.1/sustained", "3.1/burst", "3.1/delivery-p95", "3.1/no-buildup"];
            let report = report_with(ids.iter().zip(verdicts).map(|(id, verdict)| judged(id, verdict)).collect());
            tiers(&report).min_viable.rows.into_iter().find(|row| row.id == "bus").unwrap().verdict
        };
        use Verdict::{Fail, Inconclusive, Invalid, NotRun, Pass};
        assert_eq!(bus([Pass, Pass, Pass, Pass]), Pass);
        assert_eq!(bus([Pass, NotRun, Pass, Pass]), NotRun);
        assert_eq!(bus([Inconclusive, NotRun, Pass, Pass]), Inconclusive);
        assert_eq!(bus([Inconclusive, Invalid, Pass, NotRun]), Invalid);
        assert_eq!(bus([Inconclusive, Invalid, Fail, NotRun]), Fail);
    }

    #[test]
    fn what_is_missing_is_not_run_and_a_table_with_it_is_not_reached() {
        let table = tiers(&report_with(vec![judged("1.1/startup-20", Verdict::Pass)])).min_viable;
        assert!(!table.reached);
        assert_eq!(table.rows.iter().filter(|row| row.verdict == Verdict::Pass).count(), 1);
        assert!(
            table.rows.iter().all(|row| row.verdict == Verdict::Pass || row.reason.contains("not part of this run"))
        );
    }

    #[test]
    fn a_table_is_reached_when_every_row_passes() {
        let all = MIN_VIABLE.iter().flat_map(|row| row.criteria).map(|id| judged(id, Verdict::Pass)).collect();
        let tables = tiers(&report_with(all));
        assert!(tables.min_viable.reached && !tables.production_ready.reached && !tables.stretch.reached);
    }
}
