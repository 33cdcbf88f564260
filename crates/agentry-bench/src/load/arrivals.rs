//! Moments of arrival: a sequence that a seed decides alone, so that a slow answer cannot delay the next request.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::Duration;

use super::clock::{SECOND, nanos};

/// Spacing of arrivals; the mean gap is one over the rate in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spacing {
    /// Exponential gaps, as of independent callers.
    #[default]
    Poisson,
    /// Equal gaps.
    Uniform,
}

/// Moments of arrival in nanoseconds from the start, ascending, until the window ends.
#[derive(Debug, Clone)]
pub struct Arrivals {
    spacing: Spacing,
    /// Mean gap in nanoseconds.
    gap: f64,
    at: f64,
    end: f64,
    rng: StdRng,
}

impl Arrivals {
    /// Plans arrivals of `rate` per second for `window`. A rate of zero or less has none.
    pub fn new(spacing: Spacing, rate: f64, window: Duration, seed: u64) -> Self {
        let gap = if rate > 0.0 { SECOND as f64 / rate } else { f64::INFINITY };
        Self { spacing, gap, at: 0.0, end: nanos(window) as f64, rng: StdRng::seed_from_u64(seed) }
    }

    /// Returns the mean gap between two arrivals, in nanoseconds.
    pub fn mean_gap(&self) -> f64 {
        self.gap
    }

    fn step(&mut self) -> f64 {
        match self.spacing {
            Spacing::Uniform => self.gap,
            // Never the logarithm of zero.
            Spacing::Poisson => -(1.0 - self.rng.random::<f64>()).ln() * self.gap,
        }
    }
}

impl Iterator for Arrivals {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.at += self.step();
        (self.at < self.end).then_some(self.at as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(spacing: Spacing, seed: u64) -> Vec<u64> {
        Arrivals::new(spacing, 1_000.0, Duration::from_secs(20), seed).collect()
    }

    #[test]
    fn the_rate_and_the_variation_of_gaps_are_those_that_were_asked_for() {
        for (spacing, variation) in [(Spacing::Uniform, 0.0), (Spacing::Poisson, 1.0)] {
            let arrivals = all(spacing, 7);
            assert!((19_000..21_000).contains(&arrivals.len()), "{spacing:?}: {}", arrivals.len());
            let gaps: Vec<f64> = arrivals.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
            let seen = variance.sqrt() / mean;
            assert!((seen - variation).abs() < 0.05, "{spacing:?}: {seen}, not {variation}");
        }
    }

    #[test]
    fn a_seed_is_a_plan() {
        assert_eq!(all(Spacing::Poisson, 7), all(Spacing::Poisson, 7));
        assert_ne!(all(Spacing::Poisson, 7), all(Spacing::Poisson, 8));
        assert_eq!(Arrivals::new(Spacing::Poisson, 0.0, Duration::from_secs(1), 1).count(), 0);
    }
}
