//! `bench compare A B`: did it become better or worse?

use std::path::PathBuf;

use clap::Args;

use super::{BenchError, Outcome};
use crate::compare::{CompareError, compare as arms, differences, load_arm, text};
use crate::model::Change;

/// The exit code of a regression.
const REGRESSION: u8 = 4;

/// `bench compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// The runs before: a report.json, or a folder of runs
    pub before: PathBuf,
    /// The runs after
    pub after: PathBuf,
    /// More runs like those before, from which the noise of the machine is taken
    #[arg(long, value_name = "DIR")]
    pub noise: Option<PathBuf>,
    /// Compare although machine, servers, profile or engine differ, and say what does
    #[arg(long)]
    pub anyway: bool,
    /// Show the metrics that stayed the same too
    #[arg(long)]
    pub all: bool,
    /// Seed of the resampling
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Compares two arms.
pub fn compare(args: &Compare) -> Result<Outcome, BenchError> {
    let (before, after) = (load_arm(&args.before)?, load_arm(&args.after)?);
    let noise = args.noise.as_deref().map(load_arm).transpose()?.unwrap_or_default();
    let different = differences(before.iter().chain(&after).chain(&noise));
    if !different.is_empty() && !args.anyway {
        return Err(CompareError::Different(different).into());
    }
    let mut compared = arms(&args.before.display().to_string(), &before, &after, &noise, args.seed);
    if compared.rows.is_empty() {
        return Err(BenchError::new("these runs have no metric in common").help("run the same scenarios in both"));
    }
    compared.notes.extend(different.into_iter().map(|line| format!("not the same circumstances: {line}")));
    let regressed = compared.rows.iter().any(|row| row.verdict == Change::Regression);
    let text = if args.json {
        serde_json::to_string_pretty(&compared).unwrap_or_default() + "\n"
    } else {
        text(&compared, args.all)
    };
    Ok(Outcome { text, exit: if regressed { REGRESSION } else { 0 } })
}

impl From<CompareError> for BenchError {
    fn from(error: CompareError) -> Self {
        let help = match &error {
            CompareError::Load(inner) => inner.help(),
            CompareError::Different(_) => {
                "measure both on one machine with the same servers, or force it with --anyway"
            }
            CompareError::Folder { .. } | CompareError::Empty { .. } | CompareError::TooMany { .. } => {
                "give report.json, or a folder with one folder for each run"
            }
        };
        Self::new(error.to_string()).help(help)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{judged, metric, report_with};
    use crate::model::Verdict;
    use crate::report::write_all;

    fn arm(dir: &std::path::Path, centre: f64, cpus: u32) -> PathBuf {
        for i in 0..6_u32 {
            let mut report = report_with(vec![judged("3.1/delivery-p95", Verdict::Pass)]);
            report.tests[0].metrics = vec![metric("m", "ms", centre + f64::from(i))];
            report.fingerprint.machine.cpus = cpus;
            write_all(&report, &dir.join(i.to_string())).unwrap();
        }
        dir.to_owned()
    }

    fn args(before: PathBuf, after: PathBuf) -> Compare {
        Compare { before, after, noise: None, anyway: false, all: false, seed: 1, json: false }
    }

    #[test]
    fn a_regression_ends_with_four_and_another_machine_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let before = arm(&dir.path().join("a"), 100.0, 2);
        let worse = arm(&dir.path().join("b"), 140.0, 2);
        let done = compare(&args(before.clone(), worse.clone())).unwrap();
        assert_eq!(done.exit, 4, "{}", done.text);
        assert_eq!(compare(&args(worse, before.clone())).unwrap().exit, 0);
        let other = arm(&dir.path().join("c"), 140.0, 8);
        let refused = compare(&args(before.clone(), other.clone())).unwrap_err();
        assert!(refused.message.contains("8 × Sample CPU"), "{refused}");
        let forced = compare(&Compare { anyway: true, ..args(before, other) }).unwrap();
        assert!(forced.text.contains("not the same circumstances"));
    }

    #[test]
    fn a_corrupt_baseline_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let bad = dir.path().join("bad.json");
        std::fs::write(&bad, "{\"schema\":\"1.0.0\",").unwrap();
        let error = compare(&args(bad.clone(), bad)).unwrap_err();
        assert!(error.message.contains("bad.json:1:") && error.help.is_some(), "{error:?}");
    }
}
