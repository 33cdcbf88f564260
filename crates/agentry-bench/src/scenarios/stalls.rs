//! Timer lateness of the platform's executors, from the histogram on each process's `/metrics`.

use std::collections::BTreeMap;

use super::experiment::Experiment;
use crate::sample::Metrics;
use crate::stats::{enough, number, order_ranks};
use crate::sut::Deployment;
use crate::verdict::Observation;

/// The series of the buckets, up to the bound.
const BUCKET: &str = "agentry_executor_delay_seconds_bucket{le=\"";
/// A stall: the target of the criteria, in milliseconds, which is also a bound of the buckets.
const STALL_MS: f64 = 50.0;
const SOURCE: &str = "agentry_executor_delay_seconds of every process: how much later than asked a timer ran, looked at \
                      every 20 ms; the bound of the bucket in which the quantile lies";

/// Delays of executors by upper bound, each bound with the looks up to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Stalls {
    /// Microseconds to counts; `u64::MAX` for all.
    buckets: BTreeMap<u64, u64>,
}

impl Stalls {
    /// Reads the stalls of a deployment's processes since their start.
    pub async fn of(deployment: &Deployment) -> Self {
        let mut stalls = Self::default();
        stalls.add(deployment).await;
        stalls
    }

    /// Adds what the processes of another deployment have seen. A process that is gone has nothing to add.
    pub async fn add(&mut self, deployment: &Deployment) {
        for name in deployment.names() {
            let Ok(api) = deployment.api_of(&name) else { continue };
            self.read(&api.metrics().await.unwrap_or_default());
        }
    }

    fn read(&mut self, metrics: &Metrics) {
        for (bound, count) in metrics.starting_with(BUCKET) {
            let bound = bound.trim_end_matches("\"}");
            let micros = bound
                .parse::<f64>()
                .ok()
                .filter(|bound| bound.is_finite())
                .map_or(u64::MAX, |bound| (bound * 1e6).round() as u64);
            *self.buckets.entry(micros).or_default() += count as u64;
        }
    }

    /// Returns the stalls added since an earlier reading.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |bound| earlier.buckets.get(bound).copied().unwrap_or(0);
        let buckets = self.buckets.iter().map(|(bound, count)| (*bound, count.saturating_sub(before(bound))));
        Self { buckets: buckets.collect() }
    }

    /// Looks at the executors.
    pub fn looks(&self) -> u64 {
        self.buckets.get(&u64::MAX).copied().unwrap_or(0)
    }

    /// Looks that came later than a stall is.
    pub fn count(&self) -> u64 {
        let bound = (STALL_MS * 1e3) as u64;
        self.looks() - self.buckets.get(&bound).copied().unwrap_or_else(|| self.looks())
    }

    /// Just below the bound of the bucket in which a rank lies, in milliseconds, for a delay in it is at most the bound;
    /// the last bound for what is beyond it.
    fn at(&self, rank: u64) -> f64 {
        let bounded = || self.buckets.iter().filter(|(bound, _)| **bound != u64::MAX);
        let bucket = bounded().find(|(_, count)| **count >= rank).or_else(|| bounded().next_back());
        bucket.map_or(f64::NAN, |(bound, _)| number(*bound) / 1e3 * (1.0 - 1e-9))
    }

    /// The 99.9th percentile of the delay as a figure and as what was seen of a criterion.
    pub fn observe(&self, x: &mut Experiment<'_>, criterion: &'static str) {
        let seen = self.observation(0.999);
        x.cost("runtime.stall_p999", ("ms", "p99.9"), seen.value.unwrap_or(f64::NAN), seen.n, SOURCE);
        x.observe(criterion, seen.shown_by(&["runtime.stall_p999"]));
    }

    /// A quantile of the delay in milliseconds.
    fn observation(&self, q: f64) -> Observation {
        let n = self.looks();
        let ranks = order_ranks(n, q).filter(|_| enough(n, q));
        let ci95 = ranks.map(|(lower, upper)| [self.at(lower), self.at(upper.unwrap_or(n))]);
        Observation::exact(self.at((q * number(n)).ceil() as u64), n, SOURCE).ci(ci95)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(up_to_20: u64, up_to_50: u64, all: u64) -> Stalls {
        let mut stalls = Stalls::default();
        let text =
            format!("{BUCKET}0.02\"}} {up_to_20}\n{BUCKET}0.05\"}} {up_to_50}\n{BUCKET}+Inf\"}} {all}\nother 1\n");
        stalls.read(&Metrics::parse(&text));
        stalls
    }

    #[test]
    fn a_quantile_is_the_bound_of_its_bucket() {
        let stalls = seen(3_990, 4_000, 4_000);
        assert_eq!((stalls.count(), stalls.at(3_990).round(), stalls.at(3_991).round()), (0, 20.0, 50.0));
        let observed = stalls.observation(0.999);
        assert!(observed.ci95.is_some_and(|[low, high]| low < 50.0 && 49.9 < high && high < 50.0), "{observed:?}");
        assert_eq!(seen(100, 100, 100).observation(0.999).ci95, None, "2,995 looks are the least");
    }

    #[test]
    fn stalls_are_counted_since_a_look_and_over_processes() {
        let (before, after) = (seen(10, 10, 12), seen(3_000, 3_000, 3_010));
        assert_eq!(after.since(&before).count(), 8);
        assert!(after.observation(0.999).value.is_some_and(|value| value > 49.9), "beyond the last bound");
        let mut both = before.clone();
        both.read(&Metrics::parse(&format!("{BUCKET}0.05\"}} 5\n{BUCKET}+Inf\"}} 6\n")));
        assert_eq!(both.count(), 3);
    }
}
