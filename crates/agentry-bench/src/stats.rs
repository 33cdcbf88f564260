//! The statistics of the suite. No figure reaches a verdict without an interval, no interval without enough samples, and
//! everything random takes its seed from the caller.
//!
//! Distribution functions come from `statrs`; the rest is small, and tested against published or precomputed values.

mod bootstrap;
mod evenness;
mod hist;
mod proportion;
mod quantile;
mod ranks;
mod regress;
mod trend;
mod usl;

pub use bootstrap::{Interval, bootstrap, median_difference, ratio};
pub use evenness::evenness;
pub use hist::{Hist, decode, encode, hgrm, histogram, percentile_points, quantile_of};
pub use proportion::{clopper_pearson_upper, proven_share, rule_of_three, wilson};
pub use quantile::{Quantile, enough, order_ranks};
pub use ranks::{holm, mann_whitney};
pub use regress::{Line, line, quadratic};
pub use trend::theil_sen;
pub use usl::usl;

/// The confidence of every interval.
pub const CONFIDENCE: f64 = 0.95;
/// Resamples of a bootstrap, where nothing else is said.
pub const RESAMPLES: usize = 1_000;

/// The median; 0 for nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    median_sorted(&sorted)
}

fn median_sorted(sorted: &[f64]) -> f64 {
    let n = sorted.len();
    match n {
        0 => 0.0,
        _ if n % 2 == 1 => sorted[n / 2],
        _ => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The mean; 0 for nothing.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / count(values.len()) }
}

/// The standard deviation of a sample; 0 under two values.
pub fn deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let centre = mean(values);
    let squares: f64 = values.iter().map(|x| (x - centre).powi(2)).sum();
    (squares / count(values.len() - 1)).sqrt()
}

/// A count as a number; exact below 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts of samples are far below 2^53")]
pub(crate) fn count(n: usize) -> f64 {
    n as f64
}

/// The same for 64 bits.
#[expect(clippy::cast_precision_loss, reason = "counts of samples are far below 2^53")]
pub(crate) fn number(n: u64) -> f64 {
    n as f64
}
