//! Quantiles with distribution-free intervals from order statistics, and the gate that refuses a figure when there are too
//! few samples for one.

use statrs::distribution::{Binomial, DiscreteCDF};

use super::{CONFIDENCE, Interval};

/// A quantile and its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantile {
    /// The estimate.
    pub value: f64,
    /// Its 95 % interval.
    pub ci95: Interval,
    /// Samples behind it.
    pub n: u64,
}

/// Returns the number of samples without which no 95 % upper bound of this quantile exists: 59 for p95, 299 for p99, 2,995 for p99.9. It is the
/// least n with 1 - qⁿ ≥ 0.95.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive count far below 2^53")]
fn needed(q: f64) -> u64 {
    let (alpha, q) = (1.0 - CONFIDENCE, q.max(1.0 - q));
    (alpha.ln() / q.ln()).ceil() as u64
}

/// Returns whether n samples support this quantile.
pub fn enough(n: u64, q: f64) -> bool {
    n >= needed(q)
}

/// Returns the ranks (from 1) of the order statistics that bound quantile `q` of `n` samples with 95 % confidence; the upper is `None`
/// where even the largest sample is no two-sided bound: it then bounds the quantile with 95 % on that side.
pub fn order_ranks(n: u64, q: f64) -> Option<(u64, Option<u64>)> {
    let binomial = Binomial::new(q, n).ok()?;
    let tail = (1.0 - CONFIDENCE) / 2.0;
    // X(l) ≤ x_q fails with probability P(B ≤ l-1) when B of n samples lie below x_q.
    let below = binomial.inverse_cdf(tail);
    let lower = below.max(1);
    let upper = binomial.inverse_cdf(1.0 - tail) + 1;
    Some((lower, (upper <= n).then_some(upper)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::number;
    use super::*;

    /// Published: for n = 100 the 40th and 61st order statistics hold the median at 95 %.
    #[test]
    fn ranks_of_a_median_are_those_of_the_binomial() {
        assert_eq!(order_ranks(100, 0.5), Some((40, Some(61))));
        let (low, high) = order_ranks(300, 0.95).unwrap();
        assert!((276..=279).contains(&low) && (292..=294).contains(&high.unwrap()), "{low} {high:?}");
        let (low, high) = order_ranks(30_000, 0.95).unwrap();
        assert!(low < 28_500 && high.unwrap() > 28_500);
    }

    #[test]
    fn the_gate_is_where_the_largest_sample_becomes_a_bound() {
        assert_eq!([0.5, 0.95, 0.99, 0.999].map(needed), [5, 59, 299, 2_995]);
        assert!(!enough(58, 0.95) && enough(59, 0.95));
    }

    /// Wilks 1941; the two figures are quoted wherever p95 of a few hundred requests is discussed.
    #[test]
    fn three_hundred_samples_pin_p95_only_to_92_3_and_97_7() {
        let share = |n: u64| {
            let (lower, upper) = order_ranks(n, 0.95).unwrap();
            [lower, upper.unwrap()].map(|rank| (number(rank) / number(n) * 1_000.0).round() / 10.0)
        };
        assert_eq!(share(300), [92.3, 97.7]);
        assert_eq!(share(3_000), [94.2, 95.8]);
    }

    proptest! {
        #[test]
        fn ranks_cover_the_quantile_with_95_percent(n in 80_u64..3_000, q in 0.5_f64..0.95) {
            let (lower, upper) = order_ranks(n, q).unwrap();
            let binomial = Binomial::new(q, n).unwrap();
            let upper = upper.unwrap();
            let covered = binomial.cdf(upper - 1) - if lower > 0 { binomial.cdf(lower - 1) } else { 0.0 };
            prop_assert!(covered >= 0.95 - 1e-9, "{covered}");
        }
    }
}
