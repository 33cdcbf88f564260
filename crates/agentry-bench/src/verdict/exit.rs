//! The exit code of a run.

use crate::model::{Change, Report, Verdict};

/// Exit code of a run of which the platform or a server would not start.
pub const NOT_STARTED: u8 = 6;

/// Returns the exit code of a run, the first that fits:
///
/// - 5: a safety invariant does not hold
/// - 6: the platform or a server below it would not start
/// - 130: Ctrl-C; the partial report was written
/// - 1: a critical criterion failed
/// - 4: a metric is worse than the baseline
/// - 3: a critical criterion is inconclusive or invalid, or nothing was judged
/// - 0: everything that could be decided passes
pub fn exit_code(report: &Report, has_started: bool) -> u8 {
    let is_critical =
        |verdict: Verdict| report.criteria().any(|criterion| criterion.critical && criterion.verdict == verdict);
    let mut rows = report.baseline.iter().flat_map(|baseline| &baseline.rows);
    if report.safety.iter().any(|invariant| invariant.valid == Some(false)) {
        5
    } else if !has_started {
        NOT_STARTED
    } else if report.run.interrupted {
        130
    } else if is_critical(Verdict::Fail) {
        1
    } else if rows.any(|row| row.verdict == Change::Regression) {
        4
    } else if [Verdict::Inconclusive, Verdict::Invalid].into_iter().any(is_critical)
        || report.criteria().next().is_none()
    {
        3
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{judged, report_with};
    use crate::model::{Baseline, BaselineRow, Counts, Invariant};

    #[test]
    fn verdicts_decide() {
        use Verdict::{Fail, Inconclusive, Invalid, NotRun, Pass};
        type Case<'a> = (&'a [(&'a str, Verdict)], u8);
        let table: [Case<'_>; 7] = [
            (&[("3.2/loss", Pass)], 0),
            (&[("3.2/loss", Pass), ("tier/uptime", NotRun)], 0),
            (&[("3.2/loss", Fail), ("1.1/startup-20", Inconclusive)], 1),
            (&[("3.2/loss", Inconclusive)], 3),
            (&[("3.2/loss", Invalid)], 3),
            (&[("3.2/loss", Pass), ("2.1/hit-rate-95", Fail)], 0),
            (&[], 3),
        ];
        for (verdicts, code) in table {
            let report = report_with(verdicts.iter().map(|(id, verdict)| judged(id, *verdict)).collect());
            assert_eq!(exit_code(&report, true), code, "{verdicts:?}");
        }
    }

    #[test]
    fn safety_wins_then_start_then_interruption_then_regression() {
        let mut report = report_with(vec![judged("3.2/loss", Verdict::Pass)]);
        let row = BaselineRow {
            metric: "m".to_owned(),
            unit: "ms".to_owned(),
            before: 1.0,
            after: 2.0,
            delta: 1.0,
            ci95: None,
            p_holm: Some(0.01),
            noise: 0.05,
            verdict: Change::Regression,
        };
        report.baseline = Some(Baseline { reference: "a".to_owned(), runs: [10, 10], rows: vec![row], notes: vec![] });
        assert_eq!(exit_code(&report, true), 4);
        report.run.interrupted = true;
        assert_eq!(exit_code(&report, true), 130);
        assert_eq!(exit_code(&report, false), 6);
        report.safety.push(Invariant {
            invariant: "I1".to_owned(),
            text: String::new(),
            test: String::new(),
            valid: Some(false),
            counts: Counts::new(),
            examples: vec![],
        });
        assert_eq!(exit_code(&report, false), 5);
    }
}
