//! 1.3 Horizontal scaling: a pool of worker processes, 1 to 5 to 2, and one of them killed.
//!
//! Each task takes as long as the simulator makes it. Who ended it is read from the store's own rows.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::experiment::{Experiment, once};
use super::tasks::{id_of, is_whole, repeated, simulated_calls, submit_many};
use crate::load::clock;
use crate::model::{Axis, Band, Plot, PlotKind, Series};
use crate::run::RunError;
use crate::stats::evenness;
use crate::sut::{Deployment, Llm, Member, Plan, fleet};
use crate::verdict::Observation;

/// Workers at the most.
const WORKERS: usize = 5;
/// Tasks that a worker executes at once: none hoards.
const SLOTS: &str = "4";
/// Name, tasks and milliseconds per task: the literal hundred, and so many that an even spread is no chance.
const SPREADS: [(&str, usize, u32); 2] = [("few", 100, 200), ("many", 3_000, 20)];
const AGENT: &str = "bench-pool";
/// Time limit of every wait.
const LIMIT: Duration = Duration::from_secs(120);

/// Scales up, spreads tasks, scales down under load, and kills one; then spreads tasks over workers of many slots.
pub(super) async fn run(x: &mut Experiment<'_>) -> Result<(), RunError> {
    let began = clock::now();
    let mut deployment = x.lab.prepare(pool(SLOTS)).await?;
    up(x, &mut deployment).await?;
    for (name, count, ms) in SPREADS {
        let largest = spread(x, &deployment, name, (count, ms)).await?;
        if name == "many" {
            x.observe("1.3/distribution", largest.shown_by(&["scaling.many.deviation", "scaling-many", "scaling-few"]));
        }
    }
    down(x, &mut deployment).await?;
    drop(deployment);
    let roomy = x.deploy(pool("1024")).await?;
    roomy.api()?.until_metric("agentry_workers_alive", LIMIT, |alive| alive == WORKERS as f64).await?;
    let largest = spread(x, &roomy, "roomy", (3_000, 20)).await?;
    x.observe("stretch/distribution", largest.shown_by(&["scaling.roomy.deviation", "scaling-roomy"]));
    x.measured_since(began);
    Ok(())
}

fn pool(slots: &str) -> Plan {
    let retries = "retry_config: {max_retries: 5, retry_delay_seconds: 1}\n";
    let mut members = vec![Member::new("api", "api,scheduler", "")];
    members.extend((1..=WORKERS).map(worker));
    Plan {
        agents: vec![fleet::agent(AGENT, "autonomous", retries)],
        llm: Some(Llm::default()),
        members,
        flags: vec!["--slots".to_owned(), slots.to_owned()],
        ..Plan::default()
    }
}

fn worker(number: usize) -> Member {
    Member::new(format!("worker-{number}"), "worker", "autonomous")
}

/// Sends so many tasks; each takes `ms` at the simulator.
async fn send(deployment: &Deployment, count: usize, ms: u32) -> Result<(), RunError> {
    submit_many(deployment.api()?, AGENT, count, &format!("[[sleep:{ms}]] task")).await.map(|_| ())
}

/// Tasks that each owner ended since a moment (microseconds since the Unix epoch), by owner.
async fn by_owner(x: &mut Experiment<'_>, deployment: &Deployment, since: i64) -> Result<Vec<u64>, RunError> {
    let schema = deployment.name();
    let sql =
        format!("SELECT count(*) FROM {schema}.ended_tasks WHERE finished_at > {since} GROUP BY owner ORDER BY 1");
    let rows = x.lab.servers().await?.postgres.rows(&sql).await?;
    Ok(rows.iter().filter_map(|row| row.first()?.parse().ok()).collect())
}

/// From one worker to five, behind a backlog: until each process has ended a task.
async fn up(x: &mut Experiment<'_>, deployment: &mut Deployment) -> Result<(), RunError> {
    deployment.start(&Member::new("api", "api,scheduler", "")).await?;
    deployment.start(&worker(1)).await?;
    deployment.api()?.until_metric("agentry_workers_alive", LIMIT, |alive| alive == 1.0).await?;
    send(deployment, 1_500, 20).await?;
    let (command, since) = (Instant::now(), clock::wall_micros());
    for number in 2..=WORKERS {
        deployment.start(&worker(number)).await?;
    }
    let all = loop {
        if by_owner(x, deployment, since).await?.len() == WORKERS {
            break command.elapsed().as_secs_f64();
        }
        if command.elapsed() > LIMIT {
            break f64::INFINITY;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    deployment.api()?.drained(LIMIT).await?;
    let source = "command to five workers of which each ended a task, started one after the other";
    x.cost("scaling.up", ("s", "max"), all, 1, source);
    let all = all.min(LIMIT.as_secs_f64());
    x.observe("1.3/scale-up", Observation::exact(all, 1, source));
    let added = WORKERS - 1;
    x.observe("stretch/scale-up", Observation::exact(all / added as f64, added as u64, "the same for each process"));
    Ok(())
}

/// The largest deviation of a worker from the mean, in percent.
async fn spread(
    x: &mut Experiment<'_>,
    deployment: &Deployment,
    name: &str,
    (count, ms): (usize, u32),
) -> Result<Observation, RunError> {
    let since = clock::wall_micros();
    x.lab.progress.tick(&format!("{count} tasks over {WORKERS} workers"));
    send(deployment, count, ms).await?;
    deployment.api()?.drained(LIMIT).await?;
    let mut counts = by_owner(x, deployment, since).await?;
    counts.resize(WORKERS, 0);
    let done: Vec<f64> = counts.iter().map(|own| *own as f64).collect();
    let (largest, jain) = evenness(&done).map_or((100.0, 0.0), |even| (even.largest * 100.0, even.jain));
    let (n, source) = (count as u64, "rows of ended tasks by their owner");
    x.cost(&format!("scaling.{name}.deviation"), ("%", "max"), largest, n, source);
    x.figure(&format!("scaling.{name}.jain"), ("", "mean"), jain, n, source);
    x.plot(bars(name, &done, count as f64 / WORKERS as f64));
    Ok(once(largest, n, source))
}

fn bars(name: &str, done: &[f64], mean: f64) -> Plot {
    let points = done.iter().enumerate().map(|(at, count)| [at as f64, *count]).collect();
    let names = (1..=done.len()).map(|number| format!("worker {number}")).collect();
    let mut plot = Plot::new(
        format!("scaling-{name}"),
        "Tasks by worker",
        PlotKind::Bars,
        (Axis { names, ..Axis::new("worker", "") }, Axis::new("tasks", "")),
        vec![Series::measured("tasks", points)],
        format!("{done:?} of {mean:.0} each"),
    );
    let band = |at: f64| [at, mean * 0.9, mean * 1.1];
    plot.bands.push(Band { name: "±10 %".to_owned(), points: vec![band(0.0), band(done.len() as f64)] });
    plot
}

/// Three of five are asked to end while all hold work; then one of the two that are left is killed and comes back.
async fn down(x: &mut Experiment<'_>, deployment: &mut Deployment) -> Result<(), RunError> {
    let (count, since) = (600_usize, clock::wall_micros());
    send(deployment, count, 50).await?;
    let api = deployment.api()?;
    api.until_metric("agentry_tasks{status=\"running\"}", LIMIT, |running| running >= WORKERS as f64).await?;
    for number in 3..=WORKERS {
        deployment.lab.signal(&format!("worker-{number}"), Signal::TERM)?;
    }
    let mut slowest = 0.0_f64;
    for number in 3..=WORKERS {
        let ended = deployment.lab.process(&format!("worker-{number}"))?.wait(LIMIT).await;
        slowest = slowest.max(ended.map_or(f64::INFINITY, |ended| ended.took.as_secs_f64()));
    }
    x.cost("scaling.drain", ("s", "max"), slowest, (WORKERS - 2) as u64, "SIGTERM to the end of the process");
    deployment.lab.kill("worker-2")?;
    deployment.start_again("worker-2").await?;
    let api = deployment.api()?;
    api.drained(LIMIT).await?;
    let back = api.until_metric("agentry_workers_alive", LIMIT, |alive| alive >= 2.0).await;
    let tasks = api.all(&format!("/v1/tasks?agent={AGENT}&status=completed")).await?;
    let is_late = |text: &str| text.parse::<jiff::Timestamp>().is_ok_and(|stamp| stamp.as_microsecond() >= since);
    let ended = tasks.iter().filter(|task| task["created_at"].as_str().is_some_and(is_late)).count();
    let (lost, n) = (count.abs_diff(ended) as u64, count as u64);
    let calls = simulated_calls(deployment)?;
    let twice = repeated(calls.iter().filter(|call| is_whole(call)).map(id_of));
    x.counts("scaling", &[("lost", lost)], n, "accepted minus completed");
    x.counts("scaling", &[("twice", twice)], n, "call ids that the simulator answered again");
    let source = "600 accepted tasks against completed ones, three of five workers stopped by SIGTERM and one killed";
    let seen = Observation::exact((lost + twice) as f64, n, source);
    x.observe_each(&["1.3/scale-down", "stretch/scale-down"], &seen);
    let source = "after kill -9 of a worker: tasks that did not finish, workers that did not return";
    x.observe("1.3/recovery", Observation::exact((lost + u64::from(back.is_err())) as f64, n, source));
    x.lab.progress.tick("scaled down");
    Ok(())
}
