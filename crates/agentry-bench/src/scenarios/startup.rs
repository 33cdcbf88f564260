//! 1.1 Startup time: from before the spawn until every agent is healthy, and until each has done a first task.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::json;

use super::Found;
use super::figures::{cost, metric};
use super::observe::Observation;
use crate::load::clock;
use crate::model::{Axis, Engine, Plot, PlotKind, Role, Series, Stage, Test, Window};
use crate::run::{Lab, RunError};
use crate::sample::processors;
use crate::sut::{Deployment, Member, Plan, fleet};

/// How long memory settles until it is looked at the second time.
const SETTLE: Duration = Duration::from_secs(5);

/// One start.
struct Start {
    agents: usize,
    warm: bool,
    total_ms: f64,
    first_task_ms: f64,
    cpu_ms: f64,
    cpu_share: f64,
    pss_mb: f64,
    settled_mb: Option<f64>,
    connections: Option<f64>,
    waiting: Option<f64>,
}

/// Starts the platform again and again.
///
/// # Errors
/// When it does not start.
pub async fn run(lab: &mut Lab) -> Result<Found, RunError> {
    let title = "Start-up, dependencies up beforehand, cold and warm";
    let mut test = lab.test("1.1-startup", title, "none");
    let began = clock::now();
    let mut starts = Vec::new();
    for (agents, settle) in plan(lab) {
        lab.progress.tick(&format!("{agents} agents, start {}", starts.len() + 1));
        starts.extend(start(lab, agents, settle).await?);
    }
    test.windows.push(Window { stage: Stage::Measure, t0: lab.time(began), t1: lab.now() });
    let seen = report(lab, &mut test, &starts);
    Ok(Found { tests: vec![test], seen })
}

/// Sizes in shuffled order, and whether memory is looked at again after it settled.
fn plan(lab: &Lab) -> Vec<(usize, bool)> {
    let sizes: &[usize] =
        lab.by(&[5, 20, 50], &[5, 10, 20, 30, 50], &[5, 10, 15, 20, 25, 30, 50], &[5, 10, 15, 20, 25, 30, 50]);
    let reps = lab.by(2, 3, 20, 59);
    let mut all: Vec<(usize, bool)> =
        sizes.iter().flat_map(|size| (0..reps).map(|rep| (*size, rep == 0 && reps > 3))).collect();
    // Sizes between fifty and a thousand, too: from fifty alone chance would decide how the curve bends.
    let large: &[usize] = lab.by(&[], &[250, 500, 1_000], &[250, 500, 1_000], &[100, 200, 500, 1_000, 10_000]);
    let large_reps = lab.by(0, 2, 3, 10);
    all.extend(large.iter().flat_map(|size| (0..large_reps).map(|_| (*size, false))));
    all.shuffle(&mut StdRng::seed_from_u64(lab.seed_of("1.1")));
    all
}

/// A cold start on empty data, then a warm one on what the first left.
async fn start(lab: &mut Lab, agents: usize, settle: bool) -> Result<Vec<Start>, RunError> {
    let plan = Plan { agents: fleet::mixed(agents), members: vec![Member::new("api", "", "")], ..Plan::default() };
    let mut deployment = lab.prepare(plan).await?;
    let mut starts = Vec::new();
    for warm in [false, true] {
        if warm {
            let name = deployment.names().remove(0);
            deployment.stop(&name).await?;
        }
        deployment.start_all().await?;
        let total_ms = deployment.healthy().await?;
        let wall = clock::now() - deployment.spawned();
        let (cpu, pss) = (deployment.cpu(), deployment.pss());
        let metrics = deployment.api()?.metrics().await?;
        first_tasks(&deployment, agents).await?;
        let first_task_ms = (clock::now() - deployment.spawned()) as f64 / 1e6;
        let mut settled_mb = None;
        if settle && !warm {
            tokio::time::sleep(SETTLE).await;
            settled_mb = Some(deployment.pss() as f64 / 1e6);
        }
        starts.push(Start {
            agents,
            warm,
            total_ms,
            first_task_ms,
            cpu_ms: cpu as f64 / 1e6,
            cpu_share: cpu as f64 / wall as f64 / processors() as f64 * 100.0,
            pss_mb: pss as f64 / 1e6,
            settled_mb,
            connections: metrics.get("agentry_postgres_connections"),
            waiting: metrics.get("agentry_postgres_waiting"),
        });
    }
    Ok(starts)
}

/// A no-op task for every agent at once, waited for: an agent that loads lazily shows here.
async fn first_tasks(deployment: &Deployment, agents: usize) -> Result<(), RunError> {
    /// Tasks of a batch at most.
    const BATCH: usize = 1_000;
    let api = deployment.api()?;
    let names: Vec<String> = fleet::mixed(agents).into_iter().map(|(name, _)| name).collect();
    let batches = names.chunks(BATCH).map(async |names| {
        let tasks: Vec<_> = names.iter().map(|name| json!({"agent": name, "input": "first"})).collect();
        api.post("/v1/tasks/batch", &json!({"tasks": tasks})).await
    });
    for answer in join_all(batches).await {
        let (_, body) = answer?;
        if body["refused"].as_u64() != Some(0) {
            let body = body.to_string().chars().take(300).collect();
            return Err(
                crate::sut::SutError::Answer { request: "POST /v1/tasks/batch".into(), status: 200, body }.into()
            );
        }
    }
    api.drained(Duration::from_secs(60)).await?;
    Ok(())
}

fn report(lab: &Lab, test: &mut Test, starts: &[Start]) -> Vec<Observation> {
    let source = "monotonic clock before the spawn to the platform's own count of healthy agents, polled every 2 ms";
    let mut by_size: BTreeMap<usize, Vec<&Start>> = BTreeMap::new();
    for start in starts {
        by_size.entry(start.agents).or_default().push(start);
    }
    let mut seen = Vec::new();
    for (agents, starts) in &by_size {
        let n = starts.len() as u64;
        let most = |of: fn(&Start) -> f64| starts.iter().map(|start| of(start)).fold(f64::NEG_INFINITY, f64::max);
        let mean = |of: fn(&Start) -> f64| starts.iter().map(|start| of(start)).sum::<f64>() / n as f64;
        let name = |what: &str| format!("startup.{what}.{agents}");
        test.metrics.push(cost(&name("total"), "ms", "max", most(|start| start.total_ms), n, source));
        test.metrics.push(cost(&name("total"), "ms", "mean", mean(|start| start.total_ms), n, source));
        for (warm, word) in [(false, "cold"), (true, "warm")] {
            let some: Vec<f64> = starts.iter().filter(|start| start.warm == warm).map(|start| start.total_ms).collect();
            let mean = some.iter().sum::<f64>() / some.len() as f64;
            test.metrics.push(cost(&name(word), "ms", "mean", mean, some.len() as u64, source));
        }
        let first = "monotonic clock before the spawn to the end of a no-op task of every agent";
        test.metrics.push(cost(&name("first_task"), "ms", "max", most(|start| start.first_task_ms), n, first));
        test.metrics.push(cost(&name("cpu"), "ms", "mean", mean(|start| start.cpu_ms), n, "schedstat of every thread"));
        test.metrics.push(metric(
            &name("cpu_share"),
            "%",
            "mean",
            mean(|start| start.cpu_share),
            n,
            "of all processors",
        ));
        test.metrics.push(cost(&name("pss"), "MB", "mean", mean(|start| start.pss_mb), n, "smaps_rollup when healthy"));
        for start in starts.iter().filter(|start| start.settled_mb.is_some()) {
            let value = start.settled_mb.unwrap_or(f64::NAN);
            test.metrics.push(cost(&name("pss_settled"), "MB", "mean", value, 1, "smaps_rollup 5 s later"));
        }
        let of_total = |id| Observation::new(id, most(|start| start.total_ms), n, source);
        let of_first = |id| Observation::new(id, most(|start| start.first_task_ms), n, first);
        match agents {
            20 => seen.push(of_total("1.1/startup-20").shown_by(&["startup.total.20", "startup"])),
            30 => seen.push(of_total("1.1/startup-30").shown_by(&["startup.total.30", "startup"])),
            50 => seen.push(of_total("1.1/startup-50").shown_by(&["startup.total.50", "startup"])),
            _ => {}
        }
        match (agents, lab.engine) {
            (50, Engine::Embedded) => seen.push(of_first("stretch/start-50-embedded")),
            (1_000, Engine::Embedded) => seen.push(of_first("stretch/start-1000-embedded")),
            (10_000, Engine::Embedded) => seen.push(of_first("stretch/start-10000-embedded")),
            (50, Engine::Cluster) => seen.push(of_first("stretch/start-50-cluster")),
            (1_000, Engine::Cluster) => seen.push(of_first("stretch/start-1000-cluster")),
            _ => {}
        }
    }
    seen.push(pool(lab, starts));
    seen.push(memory(test, starts));
    test.plots.push(plot(starts));
    test.notes.push(
        "the time of each agent's registration and of each queue's declaration is not told by the platform: only the \
         whole is timed"
            .to_owned(),
    );
    seen
}

fn pool(lab: &Lab, starts: &[Start]) -> Observation {
    if lab.engine == Engine::Embedded {
        let source = "the embedded engine has one writer and no pool; every start and first task succeeded";
        return Observation::new("1.1/pool", 0.0, starts.len() as u64, source);
    }
    let looked = starts.iter().filter(|start| start.connections.is_some()).count() as u64;
    let waiting = starts.iter().filter_map(|start| start.waiting).filter(|waiting| *waiting > 0.0).count();
    let source = "starts that ended with callers waiting for a PostgreSQL connection (agentry_postgres_waiting)";
    Observation::new("1.1/pool", waiting as f64, looked, source)
}

/// What the quadratic term of Pss over agents adds at the largest size, in percent of Pss there.
fn memory(test: &mut Test, starts: &[Start]) -> Observation {
    let points: Vec<(f64, f64)> =
        starts.iter().filter(|start| !start.warm).map(|start| (start.agents as f64, start.pss_mb)).collect();
    let sizes: std::collections::BTreeSet<usize> = starts.iter().map(|start| start.agents).collect();
    let Some(fit) = Quadratic::fit(&points).filter(|_| sizes.len() >= 4) else {
        return Observation::not_run("1.1/memory-linear", "needs four sizes; --profile ci has them");
    };
    let largest = sizes.last().copied().unwrap_or(0) as f64;
    let whole = fit.at(largest).max(f64::MIN_POSITIVE);
    let share = |quadratic: f64| quadratic * largest * largest / whole * 100.0;
    let half = 1.96 * fit.error;
    let ci = [share(fit.quadratic - half), share(fit.quadratic + half)];
    test.metrics.push(metric(
        "startup.memory_quadratic",
        "MB",
        "slope",
        fit.quadratic,
        points.len() as u64,
        "least squares",
    ));
    let source = "least squares of Pss over agents and its square, cold starts";
    let mut seen = Observation::new("1.1/memory-linear", share(fit.quadratic), points.len() as u64, source);
    // A curve that bends down, or one whose bend is within chance, is not worse than a line.
    if ci[0] <= 0.0 {
        seen = seen.remark("the interval of the quadratic term holds 0 or less");
        return seen.ci(Some([ci[0].min(0.0), ci[1].min(9.9)]));
    }
    seen.ci(Some(ci))
}

/// y = a + bx + cx², by least squares.
struct Quadratic {
    constant: f64,
    linear: f64,
    quadratic: f64,
    /// Standard error of the quadratic term.
    error: f64,
}

impl Quadratic {
    fn fit(points: &[(f64, f64)]) -> Option<Self> {
        if points.len() < 4 {
            return None;
        }
        let sum = |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|(x, y)| of(*x, *y)).sum::<f64>();
        let power = |exponent: i32| sum(&|x, _| x.powi(exponent));
        let normal =
            [[points.len() as f64, power(1), power(2)], [power(1), power(2), power(3)], [power(2), power(3), power(4)]];
        let right = [sum(&|_, y| y), sum(&|x, y| x * y), sum(&|x, y| x * x * y)];
        let determinant = det(&normal);
        if determinant.abs() < f64::MIN_POSITIVE {
            return None;
        }
        let solve = |column: usize| {
            let mut replaced = normal;
            for (row, value) in replaced.iter_mut().zip(right) {
                row[column] = value;
            }
            det(&replaced) / determinant
        };
        let (constant, linear, quadratic) = (solve(0), solve(1), solve(2));
        let residuals = sum(&|x, y| (y - constant - linear * x - quadratic * x * x).powi(2));
        // The last diagonal element of the inverse.
        let inverse = (normal[0][0] * normal[1][1] - normal[0][1] * normal[1][0]) / determinant;
        let error = (residuals / (points.len() as f64 - 3.0) * inverse).max(0.0).sqrt();
        Some(Self { constant, linear, quadratic, error })
    }

    fn at(&self, x: f64) -> f64 {
        self.constant + self.linear * x + self.quadratic * x * x
    }
}

fn det(m: &[[f64; 3]; 3]) -> f64 {
    m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
}

fn plot(starts: &[Start]) -> Plot {
    let of = |warm: bool, value: fn(&Start) -> f64| {
        let mut points: Vec<[f64; 2]> =
            starts.iter().filter(|start| start.warm == warm).map(|start| [start.agents as f64, value(start)]).collect();
        points.sort_by(|a, b| a[0].total_cmp(&b[0]));
        points
    };
    let series = |name: &str, role, points| Series { role, ..Series::measured(name, points) };
    Plot {
        id: "startup".to_owned(),
        title: "Start-up over the number of agents".to_owned(),
        kind: PlotKind::Scatter,
        x: Axis::new("agents", ""),
        y: Axis::new("time from before the spawn", "ms"),
        series: vec![
            series("cold, all healthy", Role::Measured, of(false, |start| start.total_ms)),
            series("warm, all healthy", Role::Measured, of(true, |start| start.total_ms)),
            series("first task of every agent done", Role::Reference, of(false, |start| start.first_task_ms)),
        ],
        bands: Vec::new(),
        marks: Vec::new(),
        summary: format!(
            "{} starts, the slowest {:.0} ms",
            starts.len(),
            starts.iter().map(|start| start.total_ms).fold(0.0, f64::max)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_no_quadratic_term_and_a_square_has_one() {
        let line: Vec<(f64, f64)> = (1..=6).map(|n| (f64::from(n), 20.0 + 0.5 * f64::from(n))).collect();
        let fit = Quadratic::fit(&line).unwrap();
        assert!(fit.quadratic.abs() < 1e-9 && (fit.linear - 0.5).abs() < 1e-9, "{}", fit.quadratic);
        let square: Vec<(f64, f64)> = (1..=6).map(|n| (f64::from(n), f64::from(n * n))).collect();
        let fit = Quadratic::fit(&square).unwrap();
        assert!((fit.quadratic - 1.0).abs() < 1e-9 && fit.error < 1e-6 && (fit.at(10.0) - 100.0).abs() < 1e-6);
        assert!(Quadratic::fit(&line[..3]).is_none());
    }
}
