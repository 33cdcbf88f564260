//! Latency of answers: the profiles of the validation suite.

use std::str::FromStr;
use std::time::Duration;

/// Median time to first token of [`Profile::Realistic`], in milliseconds.
const REALISTIC_MEDIAN_MS: f64 = 400.0;
/// Its 99th percentile, in milliseconds.
const REALISTIC_P99_MS: f64 = 1_500.0;
/// The 99th percentile of the standard normal distribution.
const NORMAL_P99: f64 = 2.326;

/// Latency profile of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Answers without delay.
    #[default]
    Instant,
    /// 50 ms to the first token, then 200 tokens/s.
    Fast,
    /// Time to first token is lognormal with median 400 ms and 99th percentile 1.5 s; then 60 tokens/s.
    Realistic,
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "instant" => Ok(Self::Instant),
            "fast" => Ok(Self::Fast),
            "realistic" => Ok(Self::Realistic),
            other => Err(format!("unknown latency profile `{other}`: expected instant, fast or realistic")),
        }
    }
}

impl Profile {
    pub(super) fn first_token(self, draw: u64) -> Duration {
        match self {
            Self::Instant => Duration::ZERO,
            Self::Fast => Duration::from_millis(50),
            Self::Realistic => {
                let sigma = (REALISTIC_P99_MS / REALISTIC_MEDIAN_MS).ln() / NORMAL_P99;
                Duration::from_secs_f64(REALISTIC_MEDIAN_MS * (sigma * normal(draw)).exp() / 1_000.0)
            }
        }
    }

    pub(super) fn per_token(self) -> Duration {
        match self {
            Self::Instant => Duration::ZERO,
            Self::Fast => Duration::from_millis(5),
            Self::Realistic => Duration::from_nanos(1_000_000_000 / 60),
        }
    }
}

/// A standard normal number from 64 random bits (Box–Muller).
fn normal(draw: u64) -> f64 {
    let unit = |bits: u64| (bits as f64 + 0.5) / f64::from(u32::MAX) / (1.0 + f64::EPSILON);
    let (first, second) = (unit(draw >> 32).min(1.0), unit(draw & u64::from(u32::MAX)));
    (-2.0 * first.ln()).sqrt() * (std::f64::consts::TAU * second).cos()
}

/// Returns the number with this index in the sequence of `seed` (SplitMix64). It needs random access by index, and
/// recorded outputs depend on its values, so a generator of `rand` cannot replace it.
pub(super) fn draw(seed: u64, index: u64) -> u64 {
    let mut mixed = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn realistic_has_the_median_and_the_tail_it_promises() {
        let mut times: Vec<f64> =
            (0..20_000).map(|n| Profile::Realistic.first_token(draw(7, n)).as_secs_f64() * 1_000.0).collect();
        times.sort_by(f64::total_cmp);
        let (median, p99) = (times[10_000], times[19_800]);
        assert!((380.0..420.0).contains(&median), "median {median}");
        assert!((1_350.0..1_650.0).contains(&p99), "p99 {p99}");
    }
}
