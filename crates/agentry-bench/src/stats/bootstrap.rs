//! Bootstrap intervals: percentile method, seeded. Blocks where neighbours are correlated.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{CONFIDENCE, count, median};

/// A lower and an upper bound.
pub type Interval = [f64; 2];

/// Returns the 95 % interval of a statistic of independent values; `None` under two of them.
pub fn bootstrap(values: &[f64], resamples: usize, seed: u64, statistic: impl Fn(&[f64]) -> f64) -> Option<Interval> {
    if values.len() < 2 {
        return None;
    }
    let (mut rng, mut drawn) = (StdRng::seed_from_u64(seed), Vec::with_capacity(values.len() + 1));
    let figures = (0..resamples).map(|_| {
        draw_blocks(values, 1, &mut rng, &mut drawn);
        statistic(&drawn)
    });
    percentile_interval(figures.collect())
}

/// Returns the 95 % interval of the ratio of a statistic of `over` to that of `under`, the two drawn apart; `None` under two values
/// on a side or when a denominator is 0.
pub fn ratio(over: &[f64], under: &[f64], seed: u64, statistic: impl Fn(&[f64]) -> f64) -> Option<Interval> {
    two_samples(over, under, seed, |a, b| statistic(a) / statistic(b))
}

/// Returns the 95 % interval of the difference of the medians, relative to the median of `before`.
pub fn median_difference(before: &[f64], after: &[f64], seed: u64) -> Option<Interval> {
    two_samples(after, before, seed, |a, b| median(a) / median(b) - 1.0)
}

fn two_samples(over: &[f64], under: &[f64], seed: u64, statistic: impl Fn(&[f64], &[f64]) -> f64) -> Option<Interval> {
    if over.len() < 2 || under.len() < 2 {
        return None;
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    let figures = (0..super::RESAMPLES).map(|_| {
        draw_blocks(over, 1, &mut rng, &mut a);
        draw_blocks(under, 1, &mut rng, &mut b);
        statistic(&a, &b)
    });
    percentile_interval(figures.collect())
}

/// Draws whole blocks of a series whose neighbours are correlated (Künsch 1989), as many values as there are.
pub(super) fn draw_blocks(values: &[f64], block: usize, rng: &mut StdRng, into: &mut Vec<f64>) {
    let block = block.min(values.len());
    into.clear();
    while into.len() < values.len() {
        let start = rng.random_range(0..=values.len() - block);
        into.extend_from_slice(&values[start..start + block]);
    }
    into.truncate(values.len());
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ranks lie within the slice")]
pub(super) fn percentile_interval(mut figures: Vec<f64>) -> Option<Interval> {
    if figures.is_empty() || figures.iter().any(|figure| !figure.is_finite()) {
        return None;
    }
    figures.sort_by(f64::total_cmp);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let last = count(figures.len() - 1);
    let at = |share: f64| figures[(share * last).round() as usize];
    Some([at(tail), at(1.0 - tail)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::mean;

    fn noise(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..n).map(|_| (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0).collect()
    }

    #[test]
    fn the_interval_of_a_mean_is_as_wide_as_theory_says() {
        let values = noise(400, 7);
        let [low, high] = bootstrap(&values, 2_000, 1, mean).unwrap();
        let expected = 2.0 * 1.96 / 20.0;
        assert!((high - low - expected).abs() < 0.25 * expected, "{low} {high}");
    }

    #[test]
    fn nineteen_of_twenty_intervals_hold_the_truth() {
        let held = (0..200).filter(|seed| {
            let [low, high] = bootstrap(&noise(60, *seed), 400, *seed, mean).unwrap();
            low <= 0.0 && 0.0 <= high
        });
        let held = held.count();
        assert!((180..=199).contains(&held), "{held} of 200");
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let values = noise(50, 3);
        assert_eq!(bootstrap(&values, 500, 9, median), bootstrap(&values, 500, 9, median));
        assert_ne!(bootstrap(&values, 500, 9, median), bootstrap(&values, 500, 10, median));
    }

    #[test]
    fn a_ratio_is_equivalent_only_when_its_upper_bound_is() {
        let base: Vec<f64> = noise(200, 1).iter().map(|x| 100.0 + x).collect();
        let slower: Vec<f64> = base.iter().map(|x| x * 1.2).collect();
        assert!(ratio(&base, &base, 1, median).unwrap()[1] <= 1.10);
        assert!(ratio(&slower, &base, 1, median).unwrap()[1] > 1.10);
        assert_eq!(ratio(&base[..1], &base, 1, median), None);
        assert_eq!(ratio(&base, &[0.0, 0.0], 1, median), None, "division by zero");
    }
}
