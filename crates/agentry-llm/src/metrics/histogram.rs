//! Counts by upper bounds.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts by upper bounds, of integers that are millionths of what is shown.
#[derive(Debug)]
pub(super) struct Histogram {
    bounds: &'static [u64],
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

impl Histogram {
    pub fn new(bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    pub fn observe(&self, value: u64) {
        let slot = self.bounds.partition_point(|bound| *bound < value);
        self.counts[slot].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// In Prometheus' text format; nothing while nothing was observed.
    pub fn render(&self, out: &mut String, name: &str, labels: &str) {
        let counts: Vec<u64> = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return;
        }
        let mut below = 0;
        for (bound, count) in self.bounds.iter().zip(&counts) {
            below += count;
            // Writing to a `String` cannot fail, here and below.
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{}\"}} {below}", whole(*bound));
        }
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {total}");
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}", whole(self.sum.load(Ordering::Relaxed)));
        let _ = writeln!(out, "{name}_count{{{labels}}} {total}");
    }
}

#[allow(clippy::cast_precision_loss, reason = "for display")]
fn whole(millionths: u64) -> f64 {
    millionths as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_within_its_bucket() {
        let histogram = Histogram::new(&[1_000_000, 2_000_000]);
        for value in [1_000_000, 1_000_001, 9_000_000] {
            histogram.observe(value);
        }
        let mut text = String::new();
        histogram.render(&mut text, "x_seconds", "model=\"m\"");
        let expected = "x_seconds_bucket{model=\"m\",le=\"1\"} 1\nx_seconds_bucket{model=\"m\",le=\"2\"} 2\n\
                        x_seconds_bucket{model=\"m\",le=\"+Inf\"} 3\nx_seconds_sum{model=\"m\"} 11.000001\n\
                        x_seconds_count{model=\"m\"} 3\n";
        assert_eq!(text, expected);
    }
}
