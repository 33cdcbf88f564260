//! Mann and Whitney's test between two arms of runs, and Holm's correction over metrics.

use statrs::distribution::{ContinuousCDF, Normal};

use super::count;

/// Up to this many runs in each arm the distribution is counted exactly, where no values are equal.
const EXACT: usize = 20;

/// The two-sided p of Mann and Whitney's U test; `None` when an arm is empty. Exact without ties up to 20 runs an arm,
/// else the normal approximation with corrections for ties and continuity.
pub fn mann_whitney(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let (u, ties) = statistic(a, b);
    if ties == 0.0 && a.len() <= EXACT && b.len() <= EXACT {
        return Some(exact(u, a.len(), b.len()));
    }
    let (m, n) = (count(a.len()), count(b.len()));
    let total = m + n;
    let variance = m * n / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance <= 0.0 {
        return Some(1.0);
    }
    let distance = ((u - m * n / 2.0).abs() - 0.5).max(0.0) / variance.sqrt();
    Some((2.0 * (1.0 - Normal::standard().cdf(distance))).min(1.0))
}

/// U of `a`, and the sum of t³ - t over groups of equal values.
fn statistic(a: &[f64], b: &[f64]) -> (f64, f64) {
    let mut u = 0.0;
    for x in a {
        for y in b {
            u += if x > y {
                1.0
            } else if x == y {
                0.5
            } else {
                0.0
            };
        }
    }
    let mut all: Vec<f64> = a.iter().chain(b).copied().collect();
    all.sort_by(f64::total_cmp);
    let ties = all.chunk_by(|x, y| x == y).map(|group| count(group.len()).powi(3) - count(group.len())).sum();
    (u, ties)
}

/// Counts the arrangements with U at most as far out, by the recurrence of Mann and Whitney (1947).
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "U is a whole number without ties")]
fn exact(u: f64, m: usize, n: usize) -> f64 {
    // ways[j] for one arm of growing size: distributions of U as the product of Gaussian binomials.
    let most = m * n;
    let mut ways = vec![0.0_f64; most + 1];
    ways[0] = 1.0;
    for k in 1..=m {
        // multiply by (1 - q^(n+k)), divide by (1 - q^k)
        for at in (n + k..=most).rev() {
            ways[at] -= ways[at - n - k];
        }
        for at in k..=most {
            ways[at] += ways[at - k];
        }
    }
    let total: f64 = ways.iter().sum();
    let low = u.min(count(most) - u) as usize;
    let tail: f64 = ways[..=low].iter().sum();
    (2.0 * tail / total).min(1.0)
}

/// Holm's step-down correction (1979), in the order given.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|i, j| p[*i].total_cmp(&p[*j]));
    let mut adjusted = vec![0.0; p.len()];
    let mut running = 0.0_f64;
    for (rank, index) in order.into_iter().enumerate() {
        running = running.max((count(p.len() - rank) * p[index]).min(1.0));
        adjusted[index] = running;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Hollander and Wolfe 1973, p. 69f, the example of R's `wilcox.test`: W = 35, one-sided p = 0.1272.
    #[test]
    fn hollander_and_wolfe() {
        let x = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46];
        let y = [1.15, 0.88, 0.90, 0.74, 1.21];
        assert_eq!(statistic(&x, &y).0, 35.0);
        let p = mann_whitney(&x, &y).unwrap();
        assert!((p - 2.0 * 0.1272).abs() < 1e-4, "{p}");
    }

    #[test]
    fn three_runs_an_arm_can_never_reach_five_percent() {
        let p = mann_whitney(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]).unwrap();
        assert!((p - 0.1).abs() < 1e-12, "{p}");
        let p = mann_whitney(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0]).unwrap();
        assert!((p - 2.0 / 70.0).abs() < 1e-12, "{p}");
    }

    #[test]
    fn equal_arms_differ_by_nothing() {
        assert_eq!(mann_whitney(&[1.0; 5], &[1.0; 5]), Some(1.0));
        assert_eq!(mann_whitney(&[], &[1.0]), None);
    }

    /// R: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")
    #[test]
    fn holm_as_in_r() {
        let adjusted = holm(&[0.04, 0.01, 0.03, 0.02, 0.05]);
        for (got, want) in adjusted.iter().zip([0.09, 0.05, 0.09, 0.08, 0.09]) {
            assert!((got - want).abs() < 1e-12, "{adjusted:?}");
        }
        assert_eq!(holm(&[]), Vec::<f64>::new());
    }

    proptest! {
        #[test]
        fn the_order_of_the_arms_does_not_matter(a in proptest::collection::vec(0.0_f64..1.0, 1..25), b in proptest::collection::vec(0.0_f64..1.0, 1..25)) {
            let (p, q) = (mann_whitney(&a, &b).unwrap(), mann_whitney(&b, &a).unwrap());
            prop_assert!((p - q).abs() < 1e-9 && (0.0..=1.0).contains(&p));
        }
    }
}
