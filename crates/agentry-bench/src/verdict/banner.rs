//! The verdict in one sentence, and one more why the next table is not reached.

use crate::catalogue::criterion;
use crate::model::{Profile, Report, TierOutcome, TierRow, Verdict};

/// The first thing a reader sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Banner {
    pub verdict: Verdict,
    pub headline: String,
    /// Reason why it is not more.
    pub why: String,
}

/// The sentence of a report whose tables are filled in.
pub fn banner(report: &Report) -> Banner {
    let broken: Vec<&str> =
        report.safety.iter().filter(|i| i.valid == Some(false)).map(|i| i.invariant.as_str()).collect();
    if !broken.is_empty() {
        let headline = format!("Safety violation: {} does not hold.", broken.join(", "));
        return Banner {
            verdict: Verdict::Fail,
            headline,
            why: "This outweighs every other figure of the run.".to_owned(),
        };
    }
    let (minimum, production) = (&report.tiers.min_viable, &report.tiers.production_ready);
    let cut = if report.run.interrupted { " The run was interrupted." } else { "" };
    let state = state_of(report);
    let next = if minimum.reached { production } else { minimum };
    let headline = match (minimum.reached, production.reached, report.tiers.stretch.reached) {
        (true, true, true) => "Stretch: every row is proven.".to_owned(),
        (true, true, false) => sentence("Production-ready", production, report.run.profile),
        _ => sentence("Minimum viable", minimum, report.run.profile),
    };
    let other = match (minimum.reached, production.reached) {
        (true, true) => sentence("Stretch", &report.tiers.stretch, report.run.profile),
        _ => sentence("Production-ready", production, report.run.profile),
    };
    let first = next.rows.iter().find(|row| row.verdict == Verdict::Fail).or_else(|| open(next).next());
    let because = first.map(|row| format!(" {}: {}.", row.label, row.reason)).unwrap_or_default();
    let critical = critical_sentence(report);
    Banner { verdict: state, headline: format!("{headline}{cut}"), why: format!("{critical}{other}{because}") }
}

/// Criteria named in the sentence about the critical ones; the rest is in the sections.
const MAX_NAMED: usize = 4;

/// `Critical: failed 3.2/loss; invalid 4.2/load. `; empty when all that were decided pass.
fn critical_sentence(report: &Report) -> String {
    let mut parts = Vec::new();
    for (verdict, word) in
        [(Verdict::Fail, "failed"), (Verdict::Invalid, "invalid"), (Verdict::Inconclusive, "inconclusive")]
    {
        let found = report.criteria().filter(|c| c.critical && c.verdict == verdict).map(|c| c.id.as_str());
        let ids: Vec<&str> = found.collect();
        if !ids.is_empty() {
            let more =
                if ids.len() > MAX_NAMED { format!(" and {} more", ids.len() - MAX_NAMED) } else { String::new() };
            parts.push(format!("{word} {}{more}", ids[..ids.len().min(MAX_NAMED)].join(", ")));
        }
    }
    if parts.is_empty() { String::new() } else { format!("Critical: {}. ", parts.join("; ")) }
}

/// The worst of the critical rows that the run could decide.
fn state_of(report: &Report) -> Verdict {
    let critical = || report.criteria().filter(|criterion| criterion.critical);
    for verdict in [Verdict::Fail, Verdict::Invalid, Verdict::Inconclusive] {
        if critical().any(|criterion| criterion.verdict == verdict) {
            return verdict;
        }
    }
    if critical().any(|criterion| criterion.verdict == Verdict::Pass) { Verdict::Pass } else { Verdict::NotRun }
}

fn open(table: &TierOutcome) -> impl Iterator<Item = &TierRow> {
    table.rows.iter().filter(|row| matches!(row.verdict, Verdict::Inconclusive | Verdict::Invalid))
}

/// `Minimum viable: 10 of 12 proven, 2 need --profile full.`
fn sentence(name: &str, table: &TierOutcome, profile: Profile) -> String {
    let total = table.rows.len();
    let number = |verdict: Verdict| table.rows.iter().filter(|row| row.verdict == verdict).count();
    if table.reached {
        return format!("{name}: reached, {total} of {total} proven.");
    }
    let mut parts = vec![format!("{} of {total} proven", number(Verdict::Pass))];
    for (verdict, word) in
        [(Verdict::Fail, "failed"), (Verdict::Inconclusive, "inconclusive"), (Verdict::Invalid, "invalid")]
    {
        if number(verdict) > 0 {
            parts.push(format!("{} {word}", number(verdict)));
        }
    }
    let skipped: Vec<&TierRow> = table.rows.iter().filter(|row| row.verdict == Verdict::NotRun).collect();
    let mut left = skipped.len();
    for longer in [Profile::Ci, Profile::Standard, Profile::Full] {
        let count = skipped.iter().filter(|row| needs(row, profile) == Some(longer)).count();
        if count > 0 {
            parts.push(format!("{count} {} --profile {longer}", if count == 1 { "needs" } else { "need" }));
            left -= count;
        }
    }
    if left > 0 {
        parts.push(format!("{left} not run"));
    }
    format!("{name}: {}.", parts.join(", "))
}

/// The profile without which a row cannot be decided, when it is longer than the run's.
fn needs(row: &TierRow, profile: Profile) -> Option<Profile> {
    let longest = row.criteria.iter().filter_map(|id| criterion(id)).map(|spec| spec.needs).max()?;
    (longest > profile).then_some(longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::MIN_VIABLE;
    use crate::fixtures::{judged, report_with};
    use crate::model::{Counts, Invariant};
    use crate::verdict::tiers;

    fn report(decide: impl Fn(&str) -> Verdict) -> Report {
        let ids = MIN_VIABLE.iter().flat_map(|row| row.criteria);
        let mut report = report_with(ids.map(|id| judged(id, decide(id))).collect());
        report.tiers = tiers(&report);
        report
    }

    #[test]
    fn rows_that_only_a_longer_run_can_decide_are_named() {
        let full_only = |id: &str| matches!(id, "4.1/leak" | "tier/uptime");
        let mut report = report(|id| if full_only(id) { Verdict::NotRun } else { Verdict::Pass });
        report.run.profile = Profile::Standard;
        let banner = banner(&report);
        assert_eq!(banner.headline, "Minimum viable: 10 of 12 proven, 2 need --profile full.");
        assert_eq!(banner.verdict, Verdict::Pass);
    }

    #[test]
    fn a_failed_row_is_named_with_its_reason() {
        let banner = banner(&report(|id| if id == "1.1/startup-20" { Verdict::Fail } else { Verdict::Pass }));
        assert_eq!(banner.verdict, Verdict::Fail);
        assert_eq!(banner.headline, "Minimum viable: 11 of 12 proven, 1 failed.");
        assert!(banner.why.starts_with("Critical: failed 1.1/startup-20. "), "{banner:?}");
        assert!(banner.why.contains("Startup Time: "), "{banner:?}");
    }

    #[test]
    fn a_safety_violation_outweighs_everything() {
        let mut report = report(|_| Verdict::Pass);
        report.safety.push(Invariant {
            invariant: "I2".to_owned(),
            text: "no result lost".to_owned(),
            test: "3.2-delivery".to_owned(),
            valid: Some(false),
            counts: Counts::new(),
            examples: vec![],
        });
        assert!(banner(&report).headline.starts_with("Safety violation: I2"));
    }

    #[test]
    fn an_empty_run_proves_nothing() {
        let mut empty = report_with(vec![]);
        empty.tiers = tiers(&empty);
        assert_eq!(banner(&empty).verdict, Verdict::NotRun);
    }
}
