//! 1.3 Horizontal scaling: a pool of worker processes, 1 to 5 to 2, and one of them killed.
//!
//! Each task takes as long as the simulator makes it. Who ended it is read from the store's own rows.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::Found;
use super::figures::{cost, metric};
use super::observe::Observation;
use crate::load::clock;
use crate::model::{Axis, Band, Engine, Plot, PlotKind, Series, Stage, Test, Window};
use crate::run::{Lab, RunError};
use crate::sut::{Deployment, Llm, Member, Plan, SutError, fleet};

/// Workers at the most.
const WORKERS: usize = 5;
/// Tasks that a worker executes at once: none hoards.
const SLOTS: &str = "4";
/// The literal hundred tasks, and how long each takes; and the many, with which evenness is no chance.
const FEW: (usize, u32) = (100, 200);
const MANY: (usize, u32) = (3_000, 20);
const AGENT: &str = "bench-pool";
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Scales up, spreads tasks, scales down under load, and kills one.
///
/// # Errors
/// When the platform does not start.
pub async fn run(lab: &mut Lab) -> Result<Found, RunError> {
    let title = "A pool of worker processes of this machine, 1 to 5 to 2 (no docker daemon is used)";
    let mut test = lab.test("1.3-scaling", title, "instant");
    if lab.engine == Engine::Embedded || lab.url.is_some() {
        let why = "needs several processes over servers of the run's own: --engine cluster without --url";
        let all = ["1.3/distribution", "1.3/scale-up", "1.3/scale-down", "1.3/recovery"];
        return Ok(Found { tests: vec![test], seen: all.map(|id| Observation::not_run(id, why)).to_vec() });
    }
    let began = clock::now();
    let retries = "retry_config: {max_retries: 5, retry_delay_seconds: 1}\n";
    let mut members = vec![Member::new("api", "api,scheduler", "")];
    members.extend((1..=WORKERS).map(worker));
    let plan = Plan {
        agents: vec![fleet::agent(AGENT, "autonomous", retries)],
        llm: Some(Llm::default()),
        members,
        flags: vec!["--slots".to_owned(), SLOTS.to_owned()],
        ..Plan::default()
    };
    let mut deployment = lab.prepare(plan).await?;
    let mut seen = Vec::new();
    up(lab, &mut test, &mut deployment, &mut seen).await?;
    spread(lab, &mut test, &mut deployment, &mut seen).await?;
    down(lab, &mut test, &mut deployment, &mut seen).await?;
    test.windows.push(Window { stage: Stage::Measure, t0: lab.time(began), t1: lab.now() });
    Ok(Found { tests: vec![test], seen })
}

fn worker(number: usize) -> Member {
    Member::new(format!("worker-{number}"), "worker", "autonomous")
}

/// Sends so many tasks in batches; each takes `ms` at the simulator.
async fn send(deployment: &Deployment, count: usize, ms: u32) -> Result<(), RunError> {
    const BATCH: usize = 500;
    let api = deployment.api()?;
    let mut left = count;
    while left > 0 {
        let size = left.min(BATCH);
        let tasks: Vec<_> =
            (0..size).map(|n| json!({"agent": AGENT, "input": format!("task {n} [[sleep:{ms}]]")})).collect();
        let (_, answer) = api.post("/v1/tasks/batch", &json!({"tasks": tasks})).await?;
        if answer["refused"].as_u64() != Some(0) {
            return Err(SutError::Server(format!("tasks were refused: {answer}")).into());
        }
        left -= size;
    }
    Ok(())
}

/// Tasks that each owner ended since a moment (microseconds since the Unix epoch), by owner.
async fn by_owner(lab: &mut Lab, deployment: &Deployment, since: i64) -> Result<Vec<u64>, RunError> {
    let schema = deployment.name();
    let sql =
        format!("SELECT count(*) FROM {schema}.ended_tasks WHERE finished_at > {since} GROUP BY owner ORDER BY 1");
    let rows = lab.servers().await?.postgres.rows(&sql).await?;
    Ok(rows.iter().filter_map(|row| row.first()?.parse().ok()).collect())
}

/// From one worker to five, behind a backlog: until each process has ended a task.
async fn up(
    lab: &mut Lab,
    test: &mut Test,
    deployment: &mut Deployment,
    seen: &mut Vec<Observation>,
) -> Result<(), RunError> {
    deployment.start(&Member::new("api", "api,scheduler", "")).await?;
    deployment.start(&worker(1)).await?;
    deployment.api()?.until_metric("agentry_workers_alive", LIMIT, |alive| alive == 1.0).await?;
    send(deployment, 1_500, 20).await?;
    let (command, since) = (Instant::now(), clock::wall_micros());
    for number in 2..=WORKERS {
        deployment.start(&worker(number)).await?;
    }
    let all = loop {
        if by_owner(lab, deployment, since).await?.len() == WORKERS {
            break command.elapsed().as_secs_f64();
        }
        if command.elapsed() > LIMIT {
            break f64::INFINITY;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    deployment.api()?.drained(LIMIT).await?;
    let source = "command to five workers of which each ended a task, started one after the other";
    test.metrics.push(cost("scaling.up", "s", "max", all, 1, source));
    seen.push(Observation::new("1.3/scale-up", all.min(LIMIT.as_secs_f64()), 1, source));
    let each = all.min(LIMIT.as_secs_f64()) / (WORKERS - 1) as f64;
    seen.push(Observation::new("stretch/scale-up", each, (WORKERS - 1) as u64, "the same for each process"));
    Ok(())
}

async fn spread(
    lab: &mut Lab,
    test: &mut Test,
    deployment: &mut Deployment,
    seen: &mut Vec<Observation>,
) -> Result<(), RunError> {
    for ((count, ms), name) in [(FEW, "few"), (MANY, "many")] {
        let since = clock::wall_micros();
        lab.progress.tick(&format!("{count} tasks over {WORKERS} workers"));
        send(deployment, count, ms).await?;
        deployment.api()?.drained(LIMIT).await?;
        let counts = by_owner(lab, deployment, since).await?;
        let mean = count as f64 / WORKERS as f64;
        let mut largest = counts.iter().map(|own| (*own as f64 - mean).abs()).fold(0.0, f64::max) / mean * 100.0;
        if counts.len() < WORKERS {
            largest = largest.max(100.0);
        }
        let (sum, squares) =
            counts.iter().fold((0.0, 0.0), |(sum, squares), own| (sum + *own as f64, squares + (*own as f64).powi(2)));
        let n = count as u64;
        let source = "rows of ended tasks by their owner";
        test.metrics.push(cost(&format!("scaling.{name}.deviation"), "%", "max", largest, n, source));
        test.metrics.push(metric(
            &format!("scaling.{name}.jain"),
            "",
            "mean",
            sum * sum / (WORKERS as f64 * squares),
            n,
            source,
        ));
        test.plots.push(bars(name, &counts, mean));
        if name == "many" {
            let observed = Observation::new("1.3/distribution", largest, n, source).ci(Some([largest, largest]));
            seen.push(observed.shown_by(&["scaling.many.deviation", "scaling-many", "scaling-few"]));
        }
    }
    Ok(())
}

fn bars(name: &str, counts: &[u64], mean: f64) -> Plot {
    let points = counts.iter().enumerate().map(|(at, count)| [at as f64, *count as f64]).collect();
    let names = (1..=counts.len()).map(|number| format!("worker {number}")).collect();
    let edge = counts.len() as f64;
    Plot {
        id: format!("scaling-{name}"),
        title: "Tasks by worker".to_owned(),
        kind: PlotKind::Bars,
        x: Axis { names, ..Axis::new("worker", "") },
        y: Axis::new("tasks", ""),
        series: vec![Series::measured("tasks", points)],
        bands: vec![Band {
            name: "±10 %".to_owned(),
            points: vec![[0.0, mean * 0.9, mean * 1.1], [edge, mean * 0.9, mean * 1.1]],
        }],
        marks: Vec::new(),
        summary: format!("{counts:?} of {mean:.0} each"),
    }
}

/// Three of five are asked to end while all hold work; then one of the two that are left is killed and comes back.
async fn down(
    lab: &mut Lab,
    test: &mut Test,
    deployment: &mut Deployment,
    seen: &mut Vec<Observation>,
) -> Result<(), RunError> {
    let count = 600;
    let since = clock::wall_micros();
    send(deployment, count, 50).await?;
    deployment
        .api()?
        .until_metric("agentry_tasks{status=\"running\"}", LIMIT, |running| running >= WORKERS as f64)
        .await?;
    let mut drains = Vec::new();
    for number in 3..=WORKERS {
        deployment.signal(&format!("worker-{number}"), Signal::TERM)?;
    }
    for number in 3..=WORKERS {
        let ended = deployment.child(&format!("worker-{number}"))?.wait(LIMIT).await;
        drains.push(ended.map_or(f64::INFINITY, |ended| ended.took.as_secs_f64()));
    }
    let slowest = drains.iter().copied().fold(0.0, f64::max);
    test.metrics.push(cost(
        "scaling.drain",
        "s",
        "max",
        slowest,
        drains.len() as u64,
        "SIGTERM to the end of the process",
    ));
    deployment.kill("worker-2")?;
    deployment.start_again("worker-2").await?;
    deployment.api()?.drained(LIMIT).await?;
    let back = deployment.api()?.until_metric("agentry_workers_alive", LIMIT, |alive| alive >= 2.0).await;
    let tasks = deployment.api()?.all(&format!("/v1/tasks?agent={AGENT}&status=completed")).await?;
    let ended = tasks.iter().filter(|task| {
        let stamp = task["created_at"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        stamp.is_some_and(|stamp| stamp.as_microsecond() >= since)
    });
    let lost = (count as u64).abs_diff(ended.count() as u64);
    let twice = answered_twice(deployment)?;
    test.metrics.push(cost("scaling.lost", "count", "count", lost as f64, count as u64, "accepted minus completed"));
    test.metrics.push(cost(
        "scaling.twice",
        "count",
        "count",
        twice as f64,
        count as u64,
        "call ids that the simulator answered again",
    ));
    let source = "600 accepted tasks against completed ones, three of five workers stopped by SIGTERM and one killed";
    seen.push(Observation::new("1.3/scale-down", (lost + twice) as f64, count as u64, source));
    seen.push(Observation::new("stretch/scale-down", (lost + twice) as f64, count as u64, source));
    let missing = lost + u64::from(back.is_err());
    seen.push(Observation::new(
        "1.3/recovery",
        missing as f64,
        count as u64,
        "after kill -9 of a worker: tasks that did not finish, workers that did not return",
    ));
    lab.progress.tick("scaled down");
    Ok(())
}

/// Call ids that the simulator answered whole more than once.
fn answered_twice(deployment: &Deployment) -> Result<u64, RunError> {
    let path = deployment.llm_ledger();
    let text = std::fs::read_to_string(&path).map_err(|error| RunError::File { path, error })?;
    let mut times = std::collections::BTreeMap::<String, u64>::new();
    for line in text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
        if line["end"] == "completed" {
            *times.entry(line["request_id"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    Ok(times.values().map(|count| count - 1).sum())
}
