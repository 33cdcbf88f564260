//! A report that looks like a real run on a cluster: every kind of plot, every verdict, faults, advice, a comparison. The
//! figures are synthetic, the same every time, and judged by the code that judges real ones.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{metric, report_with, test_with};
use crate::catalogue::{CRITERIA, SCENARIOS, criterion};
use crate::model::*;
use crate::stats::{Hist, encode, histogram, line, percentile_points, quantile_of, theil_sen, usl};
use crate::verdict::{Context, LoadKind, Observation, Policy, finish, judge, not_run};

const CI: Context<'static> = Context { profile: Profile::Ci, engine: Engine::Cluster, broken: None };

/// The report.
pub fn realistic() -> Report {
    let mut report = report_with(vec![]);
    report.run.engine = Engine::Cluster;
    report.run.argv = ["agentry", "bench", "run", "--profile", "ci", "--engine", "cluster"].map(str::to_owned).to_vec();
    report.fingerprint.servers = servers();
    report.fingerprint.seal();
    report.harness = harness();
    report.tests = SCENARIOS.iter().filter(|s| s.seconds(Profile::Ci) > 0).map(|s| scenario_test(s.id)).collect();
    report.faults = faults();
    report.safety = safety();
    report.baseline = Some(comparison());
    finish(&mut report, &Policy::default());
    report
}

fn servers() -> Vec<ServerFacts> {
    let facts = |name: &str, version: &str, settings: &[(&str, &str)]| ServerFacts {
        name: name.to_owned(),
        version: version.to_owned(),
        settings: settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    };
    vec![
        facts("postgresql", "15.8", &[("fsync", "on"), ("shared_buffers", "128MB"), ("synchronous_commit", "on")]),
        facts("rabbitmq", "3.10.8", &[("heartbeat", "10"), ("queue type", "classic, durable")]),
        facts("redis", "7.0.15", &[("appendfsync", "everysec"), ("maxmemory", "64mb")]),
    ]
}

fn rng(salt: u64) -> StdRng {
    StdRng::seed_from_u64(salt)
}

/// A latency histogram with a tail, in microseconds.
fn latency(median_ms: f64, n: u32, salt: u64) -> Hist {
    let (mut hist, mut rng) = (histogram(), rng(salt));
    for _ in 0..n {
        let normal: f64 = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        let tail = if rng.random::<f64>() < 0.004 { 6.0 } else { 1.0 };
        hist.record((median_ms * 1_000.0 * (0.45 * normal).exp() * tail).max(1.0) as u64).unwrap();
    }
    hist
}

fn scenario_test(id: &str) -> Test {
    let mut criteria: Vec<Criterion> =
        CRITERIA.iter().filter(|spec| spec.scenario == id).map(|spec| verdict_of(spec.id)).collect();
    criteria.sort_by_key(|c| c.tier);
    let mut test = test_with(criteria);
    test.id = id.to_owned();
    test.title = crate::catalogue::scenario(id).unwrap().title.to_owned();
    test.mode = "cluster".to_owned();
    test.windows = vec![
        Window { stage: Stage::Warmup, t0: 100.0, t1: 105.0 },
        Window { stage: Stage::Measure, t0: 105.0, t1: 160.0 },
    ];
    match id {
        "1.1-startup" => test.plots = vec![memory_over_agents("startup-memory", 3)],
        "1.2-modes" => test.metrics = vec![metric("worker.busy", "%", 96.2), metric("cpu.idle_elsewhere", "%", 31.0)],
        "1.3-scaling" => test.plots = vec![distribution()],
        "3.1-throughput" => bus(&mut test),
        "3.2-delivery" => test.plots = vec![through_faults()],
        "4.1-memory" => test.plots = vec![memory_over_agents("per-agent", 5), memory_over_time()],
        "4.2-cpu" => test.plots = vec![cpu_stack()],
        "6.1-slack" => slack(&mut test),
        "6.2-scheduler" => test.plots = vec![lateness()],
        "phase-scale" => test.plots = vec![scalability()],
        _ => {}
    }
    test
}

fn verdict_of(id: &str) -> Criterion {
    let spec = criterion(id).unwrap();
    let seen = match id {
        "1.2/errors" => Observation::new(0.21, [0.05, 0.62], 1_410, "witness: terminal states over arrivals"),
        "tier/throughput-500" => Observation::new(468.0, [431.0, 497.0], 7_020, "completions per 5-s window"),
        "3.1/delivery-p95" => Observation::new(8.4, [7.9, 9.1], 10_500, "handler entry minus intended send"),
        "5.2/no-degradation" => Observation::new(1.07, [0.98, 1.16], 600, "ratio of p95 at 10 over 1"),
        "2.2/stall" => Observation::none(1_840, "heartbeat task, 1 ms", "p99.9 needs 2,995"),
        "4.2/load" => {
            let broken = Context { broken: Some("harness and simulators took 46 % of the machine"), ..CI };
            return judge(spec, &Observation::new(61.0, [58.0, 64.0], 200, "cpuacct"), &broken);
        }
        "1.3/recovery" => return not_run(spec, "the pool has no supervisor of its own on this machine"),
        _ => fitting(spec),
    };
    judge(spec, &seen.shown_by(&["see the plots below"]), &CI)
}

/// An observation on the right side of the target.
fn fitting(spec: &crate::catalogue::CriterionSpec) -> Observation {
    use crate::catalogue::{Op, Rule};
    let value = match spec.op {
        Op::Lt | Op::Le | Op::Within => spec.target * 0.31,
        Op::Gt | Op::Ge => {
            spec.target + if spec.unit == "%" { (100.0 - spec.target) * 0.6 } else { spec.target * 0.08 }
        }
        Op::Eq => spec.target,
    };
    match spec.rule {
        Rule::ZeroEvents => Observation::exact(0.0, 5_212, "ledger of the harness against the simulators' logs"),
        Rule::EveryRun => Observation::exact(value, 20, "event stream, cross-checked with the platform's log"),
        _ => Observation::new(value, [value * 0.97, value * 1.02], 3_000, "witness"),
    }
}

fn per_second(from: f64, base: f64, swing: f64, salt: u64) -> Vec<Point> {
    let mut rng = rng(salt);
    (0..60).map(|s| [from + f64::from(s), base + swing * (rng.random::<f64>() - 0.5)]).collect()
}

fn bus(test: &mut Test) {
    let (intended, service) = (latency(3.1, 10_500, 1), latency(2.6, 10_500, 2));
    let p95 = quantile_of(&intended, 0.95).unwrap();
    test.params.insert("payload".to_owned(), "1 KiB".into());
    test.params.insert("rate".to_owned(), "210/s".into());
    test.metrics = vec![
        Metric {
            stat: "p95".to_owned(),
            n: p95.n,
            value: Some(p95.value),
            ci95: Some(p95.ci95),
            hdr_b64: Some(encode(&intended).unwrap()),
            ..metric("bus.delivery", "ms", 0.0)
        },
        metric("bus.confirm", "ms", 4.2),
        Metric { value: None, n: 812, stat: "p99.9".to_owned(), ..metric("bus.oldest", "s", 0.0) },
    ];
    let percentiles =
        |name: &str, hist: &Hist| Series { n: Some(hist.len()), ..Series::measured(name, percentile_points(hist)) };
    let mut hdr = Plot::new(
        "delivery",
        "Delivery latency by percentile.",
        PlotKind::Percentiles,
        (Axis::new("percentile", ""), Axis::log("latency", "ms")),
        vec![percentiles("from the intended send", &intended), percentiles("from the actual send", &service)],
        "The two lines stay together: nothing waited before it was sent.",
    );
    hdr = hdr.mark("target p95 < 100 ms", 100.0);
    let rates = Plot::new(
        "rates",
        "Messages per second.",
        PlotKind::Line,
        (Axis::time(), Axis::new("messages", "1/s")),
        vec![
            Series::measured("offered", per_second(100.0, 210.0, 12.0, 3)),
            Series::measured("confirmed", per_second(100.0, 209.0, 20.0, 4)),
            Series::measured("consumed", per_second(100.0, 208.0, 28.0, 5)),
        ],
        "Consumed follows offered.",
    );
    let quantiles = Plot::new(
        "quantiles",
        "Delivery latency per second.",
        PlotKind::Line,
        (Axis::time(), Axis::new("latency", "ms")),
        vec![
            Series::measured("p50", per_second(100.0, 3.1, 0.6, 6)),
            Series::measured("p95", per_second(100.0, 8.2, 2.4, 7)),
            Series::measured("p99", per_second(100.0, 15.0, 9.0, 8)),
        ],
        "Flat after the warm-up.",
    );
    let depth = Plot::new(
        "depth",
        "Queue depth.",
        PlotKind::Line,
        (Axis::time(), Axis::new("messages", "")),
        vec![
            Series::measured("ready", per_second(100.0, 2.0, 3.9, 9)),
            Series::measured("unacknowledged", per_second(100.0, 6.0, 5.0, 10)),
        ],
        "No slope: what comes in goes out.",
    );
    test.plots = vec![hdr, rates, quantiles, depth];
}

fn slack(test: &mut Test) {
    let hist = latency(1_450.0, 75, 11);
    let series = Series { n: Some(hist.len()), ..Series::measured("event to answer", percentile_points(&hist)) };
    let mut percentiles = Plot::new(
        "answer",
        "Event to answer by percentile.",
        PlotKind::Percentiles,
        (Axis::new("percentile", ""), Axis::new("latency", "ms")),
        vec![series],
        "75 events: p95 is the highest percentile they support.",
    );
    percentiles = percentiles.mark("target p95 < 3,000 ms", 3_000.0);
    test.plots = vec![percentiles];
    test.slowest = vec![SlowOperation {
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
        what: "simple query".to_owned(),
        t: 131.2,
        ms: Some(2_710.0),
        error: None,
    }];
}

fn memory_over_agents(id: &str, reps: u32) -> Plot {
    let mut rng = rng(u64::from(reps));
    let agents = [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0];
    let points: Vec<Point> = agents
        .iter()
        .flat_map(|n| (0..reps).map(move |_| *n))
        .map(|n| [n, 21.4 + 0.034 * n + 0.25 * (rng.random::<f64>() - 0.5)])
        .collect();
    let fitted = line(&points).unwrap();
    let mut plot = Plot::new(
        id,
        "Memory over agents.",
        PlotKind::Scatter,
        (Axis::new("agents", ""), Axis::new("Pss", "MB")),
        vec![
            Series::measured("measured", points.clone()),
            Series::of("line", Role::Fit, agents.map(|n| [n, fitted.at(n).0]).to_vec()),
            Series::of(
                "residuals, MB",
                Role::Residual,
                points.iter().map(|[n, y]| [*n, y - fitted.at(*n).0]).collect(),
            ),
        ],
        "A straight line: each agent adds the same.",
    );
    let band = agents.map(|n| {
        let (_, [low, high]) = fitted.at(n);
        [n, low, high]
    });
    plot.bands.push(Band { name: "95 % of the line".to_owned(), points: band.to_vec() });
    plot
}

fn memory_over_time() -> Plot {
    let mut rng = rng(21);
    let points: Vec<Point> =
        (0..240).map(|s| [100.0 + f64::from(s) / 4.0, 24.1 + 0.5 * (rng.random::<f64>() - 0.5)]).collect();
    let trend = theil_sen(&points, 1).unwrap();
    let ends = [100.0, 160.0];
    let mut plot = Plot::new(
        "leak",
        "Memory over time.",
        PlotKind::Scatter,
        (Axis::time(), Axis::new("live heap", "MB")),
        vec![
            Series::measured("heap", points),
            Series::of("Theil–Sen", Role::Fit, ends.map(|x| [x, trend.at(x)]).to_vec()),
        ],
        "No leak above the floor of this short run, ±1 GB in 24 h.",
    );
    let band = ends.map(|x| [x, trend.intercept + trend.ci95[0] * x, trend.intercept + trend.ci95[1] * x]);
    let around = |x: f64, from: [f64; 3]| {
        let y = trend.at(130.0);
        [x, y + (from[1] - trend.intercept) / x * (x - 130.0), y + (from[2] - trend.intercept) / x * (x - 130.0)]
    };
    plot.bands.push(Band {
        name: "95 % of the slope".to_owned(),
        points: ends.iter().zip(band).map(|(x, b)| around(*x, b)).collect(),
    });
    plot
}

fn distribution() -> Plot {
    let done = [604.0, 588.0, 611.0, 597.0, 600.0];
    let mut axis = Axis::new("instance", "");
    axis.names = (1..=5).map(|i| format!("worker {i}")).collect();
    let points = done.iter().enumerate().map(|(at, n)| [at as f64, *n]).collect();
    let mut plot = Plot::new(
        "distribution",
        "Tasks by instance.",
        PlotKind::Bars,
        (axis, Axis::new("tasks", "")),
        vec![Series::measured("tasks", points)],
        "Every instance within 2 % of the mean.",
    );
    plot.bands.push(Band { name: "±10 %".to_owned(), points: vec![[-0.6, 540.0, 660.0], [4.6, 540.0, 660.0]] });
    plot
}

fn cpu_stack() -> Plot {
    let groups = [("agentry", 31.0), ("postgresql", 14.0), ("rabbitmq", 9.0), ("harness", 6.0), ("simulators", 4.0)];
    let series = groups
        .iter()
        .enumerate()
        .map(|(at, (name, base))| Series::measured(name, per_second(100.0, *base, 4.0, 30 + at as u64)));
    Plot::new(
        "cpu",
        "Processor use by group.",
        PlotKind::Stack,
        (Axis::time(), Axis::new("share of the machine", "%")),
        series.collect(),
        "The platform takes half of what is used.",
    )
}

fn lateness() -> Plot {
    let mut rng = rng(40);
    let points = (0..400).map(|i| [100.0 + f64::from(i) * 0.15, 0.4 + 3.0 * rng.random::<f64>().powi(4)]).collect();
    Plot::new(
        "lateness",
        "Lateness of every slot.",
        PlotKind::Scatter,
        (Axis::time(), Axis::new("lateness", "ms")),
        vec![Series::measured("slot", points)],
        "All late by under 4 ms, none early.",
    )
}

fn scalability() -> Plot {
    let truth = |n: f64| 420.0 * n / (1.0 + 0.09 * (n - 1.0) + 0.004 * n * (n - 1.0));
    let mut rng = rng(50);
    let points: Vec<Point> =
        [1.0, 2.0, 4.0, 8.0, 16.0, 32.0].map(|n| [n, truth(n) * (0.97 + 0.06 * rng.random::<f64>())]).to_vec();
    let fitted = usl(&points, 1).unwrap();
    let curve = (1..=64).map(f64::from).map(|n| [n, fitted.at(n)]).collect();
    Plot::new(
        "usl",
        "Throughput over workers.",
        PlotKind::Scatter,
        (Axis::new("workers", ""), Axis::new("tasks", "1/s")),
        vec![Series::measured("measured", points), Series::of("Universal Scalability Law", Role::Fit, curve)],
        "The knee lies at 15 workers; on 2 cores it is the knee of the box.",
    )
}

fn through_faults() -> Plot {
    let points = |salt: u64, base: f64| -> Vec<Point> {
        let down = |t: f64| (300.0..306.0).contains(&t) || (330.0..332.0).contains(&t);
        per_second(290.0, base, 14.0, salt).into_iter().map(|[t, y]| [t, if down(t) { 4.0 } else { y }]).collect()
    };
    Plot::new(
        "through-faults",
        "Throughput through the faults.",
        PlotKind::Line,
        (Axis::time(), Axis::new("tasks", "1/s")),
        vec![Series::measured("accepted", points(60, 101.0)), Series::measured("completed", points(61, 100.0))],
        "Work stops with the broker and is back within seconds.",
    )
}

fn faults() -> Vec<Fault> {
    let fault = |id: &str,
                 kind: &str,
                 target: &str,
                 at: f64,
                 heal: Option<f64>,
                 recovered: f64,
                 effective: bool,
                 proof: &str| Fault {
        id: id.to_owned(),
        kind: kind.to_owned(),
        test: "3.2-delivery".to_owned(),
        target: target.to_owned(),
        t_inject: at,
        t_effect: effective.then_some(at + 0.2),
        t_heal: heal,
        t_recovered: Some(recovered),
        effective,
        proof: proof.to_owned(),
    };
    vec![
        fault("F1", "N3-broker-restart", "rabbitmq", 300.0, Some(305.4), 306.8, true, "8 connections dropped"),
        fault("F2", "N1-kill", "worker 2", 330.0, None, 331.6, true, "4 tasks owned by the victim"),
        fault(
            "F3",
            "N7-partition",
            "worker 1 → amqp",
            340.0,
            Some(345.0),
            345.9,
            false,
            "no bytes were held: the link was idle",
        ),
    ]
}

fn safety() -> Vec<Invariant> {
    let invariant = |id: &str, text: &str, valid: Option<bool>, counts: &[(&str, u64)]| Invariant {
        invariant: id.to_owned(),
        text: text.to_owned(),
        test: "3.2-delivery".to_owned(),
        valid,
        counts: counts.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
        examples: vec![],
    };
    vec![
        invariant(
            "I1",
            "every accepted task reaches exactly one terminal state",
            Some(true),
            &[("accepted", 5_212), ("terminal", 5_212)],
        ),
        invariant(
            "I2",
            "no result lost after the acknowledgement; effect exactly once",
            Some(true),
            &[("acked", 5_212), ("lost", 0), ("duplicated", 0)],
        ),
        invariant("I8", "one live owner for a lease", None, &[]),
    ]
}

fn harness() -> Harness {
    let lag = per_second(100.0, 0.11, 0.1, 70);
    let mut plot = Plot::new(
        "lag",
        "Schedule lag, p99 per second.",
        PlotKind::Line,
        (Axis::time(), Axis::new("lag", "ms")),
        vec![Series::measured("lag p99", lag)],
        "Sends start on time.",
    );
    plot = plot.mark("limit 5 ms", 5.0);
    let share = |group: &str, seconds: f64| CpuShare { group: group.to_owned(), seconds, share: seconds / 1_808.0 };
    Harness {
        lag_p99_ms: Some(0.16),
        cpu_share: Some(0.19),
        steal: Some(0.002),
        floor_p99_ms: Some(0.31),
        gates: vec![
            crate::verdict::schedule_lag(0.16, 100.0),
            Gate { test: Some("4.2-cpu".to_owned()), ..crate::verdict::harness_cpu(0.46, LoadKind::AtTarget) },
            crate::verdict::steal(0.002),
            crate::verdict::fault_proof(3, 2),
        ],
        cpu: vec![
            share("agentry", 402.0),
            share("postgresql", 188.0),
            share("rabbitmq", 140.0),
            share("harness", 240.0),
            share("simulators", 101.0),
        ],
        plots: vec![plot],
        notes: vec!["PSI is not available on this kernel.".to_owned()],
        ..Harness::default()
    }
}

fn comparison() -> Baseline {
    let row = |metric: &str, before: f64, after: f64, p: f64, verdict: Change| BaselineRow {
        metric: metric.to_owned(),
        unit: "ms".to_owned(),
        before,
        after,
        delta: after / before - 1.0,
        ci95: Some([after / before - 1.04, after / before - 0.96]),
        p_holm: Some(p),
        noise: 0.05,
        verdict,
    };
    Baseline {
        reference: "main, 10 runs".to_owned(),
        runs: [10, 10],
        rows: vec![
            row("3.1-throughput/bus.delivery p95", 8.1, 8.3, 0.6, Change::Same),
            row("6.1-slack/slack.answer p95", 1_900.0, 1_620.0, 0.004, Change::Improvement),
        ],
        notes: vec![],
    }
}
