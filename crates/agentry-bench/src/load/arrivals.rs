//! When requests arrive: a sequence that a seed decides alone, so that a slow answer cannot delay what comes next.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::Duration;

use super::clock::{SECOND, nanos};

/// How arrivals are spaced; the mean gap is one over the rate in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spacing {
    /// Independent callers: exponential gaps.
    #[default]
    Poisson,
    /// Equal gaps.
    Uniform,
    /// Bursts: gamma distributed gaps of shape 1/2, whose coefficient of variation is √2.
    Gamma,
}

/// The moments of arrival in nanoseconds from the start, ascending, until the window ends.
#[derive(Debug, Clone)]
pub struct Arrivals {
    spacing: Spacing,
    /// Mean gap in nanoseconds.
    gap: f64,
    at: f64,
    end: f64,
    chance: StdRng,
}

impl Arrivals {
    /// Arrivals of `rate` per second for `window`. A rate of zero or less has none.
    #[must_use]
    pub fn new(spacing: Spacing, rate: f64, window: Duration, seed: u64) -> Self {
        let gap = if rate > 0.0 { SECOND as f64 / rate } else { f64::INFINITY };
        Self { spacing, gap, at: 0.0, end: nanos(window) as f64, chance: StdRng::seed_from_u64(seed) }
    }

    /// The mean gap between two arrivals, in nanoseconds.
    #[must_use]
    pub fn mean_gap(&self) -> f64 {
        self.gap
    }

    fn step(&mut self) -> f64 {
        // Never the logarithm of zero.
        let mut unit = || 1.0 - self.chance.random::<f64>();
        match self.spacing {
            Spacing::Uniform => self.gap,
            Spacing::Poisson => -unit().ln() * self.gap,
            // The square of a standard normal number (Box–Muller) is gamma distributed with shape 1/2 and mean 1.
            Spacing::Gamma => {
                let normal = (-2.0 * unit().ln()).sqrt() * (std::f64::consts::TAU * unit()).cos();
                normal * normal * self.gap
            }
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
        for (spacing, variation) in [(Spacing::Uniform, 0.0), (Spacing::Poisson, 1.0), (Spacing::Gamma, 2_f64.sqrt())] {
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
