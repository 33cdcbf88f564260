//! Scenarios of one phase alone: the baseline, the scale curve, stress beyond the limit, and the soak.

use std::time::Duration;

use serde_json::json;

use super::callers::TaskCaller;
use super::experiment::{Experiment, cost, of_quantile, once};
use super::loads::{Drawing, LoadRow, Rate};
use super::plots;
use crate::load::{Load, Recording, clock};
use crate::model::{Axis, Metric, Plot, PlotKind, Point, Role, Series};
use crate::run::{Purpose, RunError};
use crate::sample::{Part, PartSample};
use crate::stats::{theil_sen, usl, wilson};
use crate::sut::{Deployment, Llm, Plan, fleet};
use crate::verdict::Observation;

/// Longest wait for the end of all tasks.
const DRAIN: Duration = Duration::from_secs(60);

const fn alone(name: &'static str) -> LoadRow {
    LoadRow::new(name, Rate::Callers(1), [2.0, 5.0, 60.0, 300.0]).draws(&[Drawing::Percentiles])
}

/// 80 % of what holds: a short look for the limit first.
const LIMIT: LoadRow = LoadRow::new("soak.limit", Rate::Callers(32), [1.0, 3.0, 20.0, 60.0]);
const PROBES: LoadRow = LoadRow::new("soak.probes", Rate::Random(5.0), [5.0, 45.0, 1_800.0, 86_400.0]).target(1_000.0);

fn noop(host: &str, seed: u64) -> TaskCaller {
    TaskCaller::of(host, &fleet::noop().0, seed)
}

/// One agent, one task at a time; the same twice, which shows the noise of the machine.
pub(super) async fn baseline(x: &mut Experiment<'_>) -> Result<(), RunError> {
    let deployment = x.deploy(Plan { agents: vec![fleet::noop()], ..Plan::default() }).await?;
    let mut medians = Vec::new();
    for name in ["baseline.a", "baseline.b"] {
        medians.push(x.drive(&alone(name), &deployment, noop).await?.seen.ms(0.5));
    }
    let noise = (medians[1] / medians[0] - 1.0).abs() * 100.0;
    x.figure("baseline.noise", ("%", "share"), noise, 2, "difference of the medians of two equal runs");
    let pss = deployment.pss() as f64 / 1e6;
    x.cost("baseline.pss", ("MB", "mean"), pss, 1, "smaps_rollup after the load");
    Ok(())
}

/// Throughput over the number of workers (slots), and the Universal Scalability Law through it.
pub(super) async fn scale(x: &mut Experiment<'_>) -> Result<(), RunError> {
    /// Question: long enough that one worker is no bottleneck by itself.
    const ASK: &str = "[[sleep:10]]";
    let mut points = Vec::new();
    for workers in [1_usize, 2, 4, 8, 16, 32] {
        let plan = Plan {
            agents: vec![fleet::agent("bench-scale", "autonomous", "")],
            llm: Some(Llm::default()),
            flags: vec!["--slots".to_owned(), workers.to_string()],
            ..Plan::default()
        };
        let deployment = x.deploy(plan).await?;
        let row = LoadRow::new("scale", Rate::Callers(workers * 2), [2.0, 3.0, 60.0, 240.0]);
        let (load, host) = x.load_of(&row, Some(&deployment))?;
        let caller = TaskCaller { ask: ASK.to_owned(), ..TaskCaller::of(&host, "bench-scale", x.lab.seed) };
        let driven = x.lab.drive(&mut x.test, load, caller, Purpose::capacity()).await?;
        let (rate, n) = (driven.seen.rate(), driven.seen.ok);
        x.benefit(&format!("scale.{workers}"), ("1/s", "rate"), rate, n, "closed loop, two callers a worker");
        points.push([workers as f64, rate]);
    }
    let best = points.iter().map(|point| point[1]).fold(0.0, f64::max);
    let share = points.last().map_or(0.0, |point| point[1]) / best.max(f64::MIN_POSITIVE) * 100.0;
    let source = "throughput at 32 workers over the best of all sizes";
    x.observe("phase/usl", once(share, points.len() as u64, source).shown_by(&["usl"]));
    curve(x, points);
    Ok(())
}

fn curve(x: &mut Experiment<'_>, points: Vec<Point>) {
    let n = points.len() as u64;
    let fit = usl(&points);
    let mut series = vec![Series::measured("measured", points)];
    let mut summary = "too few points for a fit".to_owned();
    if let Some(fit) = fit {
        x.figure("scale.sigma", ("", "slope"), fit.sigma, n, "contention, Universal Scalability Law");
        x.figure("scale.kappa", ("", "slope"), fit.kappa, n, "coherency, Universal Scalability Law");
        let fitted = (1..=64).map(|n| [f64::from(n), fit.at(f64::from(n))]).collect();
        series.push(Series::of("fit, up to twice the largest measured", Role::Fit, fitted));
        summary = format!("contention {:.3}, coherency {:.5}", fit.sigma, fit.kappa);
    }
    let axes = (Axis::new("workers", ""), Axis::new("tasks", "1/s"));
    x.plot(Plot::new("usl", "Throughput over workers", PlotKind::Scatter, axes, series, summary));
}

/// Steps up until it breaks, then twice that, then back.
pub(super) async fn stress(x: &mut Experiment<'_>) -> Result<(), RunError> {
    // A queue of ten thousand makes refusal part of the picture on a machine of any size.
    let flags = vec!["--max-queued".to_owned(), "10000".to_owned()];
    let deployment = x.deploy(Plan { agents: vec![fleet::noop()], flags, ..Plan::default() }).await?;
    let length = x.seconds([2.0, 3.0, 30.0, 120.0]);
    let climb = climb(x, &deployment, length).await?;
    let Some(broke) = climb.broke else {
        let why = format!("it did not break up to {:.0} tasks/s", climb.last);
        x.not_run(&["phase/goodput", "phase/rejections", "phase/accepted", "phase/return"], &why);
        return Ok(());
    };
    x.test.params.insert("broke_at".to_owned(), json!(broke));
    x.benefit("stress.peak", ("1/s", "rate"), climb.peak, 1, "the most completed per second of any step");
    let over = step(x, &deployment, broke * 2.0, length * 2).await?;
    let ended = clock::now();
    let goodput = over.rate() / climb.peak.max(f64::MIN_POSITIVE) * 100.0;
    let source = "completed per second at twice the breaking rate over the peak";
    x.observe("phase/goodput", once(goodput, over.offered, source));
    if over.refused == 0 {
        x.not_run(&["phase/rejections"], "nothing was refused: the callers' own limit came first");
    } else {
        x.observe("phase/rejections", of_quantile(&over.refusals, 0.99, "intended start to 429 or 503"));
    }
    let drained = deployment.api()?.drained(DRAIN).await.is_ok();
    let source = "tasks that had not ended a minute after the overload";
    x.observe("phase/accepted", Observation::exact(f64::from(u8::from(!drained)), over.ok, source));
    let mut back = DRAIN.as_secs_f64() + 1.0;
    while clock::now() - ended < clock::nanos(DRAIN) {
        let after = step(x, &deployment, FIRST_STEP, Duration::from_secs(1)).await?;
        if after.ms(0.95) <= (climb.calm * 2.0).max(climb.calm + 5.0) {
            back = back.min((clock::now() - ended) as f64 / 1e9);
            break;
        }
    }
    let source = "end of the overload to a second whose p95 is at most twice the calm one";
    x.observe("phase/return", Observation::exact(back, 1, source));
    Ok(())
}

/// Result of the steps up to the breaking rate.
struct Climb {
    /// p95 of the first step, in milliseconds.
    calm: f64,
    /// The most completed per second.
    peak: f64,
    /// The rate at which it broke.
    broke: Option<f64>,
    /// The rate of the step that would have come next.
    last: f64,
}

/// Tasks per second of the first step.
const FIRST_STEP: f64 = 500.0;

async fn climb(x: &mut Experiment<'_>, deployment: &Deployment, length: Duration) -> Result<Climb, RunError> {
    /// Each step over the one before, and the latency beyond which it is broken.
    const STEP: f64 = 1.25;
    const SLO_MS: f64 = 500.0;
    const MAX_STEPS: usize = 25;
    let mut climb = Climb { calm: f64::NAN, peak: 0.0, broke: None, last: FIRST_STEP };
    for _ in 0..MAX_STEPS {
        let seen = step(x, deployment, climb.last, length).await?;
        if climb.calm.is_nan() {
            climb.calm = seen.ms(0.95);
        }
        climb.peak = climb.peak.max(seen.rate());
        let bad = (seen.failed() + seen.refused) as f64 / seen.offered.max(1) as f64;
        if bad > 0.01 || seen.ms(0.95) > SLO_MS || seen.capped > 0 {
            climb.broke = Some(climb.last);
            break;
        }
        climb.last *= STEP;
    }
    Ok(climb)
}

async fn step(
    x: &mut Experiment<'_>,
    deployment: &Deployment,
    rate: f64,
    window: Duration,
) -> Result<Recording, RunError> {
    let (target, host) = x.lab.target(Some(deployment))?;
    let mut load = Load::open(target, rate, window, x.lab.seed_of("stress"));
    (load.patience, load.max_in_flight) = (Duration::from_secs(10), 2_000);
    let caller = noop(&host, x.lab.seed);
    let driven = x.lab.drive(&mut x.test, load, caller, Purpose::capacity()).await?;
    let (name, n) = (format!("stress.{rate:.0}"), driven.seen.offered);
    x.benefit(&name, ("1/s", "rate"), driven.seen.rate(), n, "completed per second");
    x.cost(&name, ("ms", "p95"), driven.seen.ms(0.95), n, "intended start to result");
    x.counts(&name, &[("not_sent", driven.seen.capped)], n, "beyond 2,000 in flight");
    x.test.plots.extend(plots::over_time(x.lab, &name, &format!("{rate:.0} tasks/s"), &driven.seen));
    Ok(driven.seen)
}

/// Steady load and probes; what grows.
pub(super) async fn soak(x: &mut Experiment<'_>) -> Result<(), RunError> {
    let deployment = x.deploy(Plan { agents: vec![fleet::noop()], ..Plan::default() }).await?;
    let limit = x.drive(&LIMIT, &deployment, noop).await?;
    let rate = (limit.seen.rate() * 0.8).min(x.by([500.0, 500.0, 2_000.0, 2_000.0]));
    x.test.params.insert("rate".to_owned(), json!(rate));
    let began = clock::now();
    let (target, host) = x.lab.target(Some(&deployment))?;
    let steady = Load::open(target, rate, x.seconds(PROBES.seconds), x.lab.seed_of("soak"));
    let steady = crate::load::start(steady, noop(&host, x.lab.seed))?;
    let probes = x.drive(&PROBES, &deployment, |host, seed| noop(host, seed + 1)).await?.seen;
    let (steady, _) = steady.end().await?;
    x.figure("soak.tasks", ("count", "count"), steady.ok as f64, steady.offered, "steady load");
    let samples = x.lab.sampler.between(began, clock::now());
    let of = |value: fn(&PartSample) -> f64| -> Vec<Point> {
        let sut = samples.all.iter().filter_map(|sample| Some((sample.at, sample.parts.get(&Part::Sut)?)));
        sut.map(|(at, part)| [x.lab.time(at), value(part)]).collect()
    };
    let (pss, threads, files) =
        (of(|part| part.pss as f64 / 1e6), of(|part| part.threads as f64), of(|part| part.descriptors as f64));
    // What the load itself holds open is none of the platform's: a pause makes it open more.
    let ours = (steady.peak_in_flight + probes.peak_in_flight) as f64;
    let mut growing = 0;
    for (what, points, beside) in [("threads", threads, 0.0), ("descriptors", files, ours)] {
        let (first, last) = quarters(&points);
        growing += u64::from(last > (first + beside) * 1.5 + 20.0);
        let source = format!("the most of the last quarter; of the first it was {first:.0}");
        x.cost(&format!("soak.{what}"), ("count", "max"), last, points.len() as u64, &source);
    }
    let source = "threads and file descriptors: the most of the last quarter half again over the first, \
                  beside the connections of the load";
    let seen = Observation::exact(growing as f64, samples.all.len() as u64, source);
    x.observe("phase/resources", seen.shown_by(&["soak.descriptors"]));
    let share = probes.ok as f64 / probes.offered.max(1) as f64 * 100.0;
    let low = wilson(probes.ok, probes.offered)[0] * 100.0;
    let source = "probes of a whole task, five times a second, that completed; Wilson interval";
    x.observe("tier/uptime", Observation::new(share, [low, 100.0], probes.offered, source));
    memory(x, pss, format!("{} tasks at {rate:.0}/s", steady.ok));
    Ok(())
}

/// Observes whether memory grew, and the least growth that would have been seen.
fn memory(x: &mut Experiment<'_>, pss: Vec<Point>, summary: String) {
    let daily = |slope: f64| slope * 86_400.0;
    if let Some(trend) = theil_sen(&pss, x.lab.seed) {
        let source = "Theil–Sen of Pss, scaled to a day";
        let slope = cost("soak.pss_slope", ("MB/24h", "slope"), daily(trend.slope), pss.len() as u64, source);
        x.test.metrics.push(Metric { ci95: Some(trend.ci95.map(daily)), ..slope });
        let floor = daily(trend.floor());
        x.note(format!("a leak below {floor:.0} MB a day could not have been seen in this window"));
    }
    let axes = (Axis::time(), Axis::new("Pss", "MB"));
    let series = vec![Series::measured("Pss", pss)];
    x.plot(Plot::new("soak-memory", "Memory over time", PlotKind::Line, axes, series, summary));
}

/// The most of the first quarter of points, and of the last.
fn quarters(points: &[[f64; 2]]) -> (f64, f64) {
    let quarter = points.len() / 4;
    let most = |points: &[[f64; 2]]| points.iter().map(|point| point[1]).fold(0.0, f64::max);
    (most(&points[..quarter]), most(&points[points.len() - quarter..]))
}
