//! Two sets of runs, metric by metric: did it become better or worse, beyond chance and beyond the noise of the machine?
//!
//! Runs are compared, not samples: percentiles within one run are correlated with one another. Medians with a bootstrap
//! interval, Mann and Whitney's test, Holm's correction over all metrics, and a threshold below which a difference is noise.

mod arms;
mod text;

pub use arms::{CompareError, differences, load_arm};
pub use text::text;

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::model::{Baseline, BaselineRow, Change, Report};
use crate::stats::{CONFIDENCE, holm, mann_whitney, median, median_difference};

/// Significance after Holm.
const ALPHA: f64 = 1.0 - CONFIDENCE;
/// A difference below this is noise, however certain: no user notices it.
const LEAST_NOISE: f64 = 0.02;
/// Noise where there are too few equal runs to measure it.
const ASSUMED_NOISE: f64 = 0.05;
/// Runs of an arm without which its halves say nothing about noise.
const RUNS_FOR_NOISE: usize = 6;
/// Runs of an arm without which a median has no 95 % interval.
const RUNS_FOR_INTERVAL: usize = 6;
/// Runs an arm should have: ten find a change of 10 % at a run-to-run deviation of 5 % nearly always.
pub const RUNS_WANTED: usize = 10;
/// Splits of equal runs from which noise is taken.
const SPLITS: usize = 200;

/// One metric in the runs of an arm.
struct MetricSamples {
    unit: String,
    more_is_better: Option<bool>,
    values: Vec<f64>,
}

/// Compares two arms; `equal` are further runs of the first kind, from which the noise is taken (an A/A comparison).
pub fn compare(reference: &str, before: &[Report], after: &[Report], equal: &[Report], seed: u64) -> Baseline {
    let (a, b) = (sampled(before), sampled(after));
    let noise_runs = if equal.is_empty() { before } else { equal };
    let c = sampled(noise_runs);
    let mut rows: Vec<(BaselineRow, Option<bool>, Option<f64>)> = Vec::new();
    for (metric, old) in &a {
        let Some(new) = b.get(metric).filter(|new| new.unit == old.unit) else { continue };
        let (m, n) = (median(&old.values), median(&new.values));
        if m == 0.0 {
            continue;
        }
        let enough = old.values.len() >= RUNS_FOR_INTERVAL && new.values.len() >= RUNS_FOR_INTERVAL;
        let p =
            (can_reach(old.values.len(), new.values.len())).then(|| mann_whitney(&old.values, &new.values)).flatten();
        let row = BaselineRow {
            metric: metric.clone(),
            unit: old.unit.clone(),
            before: m,
            after: n,
            delta: n / m - 1.0,
            ci95: if enough { median_difference(&old.values, &new.values, seed) } else { None },
            p_holm: None,
            noise: noise(c.get(metric).map_or(&[][..], |s| &s.values), seed),
            verdict: Change::Undecided,
        };
        rows.push((row, new.more_is_better.or(old.more_is_better), p));
    }
    let tested: Vec<f64> = rows.iter().filter_map(|(_, _, p)| *p).collect();
    let mut adjusted = holm(&tested).into_iter();
    let rows = rows.into_iter().map(|(mut row, better, p)| {
        row.p_holm = p.and_then(|_| adjusted.next());
        row.verdict = verdict(&row, better);
        row
    });
    Baseline {
        reference: reference.to_owned(),
        runs: [before.len(), after.len()].map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
        rows: rows.collect(),
        notes: notes(before.len(), after.len(), noise_runs.len()),
    }
}

/// Whether the smallest p that two arms of this size can give is below the significance level: 3 and 3 cannot.
fn can_reach(m: usize, n: usize) -> bool {
    let arrangements = (1..=m).fold(1.0, |ways, k| ways * crate::stats::count(n + k) / crate::stats::count(k));
    m > 0 && n > 0 && 2.0 / arrangements < ALPHA
}

fn verdict(row: &BaselineRow, more_is_better: Option<bool>) -> Change {
    let Some(p) = row.p_holm else { return Change::Undecided };
    if p >= ALPHA || row.delta.abs() <= row.noise {
        return Change::Same;
    }
    match more_is_better {
        None => Change::Changed,
        Some(more) if more == (row.delta > 0.0) => Change::Improvement,
        Some(_) => Change::Regression,
    }
}

/// The 95th percentile of the difference between random halves of equal runs.
fn noise(values: &[f64], seed: u64) -> f64 {
    if values.len() < RUNS_FOR_NOISE {
        return ASSUMED_NOISE;
    }
    let (mut rng, mut shuffled) = (StdRng::seed_from_u64(seed), values.to_vec());
    let mut differences: Vec<f64> = (0..SPLITS)
        .map(|_| {
            shuffled.shuffle(&mut rng);
            let (left, right) = shuffled.split_at(shuffled.len() / 2);
            (median(right) / median(left) - 1.0).abs()
        })
        .filter(|difference| difference.is_finite())
        .collect();
    differences.sort_by(f64::total_cmp);
    differences.get(differences.len() * 95 / 100).copied().unwrap_or(ASSUMED_NOISE).max(LEAST_NOISE)
}

/// Metrics by `test [mode, model profile]/name stat`, each with one value a run.
fn sampled(reports: &[Report]) -> BTreeMap<String, MetricSamples> {
    let mut all: BTreeMap<String, MetricSamples> = BTreeMap::new();
    for report in reports {
        let mut seen = std::collections::BTreeSet::new();
        for test in &report.tests {
            for metric in &test.metrics {
                let key = format!("{} [{}, {}]/{} {}", test.id, test.mode, test.llm_profile, metric.name, metric.stat);
                // The first of equal names counts: a run must not weigh twice.
                let Some(value) = metric.value.filter(|value| value.is_finite() && seen.insert(key.clone())) else {
                    continue;
                };
                let entry = all.entry(key).or_insert_with(|| MetricSamples {
                    unit: metric.unit.clone(),
                    more_is_better: metric.more_is_better,
                    values: Vec::new(),
                });
                entry.values.push(value);
            }
        }
    }
    all
}

fn notes(before: usize, after: usize, noise_runs: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if !can_reach(before, after) {
        notes.push(format!("{before} and {after} runs can never reach p < 0.05, so nothing is called a regression; give at least 4 of each, better {RUNS_WANTED}."));
    } else if before.min(after) < RUNS_WANTED {
        notes.push(format!("{before} and {after} runs find only large changes; {RUNS_WANTED} of each, taken in turn, find 10 % at a deviation of 5 %."));
    }
    if noise_runs < RUNS_FOR_NOISE {
        notes.push(format!(
            "Noise is assumed to be {} %: it takes {RUNS_FOR_NOISE} equal runs to measure it.",
            ASSUMED_NOISE * 100.0
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;
    use crate::fixtures::{judged, metric, report_with};
    use crate::model::Verdict;

    fn runs(n: usize, centre: f64, spread: f64, seed: u64, more: Option<bool>) -> Vec<Report> {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..n)
            .map(|_| {
                let mut report = report_with(vec![judged("3.1/delivery-p95", Verdict::Pass)]);
                let value = centre * (1.0 + spread * (rng.random::<f64>() - 0.5));
                report.tests[0].metrics =
                    vec![crate::model::Metric { more_is_better: more, ..metric("m", "ms", value) }];
                report
            })
            .collect()
    }

    fn change(a: &[Report], b: &[Report]) -> Change {
        compare("a", a, b, &[], 1).rows[0].verdict
    }

    #[test]
    fn a_real_change_is_found_in_its_direction() {
        let (slow, fast) = (runs(10, 120.0, 0.1, 1, Some(false)), runs(10, 100.0, 0.1, 2, Some(false)));
        assert_eq!(change(&fast, &slow), Change::Regression);
        assert_eq!(change(&slow, &fast), Change::Improvement);
        let more = |seed, centre| runs(10, centre, 0.1, seed, Some(true));
        assert_eq!(change(&more(1, 100.0), &more(2, 120.0)), Change::Improvement);
        let neither = |seed, centre| runs(10, centre, 0.1, seed, None);
        assert_eq!(change(&neither(1, 100.0), &neither(2, 120.0)), Change::Changed);
    }

    #[test]
    fn equal_arms_are_seldom_called_different() {
        let called = (0..60).filter(|s| {
            change(&runs(10, 100.0, 0.2, *s, Some(false)), &runs(10, 100.0, 0.2, s + 1_000, Some(false)))
                != Change::Same
        });
        assert!(called.count() <= 4);
    }

    #[test]
    fn three_runs_decide_nothing_and_say_so() {
        let compared =
            compare("a", &runs(3, 100.0, 0.01, 1, Some(false)), &runs(3, 200.0, 0.01, 2, Some(false)), &[], 1);
        assert_eq!(compared.rows[0].verdict, Change::Undecided);
        assert!(compared.notes[0].contains("can never reach"), "{:?}", compared.notes);
        assert_eq!(compared.rows[0].ci95, None);
        assert_eq!(change(&runs(1, 1.0, 0.0, 1, None), &runs(1, 9.0, 0.0, 1, None)), Change::Undecided);
        assert!(can_reach(4, 4) && !can_reach(3, 3) && can_reach(3, 5));
    }

    #[test]
    fn a_certain_but_tiny_difference_is_noise() {
        assert_eq!(
            change(&runs(10, 100.0, 0.001, 1, Some(false)), &runs(10, 101.0, 0.001, 2, Some(false))),
            Change::Same
        );
    }

    #[test]
    fn noise_comes_from_equal_runs() {
        let (a, b) = (runs(10, 100.0, 0.02, 1, Some(false)), runs(10, 106.0, 0.02, 2, Some(false)));
        assert_eq!(change(&a, &b), Change::Regression);
        let noisy = runs(20, 100.0, 0.6, 3, Some(false));
        assert_eq!(compare("a", &a, &b, &noisy, 1).rows[0].verdict, Change::Same);
    }
}
