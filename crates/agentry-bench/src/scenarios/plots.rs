//! Plots from what was recorded.

use crate::load::clock::SECOND;
use crate::load::{Recording, Second};
use crate::model::{Axis, Plot, PlotKind, Point, Series};
use crate::run::{Lab, LoadResult};
use crate::sample::{Part, Sample, processors};
use crate::stats::{Hist, percentile_points};

/// Latency by percentile, from the intended start and from the actual send.
pub(super) fn percentiles(id: &str, title: &str, seen: &Recording, target_ms: Option<f64>) -> Plot {
    let series = |name: &str, of: &Hist| Series { n: Some(of.len()), ..Series::measured(name, percentile_points(of)) };
    let plot = Plot::new(
        id,
        title,
        PlotKind::Percentiles,
        (Axis::new("percentile", ""), Axis::log("latency", "ms")),
        vec![series("from the intended start", &seen.latency), series("from the actual send", &seen.service)],
        format!(
            "p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms of {} answers",
            seen.ms(0.5),
            seen.ms(0.95),
            seen.ms(0.99),
            seen.latency.len()
        ),
    );
    target_ms.into_iter().fold(plot, |plot, ms| plot.mark(&format!("target {ms:.0} ms"), ms))
}

/// Offered, completed and not completed per second; and p50, p95, p99 per second.
pub(super) fn over_time(lab: &Lab, id: &str, title: &str, seen: &Recording) -> [Plot; 2] {
    let start = lab.time(seen.began - seen.warm_up_seconds as u64 * SECOND);
    let seconds = || seen.seconds.iter().enumerate().map(|(second, seen)| (start + second as f64 + 0.5, seen));
    let counts = |name: &str, of: fn(&Second) -> u64| {
        Series::measured(name, seconds().map(|(at, second)| [at, of(second) as f64]).collect())
    };
    let quantile = |(name, q): (&str, f64)| {
        Series::measured(name, seconds().filter_map(|(at, second)| Some([at, second.at(q)?])).collect())
    };
    let rates = Plot::new(
        format!("{id}-rate"),
        format!("{title}: requests per second"),
        PlotKind::Line,
        (Axis::time(), Axis::new("requests", "1/s")),
        vec![
            counts("offered", |second| second.offered),
            counts("completed", |second| second.ok),
            counts("refused or failed", |second| second.refused + second.failed),
        ],
        format!("{} of {} arrivals completed", seen.ok, seen.offered),
    );
    let latency = Plot::new(
        format!("{id}-latency"),
        format!("{title}: latency over time"),
        PlotKind::Line,
        (Axis::time(), Axis::log("latency from the intended start", "ms")),
        [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)].into_iter().map(quantile).collect(),
        format!("the longest latency was {:.1} ms", seen.latency.max() as f64 / 1_000.0),
    );
    [rates, latency]
}

/// Plots processor use by role over time.
pub(super) fn cpu<C>(lab: &Lab, id: &str, driven: &LoadResult<C>) -> Plot {
    // Half a second at a time: single samples are noise.
    const STEP: usize = 5;
    let all = &driven.samples.all;
    let of = |part: Part| -> Vec<Point> {
        let used = |sample: &Sample| sample.parts.get(&part).map_or(0, |part| part.cpu);
        let pairs = all.iter().step_by(STEP).zip(all.iter().step_by(STEP).skip(1));
        pairs
            .map(|(before, now)| {
                let cores = used(now).saturating_sub(used(before)) as f64 / (now.at - before.at).max(1) as f64;
                [lab.time(now.at), cores]
            })
            .collect()
    };
    let series = Part::ALL.into_iter().map(|part| Series::measured(part.as_str(), of(part)));
    let series = series.filter(|series| series.points.iter().any(|point| point[1] > 0.0));
    let (busy, measuring) = (driven.ledger.busy * 100.0, driven.ledger.measuring() * 100.0);
    Plot::new(
        format!("{id}-cpu"),
        "Processor time by process group",
        PlotKind::Stack,
        (Axis::time(), Axis::new("processors in use", "")),
        series.collect(),
        format!("the machine was {busy:.0} % busy, {measuring:.1} % of it for measuring"),
    )
    .mark("all processors", processors() as f64)
}
