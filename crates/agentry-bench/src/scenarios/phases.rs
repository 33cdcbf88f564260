//! What belongs to a phase alone: the baseline, the scale curve, stress beyond the limit, and the soak.

use std::time::Duration;

use serde_json::json;

use super::Found;
use super::callers::Tasks;
use super::figures::{self, cost, gain, metric};
use super::observe::Observation;
use super::plots;
use crate::load::{Load, Recording, clock};
use crate::model::{Axis, Plot, PlotKind, Role, Series, Test};
use crate::run::{Lab, Purpose, RunError};
use crate::sample::Part;
use crate::stats;
use crate::sut::{Deployment, Llm, Plan, fleet};

/// How long everything may take to end.
const DRAIN: Duration = Duration::from_secs(60);

/// Why a phase needs processes of its own.
fn only_own(lab: &Lab, test: &Test) -> Option<Found> {
    lab.url.is_some().then(|| Found {
        tests: vec![test.clone()],
        seen: crate::catalogue::CRITERIA
            .iter()
            .filter(|spec| spec.scenario == test.id)
            .map(|spec| Observation::not_run(spec.id, "needs processes of its own: leave out --url"))
            .collect(),
    })
}

/// One agent, one task at a time; the same twice, which shows the noise of the machine.
///
/// # Errors
/// When the platform does not start or the harness does not work.
pub async fn baseline(lab: &mut Lab) -> Result<Found, RunError> {
    let mut test = lab.test("phase-baseline", "One agent, one no-op task at a time, twice", "none");
    if let Some(found) = only_own(lab, &test) {
        return Ok(found);
    }
    let deployment = lab.deploy(Plan { agents: vec![fleet::noop()], ..Plan::default() }).await?;
    let (target, host) = lab.target(Some(&deployment))?;
    let mut medians = Vec::new();
    for name in ["baseline.a", "baseline.b"] {
        let load = Load::closed(target, 1, lab.seconds(2.0, 5.0, 60.0, 300.0));
        let driven =
            lab.drive(&mut test, load, Tasks::of(&host, &fleet::noop().0, lab.seed), Purpose::capacity()).await?;
        figures::of_load(&mut test, lab, name, &driven);
        test.plots.push(plots::percentiles(name, "One task at a time", &driven.seen, None));
        medians.push(driven.seen.ms(0.5));
    }
    let noise = (medians[1] / medians[0] - 1.0).abs() * 100.0;
    test.metrics.push(metric("baseline.noise", "%", "share", noise, 2, "difference of the medians of two equal runs"));
    test.metrics.push(cost(
        "baseline.pss",
        "MB",
        "mean",
        deployment.pss() as f64 / 1e6,
        1,
        "smaps_rollup after the load",
    ));
    Ok(Found { tests: vec![test], seen: Vec::new() })
}

/// Throughput over the number of workers (slots), and the Universal Scalability Law through it.
///
/// # Errors
/// When the platform does not start or the harness does not work.
pub async fn scale(lab: &mut Lab) -> Result<Found, RunError> {
    /// Milliseconds of a task: long enough that one worker is no bottleneck by itself.
    const TASK_MS: u32 = 10;
    let mut test = lab.test("phase-scale", "Closed loops over 1 to 32 workers, tasks of 10 ms", "instant");
    if let Some(found) = only_own(lab, &test) {
        return Ok(found);
    }
    let mut points = Vec::new();
    for workers in [1_usize, 2, 4, 8, 16, 32] {
        let plan = Plan {
            agents: vec![fleet::agent("bench-scale", "autonomous", "")],
            llm: Some(Llm::default()),
            flags: vec!["--slots".to_owned(), workers.to_string()],
            ..Plan::default()
        };
        let deployment = lab.deploy(plan).await?;
        let (target, host) = lab.target(Some(&deployment))?;
        let load = Load::closed(target, workers * 2, lab.seconds(2.0, 3.0, 60.0, 240.0));
        let caller = Tasks { ask: format!("[[sleep:{TASK_MS}]]"), ..Tasks::of(&host, "bench-scale", lab.seed) };
        let driven = lab.drive(&mut test, load, caller, Purpose::capacity()).await?;
        let rate = driven.seen.rate();
        test.metrics.push(gain(
            &format!("scale.{workers}"),
            "1/s",
            "rate",
            rate,
            driven.seen.ok,
            "closed loop, two callers a worker",
        ));
        points.push([workers as f64, rate]);
    }
    let best = points.iter().map(|point| point[1]).fold(0.0, f64::max);
    let last = points.last().map_or(0.0, |point| point[1]);
    let share = last / best.max(f64::MIN_POSITIVE) * 100.0;
    let n = points.len() as u64;
    let source = "throughput at 32 workers over the best of all sizes";
    let seen = vec![Observation::new("phase/usl", share, n, source).ci(Some([share, share])).shown_by(&["usl"])];
    test.plots.push(curve(lab, &mut test.metrics, &points));
    Ok(Found { tests: vec![test], seen })
}

fn curve(lab: &Lab, metrics: &mut Vec<crate::model::Metric>, points: &[[f64; 2]]) -> Plot {
    let n = points.len() as u64;
    let mut series = vec![Series::measured("measured", points.to_vec())];
    let mut summary = "too few points for a fit".to_owned();
    if let Some(fit) = stats::usl(points, lab.seed) {
        metrics.push(metric("scale.sigma", "", "slope", fit.sigma, n, "contention, Universal Scalability Law"));
        metrics.push(metric("scale.kappa", "", "slope", fit.kappa, n, "coherency, Universal Scalability Law"));
        let fitted = (1..=64).map(|n| [f64::from(n), fit.at(f64::from(n))]).collect();
        series.push(Series { role: Role::Fit, ..Series::measured("fit, up to twice the largest measured", fitted) });
        summary = format!("contention {:.3}, coherency {:.5}", fit.sigma, fit.kappa);
    }
    Plot {
        id: "usl".to_owned(),
        title: "Throughput over workers".to_owned(),
        kind: PlotKind::Scatter,
        x: Axis::new("workers", ""),
        y: Axis::new("tasks", "1/s"),
        series,
        bands: Vec::new(),
        marks: Vec::new(),
        summary,
    }
}

/// Steps up until it breaks, then twice that, then back.
///
/// # Errors
/// When the platform does not start or the harness does not work.
pub async fn stress(lab: &mut Lab) -> Result<Found, RunError> {
    /// Each step over the one before, and the latency beyond which it is broken.
    const STEP: f64 = 1.25;
    const SLO_MS: f64 = 500.0;
    /// Steps at most.
    const MAX_STEPS: usize = 25;
    let mut test = lab.test("phase-stress", "Steps of 1.25 until it breaks, then twice that rate, then back", "none");
    if let Some(found) = only_own(lab, &test) {
        return Ok(found);
    }
    // A queue of ten thousand makes refusal part of the picture on a machine of any size.
    let flags = vec!["--max-queued".to_owned(), "10000".to_owned()];
    let deployment = lab.deploy(Plan { agents: vec![fleet::noop()], flags, ..Plan::default() }).await?;
    let length = lab.seconds(2.0, 3.0, 30.0, 120.0);
    let (mut rate, mut peak, mut broke) = (500.0, 0.0_f64, None);
    let mut calm = f64::NAN;
    for _ in 0..MAX_STEPS {
        let seen = step(lab, &mut test, &deployment, rate, length).await?;
        if calm.is_nan() {
            calm = seen.ms(0.95);
        }
        peak = peak.max(seen.rate());
        let bad = (seen.failed() + seen.refused) as f64 / seen.offered.max(1) as f64;
        if bad > 0.01 || seen.ms(0.95) > SLO_MS || seen.capped > 0 {
            broke = Some(rate);
            break;
        }
        rate *= STEP;
    }
    let Some(broke) = broke else {
        let why = format!("it did not break up to {rate:.0} tasks/s");
        let all = ["phase/goodput", "phase/rejections", "phase/accepted", "phase/return"];
        return Ok(Found { tests: vec![test], seen: all.map(|id| Observation::not_run(id, why.clone())).to_vec() });
    };
    test.params.insert("broke_at".to_owned(), json!(broke));
    test.metrics.push(gain("stress.peak", "1/s", "rate", peak, 1, "the most completed per second of any step"));
    let over = step(lab, &mut test, &deployment, broke * 2.0, length * 2).await?;
    let ended = clock::now();
    let mut seen = Vec::new();
    let goodput = over.rate() / peak.max(f64::MIN_POSITIVE) * 100.0;
    let source = "completed per second at twice the breaking rate over the peak";
    seen.push(Observation::new("phase/goodput", goodput, over.offered, source).ci(Some([goodput, goodput])));
    if over.refused == 0 {
        seen.push(Observation::not_run("phase/rejections", "nothing was refused: the callers' own limit came first"));
    } else {
        let p99 = over.refusals.value_at_quantile(0.99) as f64 / 1_000.0;
        let source = "intended start to 429 or 503";
        seen.push(
            Observation::new("phase/rejections", p99, over.refused, source)
                .ci(figures::quantile_ci(&over.refusals, 0.99)),
        );
    }
    let drained = deployment.api()?.drained(DRAIN).await.is_ok();
    let source = "tasks that had not ended a minute after the overload";
    seen.push(Observation::new("phase/accepted", f64::from(u8::from(!drained)), over.ok, source));
    let mut back = f64::INFINITY;
    while clock::now() - ended < clock::nanos(DRAIN) {
        let after = step(lab, &mut test, &deployment, 500.0, Duration::from_secs(1)).await?;
        if after.ms(0.95) <= (calm * 2.0).max(calm + 5.0) {
            back = (clock::now() - ended) as f64 / 1e9;
            break;
        }
    }
    let source = "end of the overload to a second whose p95 is at most twice the calm one";
    seen.push(Observation::new("phase/return", back.min(DRAIN.as_secs_f64() + 1.0), 1, source));
    Ok(Found { tests: vec![test], seen })
}

async fn step(
    lab: &mut Lab,
    test: &mut Test,
    deployment: &Deployment,
    rate: f64,
    window: Duration,
) -> Result<Recording, RunError> {
    let (target, host) = lab.target(Some(deployment))?;
    let mut load = Load::open(target, rate, window, lab.seed_of("stress"));
    load.patience = Duration::from_secs(10);
    load.max_in_flight = 2_000;
    let driven = lab.drive(test, load, Tasks::of(&host, &fleet::noop().0, lab.seed), Purpose::capacity()).await?;
    let n = driven.seen.offered;
    let name = format!("stress.{rate:.0}");
    test.metrics.push(gain(&name, "1/s", "rate", driven.seen.rate(), n, "completed per second"));
    test.metrics.push(cost(&name, "ms", "p95", driven.seen.ms(0.95), n, "intended start to result"));
    test.metrics.push(cost(
        &format!("{name}.not_sent"),
        "count",
        "count",
        driven.seen.capped as f64,
        n,
        "beyond 2,000 in flight",
    ));
    test.plots.extend(plots::over_time(lab, &name, &format!("{rate:.0} tasks/s"), &driven.seen));
    Ok(driven.seen)
}

/// Steady load and probes; what grows.
///
/// # Errors
/// When the platform does not start or the harness does not work.
pub async fn soak(lab: &mut Lab) -> Result<Found, RunError> {
    let mut test = lab.test("phase-soak", "Steady load, probes of a whole task five times a second", "none");
    if let Some(found) = only_own(lab, &test) {
        return Ok(found);
    }
    let deployment = lab.deploy(Plan { agents: vec![fleet::noop()], ..Plan::default() }).await?;
    let (target, host) = lab.target(Some(&deployment))?;
    let window = lab.seconds(5.0, 45.0, 1_800.0, 86_400.0);
    // 80 % of what holds: a short look for the limit first.
    let load = Load::closed(target, 32, lab.seconds(1.0, 3.0, 20.0, 60.0));
    let limit = lab.drive(&mut test, load, Tasks::of(&host, &fleet::noop().0, lab.seed), Purpose::capacity()).await?;
    let rate = (limit.seen.rate() * 0.8).min(lab.by(500.0, 500.0, 2_000.0, 2_000.0));
    test.params.insert("rate".to_owned(), json!(rate));
    let began = clock::now();
    let steady = crate::load::start(
        Load::open(target, rate, window, lab.seed_of("soak")),
        Tasks::of(&host, &fleet::noop().0, lab.seed),
    )?;
    let probes = Load::open(target, 5.0, window, lab.seed_of("probes"));
    let driven = lab
        .drive(&mut test, probes, Tasks::of(&host, &fleet::noop().0, lab.seed + 1), Purpose::target(1_000.0))
        .await?;
    let (steady, _) = steady.end().await?;
    figures::of_load(&mut test, lab, "soak.probes", &driven);
    let samples = lab.sampler.between(began, clock::now());
    let of = |value: fn(&crate::sample::PartSample) -> f64| -> Vec<[f64; 2]> {
        let points =
            samples.all.iter().filter_map(|sample| Some([lab.time(sample.at), value(sample.parts.get(&Part::Sut)?)]));
        points.collect()
    };
    let pss = of(|part| part.memory.pss as f64 / 1e6);
    test.metrics.push(metric("soak.tasks", "count", "count", steady.ok as f64, steady.offered, "steady load"));
    if let Some(trend) = stats::theil_sen(&pss, lab.seed) {
        let daily = |slope: f64| slope * 86_400.0;
        let mut slope = cost(
            "soak.pss_slope",
            "MB/24h",
            "slope",
            daily(trend.slope),
            pss.len() as u64,
            "Theil–Sen of Pss, scaled to a day",
        );
        slope.ci95 = Some([daily(trend.ci95[0]), daily(trend.ci95[1])]);
        test.metrics.push(slope);
        test.notes
            .push(format!("a leak below {:.0} MB a day could not have been seen in this window", daily(trend.floor())));
    }
    // What the load itself holds open is none of the platform's: a pause makes it open more.
    let ours = (steady.peak_in_flight + driven.seen.peak_in_flight) as f64;
    let (threads, files) = (of(|part| part.threads as f64), of(|part| part.descriptors as f64));
    let mut growing = 0;
    for (what, points, beside) in [("threads", threads, 0.0), ("descriptors", files, ours)] {
        let (first, last) = quarters(&points);
        growing += u64::from(last > (first + beside) * 1.5 + 20.0);
        let source = format!("the most of the last quarter; of the first it was {first:.0}");
        test.metrics.push(cost(&format!("soak.{what}"), "count", "max", last, points.len() as u64, &source));
    }
    let source = "threads and file descriptors: the most of the last quarter half again over the first, \
                  beside the connections of the load";
    let n = samples.all.len() as u64;
    let mut seen = vec![Observation::new("phase/resources", growing as f64, n, source).shown_by(&["soak.descriptors"])];
    let probes = driven.seen.offered;
    let share = driven.seen.ok as f64 / probes.max(1) as f64 * 100.0;
    let low = stats::wilson(driven.seen.ok, probes)[0] * 100.0;
    let source = "probes of a whole task, five times a second, that completed; Wilson interval";
    seen.push(Observation::new("tier/uptime", share, probes, source).ci(Some([low, 100.0])));
    test.plots.push(Plot {
        id: "soak-memory".to_owned(),
        title: "Memory over time".to_owned(),
        kind: PlotKind::Line,
        x: Axis::time(),
        y: Axis::new("Pss", "MB"),
        series: vec![Series::measured("Pss", pss)],
        bands: Vec::new(),
        marks: Vec::new(),
        summary: format!("{} tasks at {rate:.0}/s", steady.ok),
    });
    Ok(Found { tests: vec![test], seen })
}

/// The most of the first quarter of points, and of the last.
fn quarters(points: &[[f64; 2]]) -> (f64, f64) {
    let quarter = points.len() / 4;
    let most = |points: &[[f64; 2]]| points.iter().map(|point| point[1]).fold(0.0, f64::max);
    (most(&points[..quarter]), most(&points[points.len() - quarter..]))
}
