//! The exit code of a run.

use clap::ValueEnum;

use crate::catalogue::Tier;
use crate::model::{Change, Report, Verdict};

/// What ends a run, by its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything that could be decided passes.
    Pass,
    /// A critical criterion failed.
    Failed,
    /// A critical criterion is inconclusive or invalid.
    Undecided,
    /// Worse than the baseline.
    Regression,
    /// A safety invariant does not hold; wins over all.
    Unsafe,
    /// The platform or a server below it would not start.
    NotStarted,
    /// Ctrl-C; the partial report was written.
    Interrupted,
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Failed => 1,
            Self::Undecided => 3,
            Self::Regression => 4,
            Self::Unsafe => 5,
            Self::NotStarted => 6,
            Self::Interrupted => 130,
        }
    }
}

/// Which failed criteria fail the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// The critical ones.
    #[default]
    Critical,
    /// Every one but the stretch rows.
    Any,
    /// None: the report alone tells. Safety still does.
    Never,
}

/// How strict the exit code is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    pub fail_on: FailOn,
    /// Whether an open critical criterion is good enough.
    pub allow_inconclusive: bool,
    /// The platform or a server would not start.
    pub not_started: bool,
}

/// What a run came to.
pub fn exit_code(report: &Report, policy: &Policy) -> Exit {
    if report.safety.iter().any(|invariant| invariant.valid == Some(false)) {
        return Exit::Unsafe;
    }
    if policy.not_started {
        return Exit::NotStarted;
    }
    if report.run.interrupted {
        return Exit::Interrupted;
    }
    let any = |wanted: &[Verdict]| {
        report.criteria().any(|criterion| {
            let counts = match policy.fail_on {
                FailOn::Critical => criterion.critical,
                FailOn::Any => criterion.tier != Tier::Stretch,
                FailOn::Never => false,
            };
            counts && wanted.contains(&criterion.verdict)
        })
    };
    if any(&[Verdict::Fail]) {
        return Exit::Failed;
    }
    let rows = report.baseline.iter().flat_map(|baseline| &baseline.rows);
    if policy.fail_on != FailOn::Never && rows.into_iter().any(|row| row.verdict == Change::Regression) {
        return Exit::Regression;
    }
    if !policy.allow_inconclusive
        && (any(&[Verdict::Inconclusive, Verdict::Invalid]) || report.criteria().next().is_none())
    {
        return Exit::Undecided;
    }
    Exit::Pass
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Baseline, BaselineRow, Counts, Invariant};
    use crate::specimen::{judged, report_with};

    const STRICT: Policy = Policy { fail_on: FailOn::Critical, allow_inconclusive: false, not_started: false };

    fn of(verdicts: &[(&str, Verdict)], policy: Policy) -> u8 {
        exit_code(&report_with(verdicts.iter().map(|(id, verdict)| judged(id, *verdict)).collect()), &policy).code()
    }

    #[test]
    fn verdicts_decide() {
        use Verdict::{Fail, Inconclusive, Invalid, NotRun, Pass};
        let lenient = Policy { allow_inconclusive: true, ..STRICT };
        let any = Policy { fail_on: FailOn::Any, ..STRICT };
        let never = Policy { fail_on: FailOn::Never, ..STRICT };
        type Case<'a> = (&'a [(&'a str, Verdict)], Policy, u8);
        let table: [Case<'_>; 11] = [
            (&[("3.2/loss", Pass)], STRICT, 0),
            (&[("3.2/loss", Pass), ("tier/uptime", NotRun)], STRICT, 0),
            (&[("3.2/loss", Fail), ("1.1/startup-20", Inconclusive)], STRICT, 1),
            (&[("3.2/loss", Inconclusive)], STRICT, 3),
            (&[("3.2/loss", Invalid)], STRICT, 3),
            (&[("3.2/loss", Inconclusive)], lenient, 0),
            (&[("3.2/loss", Pass), ("2.1/hit-rate-95", Fail)], STRICT, 0),
            (&[("3.2/loss", Pass), ("2.1/hit-rate-95", Fail)], any, 1),
            (&[("3.2/loss", Pass), ("stretch/agent-kib", Fail)], any, 0),
            (&[("3.2/loss", Fail)], never, 0),
            (&[], STRICT, 3),
        ];
        for (verdicts, policy, code) in table {
            assert_eq!(of(verdicts, policy), code, "{verdicts:?} {policy:?}");
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
        assert_eq!(exit_code(&report, &STRICT).code(), 4);
        report.run.interrupted = true;
        assert_eq!(exit_code(&report, &STRICT).code(), 130);
        assert_eq!(exit_code(&report, &Policy { not_started: true, ..STRICT }).code(), 6);
        report.safety.push(Invariant {
            invariant: "I1".to_owned(),
            text: String::new(),
            test: String::new(),
            valid: Some(false),
            counts: Counts::new(),
            examples: vec![],
        });
        assert_eq!(exit_code(&report, &Policy { fail_on: FailOn::Never, not_started: true, ..STRICT }).code(), 5);
    }
}
