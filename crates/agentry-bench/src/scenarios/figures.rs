//! Figures for the report from what was recorded.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2Serializer};

use crate::load::Recording;
use crate::model::{Metric, SlowOperation, Test};
use crate::run::{Driven, Lab};
use crate::sample::Part;

/// A figure.
#[must_use]
pub fn metric(name: &str, unit: &str, stat: &str, value: f64, n: u64, source: &str) -> Metric {
    Metric {
        name: name.to_owned(),
        unit: unit.to_owned(),
        n,
        stat: stat.to_owned(),
        value: value.is_finite().then_some(value),
        ci95: None,
        hdr_b64: None,
        source: source.to_owned(),
        more_is_better: None,
    }
}

/// A figure of which less is better.
#[must_use]
pub fn cost(name: &str, unit: &str, stat: &str, value: f64, n: u64, source: &str) -> Metric {
    Metric { more_is_better: Some(false), ..metric(name, unit, stat, value, n, source) }
}

/// A figure of which more is better.
#[must_use]
pub fn gain(name: &str, unit: &str, stat: &str, value: f64, n: u64, source: &str) -> Metric {
    Metric { more_is_better: Some(true), ..metric(name, unit, stat, value, n, source) }
}

/// A histogram in the V2 format, base64.
#[must_use]
pub fn hdr(histogram: &Histogram<u64>) -> Option<String> {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(histogram, &mut bytes).ok()?;
    Some(BASE64_STANDARD.encode(bytes))
}

/// The least samples for an upper bound of a quantile at 95 %: 59 for p95, 299 for p99, 2,995 for p99.9.
#[must_use]
pub fn least_samples(quantile: f64) -> u64 {
    (0.05_f64.ln() / quantile.ln()).ceil() as u64
}

/// The 95 % interval of a quantile in milliseconds by order statistics: ranks of Binomial(n, q) at 2.5 and 97.5 %.
/// `None` when there are too few samples for its upper bound.
#[must_use]
pub fn quantile_ci(histogram: &Histogram<u64>, quantile: f64) -> Option<[f64; 2]> {
    let n = histogram.len();
    if n < least_samples(quantile) {
        return None;
    }
    let (low, high) = ranks(n, quantile);
    let at = |rank: u64| histogram.value_at_quantile((rank.clamp(1, n) as f64 - 0.5) / n as f64) as f64 / 1_000.0;
    Some([at(low), at(high)])
}

/// Ranks between which the quantile lies at 95 %.
fn ranks(n: u64, quantile: f64) -> (u64, u64) {
    // Beyond this the normal approximation differs by less than a rank in a thousand.
    const EXACT: u64 = 20_000;
    let (mean, deviation) = (n as f64 * quantile, (n as f64 * quantile * (1.0 - quantile)).sqrt());
    if n > EXACT {
        return ((mean - 1.96 * deviation).floor() as u64, (mean + 1.96 * deviation).ceil() as u64 + 1);
    }
    // The probability of k successes from the one before, in logarithms: nothing underflows.
    let mut log = n as f64 * (1.0 - quantile).ln();
    let (mut sum, mut low, odds) = (0.0, 0, (quantile / (1.0 - quantile)).ln());
    for k in 0..=n {
        sum += log.exp();
        if sum <= 0.025 {
            low = k;
        }
        if sum >= 0.975 {
            return (low + 1, k + 1);
        }
        log += ((n - k) as f64).ln() - ((k + 1) as f64).ln() + odds;
    }
    (low + 1, n)
}

/// Latencies of a histogram of microseconds as figures in milliseconds: mean, p50, p95, p99, max. Those that the number
/// of samples does not support have no value.
#[must_use]
pub fn latencies(name: &str, histogram: &Histogram<u64>, source: &str) -> Vec<Metric> {
    let n = histogram.len();
    let mut all = Vec::new();
    for (stat, quantile) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
        let value = histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        let ci95 = quantile_ci(histogram, quantile);
        let value = if ci95.is_some() { value } else { f64::NAN };
        all.push(Metric { ci95, ..cost(name, "ms", stat, value, n, source) });
    }
    let mean = if n == 0 { f64::NAN } else { histogram.mean() / 1_000.0 };
    let most = if n == 0 { f64::NAN } else { histogram.max() as f64 / 1_000.0 };
    all.push(cost(name, "ms", "mean", mean, n, source));
    all.push(Metric { hdr_b64: hdr(histogram), ..cost(name, "ms", "max", most, n, source) });
    all
}

/// What a load has to say about itself: rates, latencies from both moments, errors, lag, processor time for each answer.
pub fn of_load<C>(test: &mut Test, lab: &Lab, name: &str, driven: &Driven<C>) {
    let Driven { seen, ledger, .. } = driven;
    let seconds = seen.window.as_secs_f64();
    let by = "load generator";
    let rate = |count: u64| count as f64 / seconds;
    test.metrics.push(metric(&format!("{name}.offered"), "1/s", "rate", rate(seen.offered), seen.offered, by));
    test.metrics.push(gain(&format!("{name}.completed"), "1/s", "rate", rate(seen.ok), seen.ok, by));
    test.metrics.push(cost(&format!("{name}.refused"), "count", "count", seen.refused as f64, seen.offered, by));
    test.metrics.push(cost(&format!("{name}.failed"), "count", "count", seen.failed() as f64, seen.offered, by));
    test.metrics.extend(latencies(
        &format!("{name}.latency"),
        &seen.latency,
        "intended start to answer, load generator",
    ));
    test.metrics.extend(latencies(&format!("{name}.service"), &seen.service, "actual send to answer, load generator"));
    if !seen.lag.is_empty() {
        test.metrics.extend(latencies(&format!("{name}.lag"), &seen.lag, "actual minus intended send"));
    }
    for part in [Part::Sut, Part::Postgres, Part::RabbitMq, Part::Redis, Part::Simulators, Part::Harness] {
        let share = ledger.part(part);
        if share.nanos == 0 {
            continue;
        }
        let source = "schedstat of every thread";
        let part = part.as_str();
        if let Some(each) = ledger.ms_per(crate::sample::Part::Sut, seen.ok).filter(|_| part == "sut") {
            test.metrics.push(cost(&format!("{name}.cpu_per_task.{part}"), "ms", "mean", each, seen.ok, source));
        } else if seen.ok > 0 {
            let each = share.nanos as f64 / 1e6 / seen.ok as f64;
            test.metrics.push(cost(&format!("{name}.cpu_per_task.{part}"), "ms", "mean", each, seen.ok, source));
        }
        let value = share.machine * 100.0;
        test.metrics.push(cost(
            &format!("{name}.cpu.{part}"),
            "%",
            "share",
            value,
            driven.samples.all.len() as u64,
            source,
        ));
    }
    for (class, count) in &seen.failures {
        test.notes.push(format!("{name}: {count} × {class}"));
    }
    for (micros, number) in seen.slowest.iter().take(5) {
        test.slowest.push(SlowOperation {
            trace_id: trace(lab.seed, *number),
            what: format!("{name}, request {number}"),
            t: lab.time(seen.began),
            ms: Some(*micros as f64 / 1_000.0),
            error: None,
        });
    }
}

/// The trace id of a request of a run: 32 hex digits, never all zero.
#[must_use]
pub fn trace(seed: u64, number: u64) -> String {
    format!("{:016x}{:016x}", seed | 1, number + 1)
}

/// Completed per second in each whole 5-s window; the whole of a shorter load.
#[must_use]
pub fn windows(seen: &Recording) -> Vec<f64> {
    const WINDOW: usize = 5;
    let seconds = seen.measured_seconds();
    let whole = WINDOW.min(seconds.len().max(1));
    let chunks = seconds.chunks(whole).filter(|chunk| chunk.len() == whole);
    chunks.map(|chunk| chunk.iter().map(|second| second.ok).sum::<u64>() as f64 / chunk.len() as f64).collect()
}

/// The rule of "sustained": offered at target, at least 0.99 of the arrivals completed, every 5-s window at least 0.9 of
/// the target. The rate of the slowest window, and why it is not sustained.
#[must_use]
pub fn sustained(seen: &Recording, target: f64) -> (f64, Option<String>) {
    let rates = windows(seen);
    let slowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let offered = seen.offered as f64 / seen.window.as_secs_f64();
    let completed = seen.ok as f64 / (seen.offered.max(1)) as f64;
    let trouble = if offered < target {
        Some(format!("only {offered:.1}/s were offered"))
    } else if completed < 0.99 {
        Some(format!("only {:.2} % of the arrivals completed", completed * 100.0))
    } else if slowest < 0.9 * target {
        Some(format!("the slowest 5-s window had {slowest:.1}/s"))
    } else {
        None
    };
    (if slowest.is_finite() { slowest } else { 0.0 }, trouble)
}

/// The one-sided 95 % upper bound of a share: 1 − 0.05^(1/n) without an event, else Wilson's.
#[must_use]
pub fn share_upper(events: u64, n: u64) -> f64 {
    if n == 0 {
        return 1.0;
    }
    if events == 0 {
        return 1.0 - 0.05_f64.powf(1.0 / n as f64);
    }
    let (z, n, p) = (1.645, n as f64, events as f64 / n as f64);
    (p + z * z / (2.0 * n) + z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt()) / (1.0 + z * z / n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::histogram;

    #[test]
    fn sample_sizes_are_those_of_the_literature() {
        assert_eq!((least_samples(0.95), least_samples(0.99), least_samples(0.999)), (59, 299, 2_995));
    }

    #[test]
    fn ranks_of_a_median_are_those_of_the_binomial() {
        // Published: for n = 100 the 40th and 61st order statistics hold the median at 95 %.
        assert_eq!(ranks(100, 0.5), (40, 61));
        let (low, high) = ranks(300, 0.95);
        assert!((276..=279).contains(&low) && (292..=294).contains(&high), "{low} {high}");
        assert!(ranks(30_000, 0.95).0 < 28_500 && ranks(30_000, 0.95).1 > 28_500);
    }

    #[test]
    fn a_quantile_without_enough_samples_has_no_value() {
        let mut few = histogram();
        (1..=40).for_each(|ms| few.record(ms * 1_000).unwrap());
        let figures = latencies("x", &few, "test");
        let of = |stat: &str| figures.iter().find(|figure| figure.stat == stat).unwrap();
        assert_eq!((of("p95").value, of("p99").value), (None, None));
        assert!(of("p50").value.is_some() && of("max").hdr_b64.is_some());
    }
}
