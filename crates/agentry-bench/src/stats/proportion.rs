//! Shares: hit rates, error rates, uptime, and what "none of n" proves.

use statrs::distribution::{Beta, ContinuousCDF, Normal};

use super::{CONFIDENCE, Interval, number};

/// Returns Wilson's score interval (1927) of k in n, two-sided 95 %. (0, 1) for nothing.
pub fn wilson(k: u64, n: u64) -> Interval {
    if n == 0 {
        return [0.0, 1.0];
    }
    let z = Normal::standard().inverse_cdf(f64::midpoint(1.0, CONFIDENCE));
    let (n, p) = (number(n), number(k.min(n)) / number(n));
    let centre = p + z * z / (2.0 * n);
    let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    // At the ends the bound is exact; rounding would put it just beyond the estimate.
    let low = if p == 0.0 { 0.0 } else { ((centre - half) / scale).max(0.0) };
    let high = if p == 1.0 { 1.0 } else { ((centre + half) / scale).min(1.0) };
    [low, high]
}

/// Returns the one-sided 95 % upper bound of Clopper and Pearson (1934) for k in n; 1 for nothing.
pub fn clopper_pearson_upper(k: u64, n: u64) -> f64 {
    if k >= n {
        return 1.0;
    }
    if k == 0 {
        return zero_events_bound(n);
    }
    Beta::new(number(k) + 1.0, number(n - k)).map_or(1.0, |beta| beta.inverse_cdf(CONFIDENCE))
}

/// Returns the rate that no event in n attempts bounds from above with 95 %: 1 - 0.05^(1/n).
fn zero_events_bound(n: u64) -> f64 {
    if n == 0 { 1.0 } else { 1.0 - (1.0 - CONFIDENCE).powf(1.0 / number(n)) }
}

/// Returns the usual approximation of the same bound: 3/n.
pub fn rule_of_three(n: u64) -> f64 {
    if n == 0 { 1.0 } else { (3.0 / number(n)).min(1.0) }
}

/// Returns the share of all starts that R of R good ones prove with 95 %: 10 prove 74 %, 59 prove 95 %.
pub fn proven_share(runs: u64) -> f64 {
    1.0 - zero_events_bound(runs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Hits of 1,000 and of 10,000 reads without which a hit rate above 90 or 95 % is not shown.
    #[test]
    fn wilson_needs_as_many_hits_as_published() {
        for (n, share, hits) in [(1_000, 0.90, 919), (1_000, 0.95, 964), (10_000, 0.90, 9_059), (10_000, 0.95, 9_543)] {
            assert!(wilson(hits, n)[0] > share, "{hits} of {n}");
            assert!(wilson(hits - 1, n)[0] <= share, "{} of {n}", hits - 1);
        }
    }

    /// Newcombe 1998, table I, method 3: 81 of 263 and 15 of 148.
    #[test]
    fn wilson_agrees_with_newcombe() {
        assert_eq!((wilson(0, 690)[0], wilson(690, 690)[1]), (0.0, 1.0));
        for (k, n, expected) in [(81, 263, [0.2553, 0.3662]), (15, 148, [0.0624, 0.1605])] {
            for (got, want) in wilson(k, n).into_iter().zip(expected) {
                assert!((got - want).abs() < 5e-5, "{k}/{n}: {got} and not {want}");
            }
        }
    }

    #[test]
    fn rare_errors_need_their_attempts() {
        let table = [(0, 0.01, 299), (1, 0.01, 473), (0, 0.001, 2_995), (1, 0.001, 4_742), (2, 0.001, 6_294)];
        for (failures, limit, attempts) in table {
            assert!(clopper_pearson_upper(failures, attempts) < limit, "{failures} of {attempts}");
            assert!(clopper_pearson_upper(failures, attempts - 1) >= limit, "{failures} of one less than {attempts}");
        }
    }

    #[test]
    fn ten_starts_prove_74_percent_and_59_prove_95() {
        assert!((proven_share(10) - 0.7411).abs() < 1e-4);
        assert!(proven_share(59) >= 0.95 && proven_share(58) < 0.95);
        assert!((zero_events_bound(1_000) - rule_of_three(1_000)).abs() < 1e-5);
    }

    proptest! {
        #[test]
        fn bounds_lie_above_the_estimate_and_shrink_with_n(k in 0_u64..50, n in 60_u64..5_000) {
            let share = number(k) / number(n);
            let [low, high] = wilson(k, n);
            prop_assert!(low <= share && share <= high);
            prop_assert!(clopper_pearson_upper(k, n) > share);
            prop_assert!(clopper_pearson_upper(k, n * 2) < clopper_pearson_upper(k, n));
        }
    }
}
