//! 1.1 Startup time: from before the spawn until every agent is healthy, and until each has done a first task.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use procfs::net::TcpState;
use procfs::process::{FDTarget, Process};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::experiment::{Experiment, cost};
use super::tasks::submit;
use crate::load::clock;
use crate::model::{Axis, Engine, Plot, PlotKind, Point, Role, Series};
use crate::run::{Lab, RunError};
use crate::sample::processors;
use crate::stats::{mean, quadratic};
use crate::sut::{Deployment, Member, Plan, fleet};
use crate::verdict::Observation;

/// Time memory settles between its two readings.
const SETTLE: Duration = Duration::from_secs(5);
const HEALTHY: &str =
    "monotonic clock before the spawn to the platform's own count of healthy agents, polled every 2 ms";
const FIRST_TASK: &str = "the same and the time until a no-op task of every agent has ended";

/// One start.
struct StartResult {
    agents: usize,
    warm: bool,
    total_ms: f64,
    first_task_ms: f64,
    cpu_ms: f64,
    cpu_share: f64,
    pss_mb: f64,
    settled_mb: Option<f64>,
    connections: Option<f64>,
    /// Connections to the servers when all agents are healthy.
    open: Option<usize>,
    waiting: Option<f64>,
}

/// A value of a start that is told for each size: its name, form and source. The form's statistic is of all starts.
type StartFigure = (&'static str, (&'static str, &'static str), fn(&StartResult) -> Option<f64>, &'static str);

const VALUES: [StartFigure; 8] = [
    ("total", ("ms", "max"), |start| Some(start.total_ms), HEALTHY),
    ("total", ("ms", "mean"), |start| Some(start.total_ms), HEALTHY),
    ("cold", ("ms", "mean"), |start| (!start.warm).then_some(start.total_ms), HEALTHY),
    ("warm", ("ms", "mean"), |start| start.warm.then_some(start.total_ms), HEALTHY),
    ("first_task", ("ms", "max"), |start| Some(start.first_task_ms), FIRST_TASK),
    ("cpu", ("ms", "mean"), |start| Some(start.cpu_ms), "schedstat of every thread"),
    ("pss", ("MB", "mean"), |start| Some(start.pss_mb), "smaps_rollup when healthy"),
    ("pss_settled", ("MB", "mean"), |start| start.settled_mb, "smaps_rollup 5 s later"),
];

/// A criterion of a size that the slowest start decides: its size, id, what is timed, and the source.
type StartCriterion = (usize, &'static str, fn(&StartResult) -> f64, &'static str);

const SLOWEST: [StartCriterion; 8] = [
    (20, "1.1/startup-20", |start| start.total_ms, HEALTHY),
    (30, "1.1/startup-30", |start| start.total_ms, HEALTHY),
    (50, "1.1/startup-50", |start| start.total_ms, HEALTHY),
    (50, "stretch/start-50-embedded", |start| start.first_task_ms, FIRST_TASK),
    (1_000, "stretch/start-1000-embedded", |start| start.first_task_ms, FIRST_TASK),
    (10_000, "stretch/start-10000-embedded", |start| start.first_task_ms, FIRST_TASK),
    (50, "stretch/start-50-cluster", |start| start.first_task_ms, FIRST_TASK),
    (1_000, "stretch/start-1000-cluster", |start| start.first_task_ms, FIRST_TASK),
];

/// Starts the platform again and again.
pub(super) async fn run(x: &mut Experiment<'_>) -> Result<(), RunError> {
    let began = clock::now();
    let mut starts = Vec::new();
    for (agents, settle) in plan(x) {
        x.lab.progress.tick(&format!("{agents} agents, start {}", starts.len() + 1));
        starts.extend(start(x, agents, settle).await?);
    }
    x.measured_since(began);
    report(x, &starts);
    Ok(())
}

/// Sizes in shuffled order, and whether memory is looked at again after it settled.
fn plan(x: &Experiment<'_>) -> Vec<(usize, bool)> {
    const ALL: &[usize] = &[5, 10, 15, 20, 25, 30, 50];
    let sizes: &[usize] = x.by([&[5, 20, 50], &[5, 10, 20, 30, 50], ALL, ALL]);
    let starts = x.by([2, 3, 20, 59]);
    let mut all: Vec<(usize, bool)> =
        sizes.iter().flat_map(|size| (0..starts).map(|number| (*size, number == 0 && starts > 3))).collect();
    // Sizes between fifty and a thousand, too: from fifty alone chance would decide how the curve bends.
    let large: &[usize] = x.by([&[], &[250, 500, 1_000], &[250, 500, 1_000], &[100, 200, 500, 1_000, 10_000]]);
    all.extend(large.iter().flat_map(|size| (0..x.by([0, 2, 3, 10])).map(|_| (*size, false))));
    all.shuffle(&mut StdRng::seed_from_u64(x.lab.seed_of("1.1")));
    all
}

/// A cold start on empty data, then a warm one on what the first left.
async fn start(x: &mut Experiment<'_>, agents: usize, settle: bool) -> Result<Vec<StartResult>, RunError> {
    let plan = Plan { agents: fleet::mixed(agents), members: vec![Member::new("api", "", "")], ..Plan::default() };
    let mut deployment = x.lab.prepare(plan).await?;
    let mut starts = Vec::new();
    for warm in [false, true] {
        if warm {
            let name = deployment.names().remove(0);
            deployment.lab.stop(&name).await?;
        }
        deployment.start_all().await?;
        let total_ms = deployment.healthy().await?;
        let wall = clock::now() - deployment.spawned();
        let (cpu, pss) = (deployment.cpu(), deployment.pss());
        let metrics = deployment.api()?.metrics().await?;
        let open = connections(x.lab, &mut deployment);
        // What was looked at meanwhile is no part of a start.
        let asked = clock::now();
        first_tasks(&deployment, agents).await?;
        let first_task_ms = total_ms + (clock::now() - asked) as f64 / 1e6;
        let mut settled_mb = None;
        if settle && !warm {
            tokio::time::sleep(SETTLE).await;
            settled_mb = Some(deployment.pss() as f64 / 1e6);
        }
        starts.push(StartResult {
            agents,
            warm,
            total_ms,
            first_task_ms,
            cpu_ms: cpu as f64 / 1e6,
            cpu_share: cpu as f64 / wall as f64 / processors() as f64 * 100.0,
            pss_mb: pss as f64 / 1e6,
            settled_mb,
            connections: metrics.get("agentry_postgres_connections"),
            open,
            waiting: metrics.get("agentry_postgres_waiting"),
        });
    }
    Ok(starts)
}

/// Established connections of the platform's processes to the servers; `None` where there are none of the run's own.
fn connections(lab: &Lab, deployment: &mut Deployment) -> Option<usize> {
    let servers = lab.running_servers()?;
    let ports = [servers.postgres.port, servers.rabbitmq.port, servers.redis.port];
    let mut open = 0;
    for name in deployment.names() {
        let process = Process::new(i32::try_from(deployment.lab.process(&name).ok()?.pid()).ok()?).ok()?;
        let sockets: BTreeSet<u64> = process
            .fd()
            .ok()?
            .flatten()
            .filter_map(|descriptor| match descriptor.target {
                FDTarget::Socket(inode) => Some(inode),
                _ => None,
            })
            .collect();
        let of_process = process.tcp().ok()?.into_iter().chain(process.tcp6().unwrap_or_default());
        let ours = of_process.filter(|entry| sockets.contains(&entry.inode) && entry.state == TcpState::Established);
        open += ours.filter(|entry| ports.contains(&entry.remote_address.port())).count();
    }
    Some(open)
}

/// A no-op task for every agent at once, waited for: an agent that loads lazily shows here.
async fn first_tasks(deployment: &Deployment, agents: usize) -> Result<(), RunError> {
    let api = deployment.api()?;
    submit(api, fleet::mixed(agents).into_iter().map(|(name, _)| (name, "first".to_owned())).collect()).await?;
    Ok(api.drained(Duration::from_secs(60)).await?)
}

fn report(x: &mut Experiment<'_>, starts: &[StartResult]) {
    let mut by_size: BTreeMap<usize, Vec<&StartResult>> = BTreeMap::new();
    for start in starts {
        by_size.entry(start.agents).or_default().push(start);
    }
    let most = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for (agents, starts) in &by_size {
        let name = |what: &str| format!("startup.{what}.{agents}");
        for (what, form, of, source) in VALUES {
            let values: Vec<f64> = starts.iter().filter_map(|start| of(start)).collect();
            let value = if form.1 == "max" { most(&values) } else { mean(&values) };
            if !values.is_empty() {
                x.test.metrics.push(cost(&name(what), form, value, values.len() as u64, source));
            }
        }
        let shares: Vec<f64> = starts.iter().map(|start| start.cpu_share).collect();
        x.figure(&name("cpu_share"), ("%", "mean"), mean(&shares), starts.len() as u64, "of all processors");
        for (_, criterion, of, source) in SLOWEST.into_iter().filter(|(size, ..)| size == agents) {
            let values: Vec<f64> = starts.iter().map(|start| of(start)).collect();
            let seen = Observation::exact(most(&values), starts.len() as u64, source);
            x.observe(criterion, seen.shown_by(&[&name("total"), "startup"]));
        }
    }
    let seen = pool(x.lab.engine, starts);
    x.observe("1.1/pool", seen);
    let most_open =
        |size: usize| starts.iter().filter(|start| start.agents == size).filter_map(|start| start.open).max();
    let largest = by_size.keys().next_back().copied().unwrap_or(0);
    if let (Some(few), Some(many)) = (most_open(50), most_open(largest)) {
        let source = "/proc/net/tcp of the platform's processes when all agents are healthy";
        let seen = Observation::exact(many.saturating_sub(few) as f64, starts.len() as u64, source);
        x.observe("stretch/connections", seen.remark(format!("{few} with 50 agents, {many} with {largest}")));
    }
    memory(x, starts);
    x.plot(plot(starts));
    x.note(
        "the time of each agent's registration and of each queue's declaration is not told by the platform: only the \
         whole is timed",
    );
}

fn pool(engine: Engine, starts: &[StartResult]) -> Observation {
    if engine == Engine::Embedded {
        let source = "the embedded engine has one writer and no pool; every start and first task succeeded";
        return Observation::exact(0.0, starts.len() as u64, source);
    }
    let looked = starts.iter().filter(|start| start.connections.is_some()).count() as u64;
    let waiting = starts.iter().filter_map(|start| start.waiting).filter(|waiting| *waiting > 0.0).count();
    let source = "starts that ended with callers waiting for a PostgreSQL connection (agentry_postgres_waiting)";
    Observation::exact(waiting as f64, looked, source)
}

/// Observes what the quadratic term of Pss over agents adds at the largest size, in percent of Pss there.
fn memory(x: &mut Experiment<'_>, starts: &[StartResult]) {
    let cold = starts.iter().filter(|start| !start.warm);
    let points: Vec<Point> = cold.map(|start| [start.agents as f64, start.pss_mb]).collect();
    let sizes: BTreeSet<usize> = starts.iter().map(|start| start.agents).collect();
    let Some(fit) = quadratic(&points).filter(|_| sizes.len() >= 4) else {
        return x.not_run(&["1.1/memory-linear"], "needs four sizes; --profile ci has them");
    };
    let largest = sizes.last().copied().unwrap_or(0) as f64;
    let [constant, linear, curve] = fit.terms;
    let whole = (constant + linear * largest + curve * largest * largest).max(f64::MIN_POSITIVE);
    let share = |curve: f64| curve * largest * largest / whole * 100.0;
    let mut ci = fit.curve_ci95.map(share);
    let n = points.len() as u64;
    x.figure("startup.memory_quadratic", ("MB", "slope"), curve, n, "least squares");
    let source = "least squares of Pss over agents and its square, cold starts";
    let mut seen = Observation::exact(share(curve), n, source);
    // A curve that bends down, or one whose bend is within chance, is not worse than a line.
    if ci[0] <= 0.0 {
        ci = [ci[0].min(0.0), ci[1].min(9.9)];
        seen = seen.remark("the interval of the quadratic term holds 0 or less");
    }
    x.observe("1.1/memory-linear", seen.ci(Some(ci)));
}

fn plot(starts: &[StartResult]) -> Plot {
    let of = |name: &str, role, warm: bool, value: fn(&StartResult) -> f64| {
        let some = starts.iter().filter(|start| start.warm == warm);
        let mut points: Vec<Point> = some.map(|start| [start.agents as f64, value(start)]).collect();
        points.sort_by(|a, b| a[0].total_cmp(&b[0]));
        Series::of(name, role, points)
    };
    let slowest = starts.iter().map(|start| start.total_ms).fold(0.0, f64::max);
    Plot::new(
        "startup",
        "Start-up over the number of agents",
        PlotKind::Scatter,
        (Axis::new("agents", ""), Axis::new("time from before the spawn", "ms")),
        vec![
            of("cold, all healthy", Role::Measured, false, |start| start.total_ms),
            of("warm, all healthy", Role::Measured, true, |start| start.total_ms),
            of("first task of every agent done", Role::Reference, false, |start| start.first_task_ms),
        ],
        format!("{} starts, the slowest {slowest:.0} ms", starts.len()),
    )
}
