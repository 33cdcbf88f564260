//! Plots from what was recorded.

use crate::load::Recording;
use crate::load::clock::SECOND;
use crate::model::{Axis, Mark, Plot, PlotKind, Point, Series};
use crate::run::{Driven, Lab};
use crate::sample::Part;

/// Points of a percentile plot.
const QUANTILES: usize = 60;

/// Latency by percentile, from the intended start and from the actual send.
#[must_use]
pub fn percentiles(id: &str, title: &str, seen: &Recording, target: Option<(f64, &str)>) -> Plot {
    let points = |histogram: &hdrhistogram::Histogram<u64>| -> Vec<Point> {
        let most = (histogram.len().max(2) as f64).log10();
        (0..=QUANTILES)
            .map(|step| 1.0 - 10_f64.powf(-most * step as f64 / QUANTILES as f64))
            .map(|quantile| [quantile, histogram.value_at_quantile(quantile) as f64 / 1_000.0])
            .collect()
    };
    let series = |name: &str, histogram: &hdrhistogram::Histogram<u64>| Series {
        n: Some(histogram.len()),
        ..Series::measured(name, points(histogram))
    };
    Plot {
        id: id.to_owned(),
        title: title.to_owned(),
        kind: PlotKind::Percentiles,
        x: Axis::new("percentile", ""),
        y: Axis { log: true, ..Axis::new("latency", "ms") },
        series: vec![series("from the intended start", &seen.latency), series("from the actual send", &seen.service)],
        bands: Vec::new(),
        marks: target.into_iter().map(|(y, label)| Mark { label: label.to_owned(), y }).collect(),
        summary: format!(
            "p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms of {} answers",
            seen.ms(0.5),
            seen.ms(0.95),
            seen.ms(0.99),
            seen.latency.len()
        ),
    }
}

/// Offered, completed and not completed per second; and p50, p95, p99 per second.
#[must_use]
pub fn over_time(lab: &Lab, id: &str, title: &str, seen: &Recording) -> [Plot; 2] {
    let start = lab.time(seen.began - seen.warm_up_seconds as u64 * SECOND);
    let at = |second: usize| start + second as f64 + 0.5;
    let counts = |of: fn(&crate::load::Second) -> u64| -> Vec<Point> {
        seen.seconds.iter().enumerate().map(|(second, seen)| [at(second), of(seen) as f64]).collect()
    };
    let quantile = |quantile: f64| -> Vec<Point> {
        let of = |(second, seen): (usize, &crate::load::Second)| Some([at(second), seen.at(quantile)?]);
        seen.seconds.iter().enumerate().filter_map(of).collect()
    };
    let rates = Plot {
        id: format!("{id}-rate"),
        title: format!("{title}: requests per second"),
        kind: PlotKind::Line,
        x: Axis::time(),
        y: Axis::new("requests", "1/s"),
        series: vec![
            Series::measured("offered", counts(|second| second.offered)),
            Series::measured("completed", counts(|second| second.ok)),
            Series::measured("refused or failed", counts(|second| second.refused + second.failed)),
        ],
        bands: Vec::new(),
        marks: Vec::new(),
        summary: format!("{} of {} arrivals completed", seen.ok, seen.offered),
    };
    let latency = Plot {
        id: format!("{id}-latency"),
        title: format!("{title}: latency over time"),
        kind: PlotKind::Line,
        x: Axis::time(),
        y: Axis { log: true, ..Axis::new("latency from the intended start", "ms") },
        series: [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)]
            .into_iter()
            .map(|(name, q)| Series::measured(name, quantile(q)))
            .collect(),
        bands: Vec::new(),
        marks: Vec::new(),
        summary: format!("the longest latency was {:.1} ms", seen.latency.max() as f64 / 1_000.0),
    };
    [rates, latency]
}

/// Who used the processors, over time.
#[must_use]
pub fn cpu<C>(lab: &Lab, id: &str, driven: &Driven<C>) -> Plot {
    let parts = [Part::Sut, Part::Postgres, Part::RabbitMq, Part::Redis, Part::Simulators, Part::Harness];
    let all = &driven.samples.all;
    // Half a second at a time: single samples are noise.
    let step = 5;
    let of = |part: Part| -> Vec<Point> {
        (step..all.len())
            .step_by(step)
            .map(|at| {
                let (before, now) = (&all[at - step], &all[at]);
                let used = |sample: &crate::sample::Sample| sample.parts.get(&part).map_or(0, |part| part.cpu);
                let cores = used(now).saturating_sub(used(before)) as f64 / (now.at - before.at).max(1) as f64;
                [lab.time(now.at), cores]
            })
            .collect()
    };
    let series: Vec<Series> = parts
        .into_iter()
        .map(|part| Series::measured(part.as_str(), of(part)))
        .filter(|series| series.points.iter().any(|point| point[1] > 0.0))
        .collect();
    Plot {
        id: format!("{id}-cpu"),
        title: "Processor time by process group".to_owned(),
        kind: PlotKind::Stack,
        x: Axis::time(),
        y: Axis::new("processors in use", ""),
        series,
        bands: Vec::new(),
        marks: vec![Mark {
            label: "all processors".to_owned(),
            y: std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get) as f64,
        }],
        summary: format!(
            "the machine was {:.0} % busy, {:.1} % of it for measuring",
            driven.ledger.busy * 100.0,
            driven.ledger.measuring() * 100.0
        ),
    }
}
