//! 1.2 Concurrent execution, and the rows of the verdict tables that are about the whole platform under load: number of
//! agents, throughput.

use std::time::Duration;

use serde_json::{Value, json};

use super::Found;
use super::callers::{Batches, Tasks};
use super::figures::{self, cost, gain, metric, quantile_ci, share_upper, sustained, windows};
use super::observe::Observation;
use super::plots;
use crate::load::{Load, Recording, Spacing, clock};
use crate::model::{Engine, Test};
use crate::run::{Driven, Lab, Purpose, RunError};
use crate::sample::{Part, Scraper};
use crate::sut::{Deployment, Llm, Plan, fleet};

/// Load offered over what a criterion asks for: at the very target every second window of random arrivals is below it.
const MARGIN: f64 = 1.25;
/// Tasks of a batch when the limit is looked for.
const BATCH: usize = 200;
/// How long what was accepted may take to end.
const DRAIN: Duration = Duration::from_secs(60);
const HEALTHY: &str = "agentry_agents{state=\"healthy\"}";

/// Runs throughput at the tables' rates, the four modes at theirs, and looks for the limit.
///
/// # Errors
/// When the platform does not start or the harness does not work.
pub async fn run(lab: &mut Lab) -> Result<Found, RunError> {
    let mut test = lab.test("1.2-modes", "Throughput of durable no-op tasks, then the four modes", "instant, fast");
    let mut seen = Vec::new();
    throughput(lab, &mut test, &mut seen).await?;
    if lab.by(false, true, true, true) {
        modes(lab, &mut test, &mut seen).await?;
    }
    Ok(Found { tests: vec![test], seen })
}

/// A deployment of 50 agents of which one does no-op tasks, at 100 and 500 tasks per second and at its limit.
async fn throughput(lab: &mut Lab, test: &mut Test, seen: &mut Vec<Observation>) -> Result<(), RunError> {
    let mut agents = fleet::mixed(49);
    agents.push(fleet::noop());
    let deployment = match lab.url {
        Some(_) => None,
        None => Some(lab.deploy(Plan { agents, ..Plan::default() }).await?),
    };
    must_have(lab, deployment.as_ref(), &fleet::noop().0).await?;
    let api = lab.api(deployment.as_ref())?.clone();
    let scraper = Scraper::start(api.client().clone(), api.base());
    let (target, host) = lab.target(deployment.as_ref())?;
    let rates: &[(f64, &'static str)] = lab.by(
        &[(100.0, "tier/throughput-100")],
        &[(100.0, "tier/throughput-100"), (500.0, "tier/throughput-500")],
        &[(100.0, "tier/throughput-100"), (500.0, "tier/throughput-500")],
        &[(100.0, "tier/throughput-100"), (500.0, "tier/throughput-500")],
    );
    let window = lab.seconds(10.0, 15.0, 120.0, 600.0);
    for (rate, criterion) in rates {
        let name = format!("tasks.{rate:.0}");
        let offered = rate * MARGIN;
        let load = Load::open(target, offered, window, lab.seed_of(&name)).warm_up(lab.warm_up());
        let caller = Tasks::of(&host, &fleet::noop().0, lab.seed);
        let driven = lab.drive(test, load, caller, Purpose::target(100.0)).await?;
        figures::of_load(test, lab, &name, &driven);
        test.plots.push(plots::percentiles(&name, &format!("{offered:.0} tasks/s"), &driven.seen, None));
        test.plots.extend(plots::over_time(lab, &name, &format!("{offered:.0} tasks/s"), &driven.seen));
        test.plots.push(plots::cpu(lab, &name, &driven));
        seen.push(rate_of(criterion, &driven.seen, *rate, &name));
        if *rate == 500.0 {
            let id = match lab.engine {
                Engine::Embedded => "stretch/tasks-p95-embedded",
                Engine::Cluster => "stretch/tasks-p95-cluster",
            };
            let n = driven.seen.latency.len();
            let source = "intended start to the answer that carries the result, at 625/s";
            seen.push(
                Observation::new(id, driven.seen.ms(0.95), n, source).ci(quantile_ci(&driven.seen.latency, 0.95)),
            );
        }
    }
    agents_through(&scraper, seen);
    test.params.insert("offered_over_target".to_owned(), json!(MARGIN));
    if lab.by(false, true, true, true) {
        capacity(lab, test, seen, deployment.as_ref()).await?;
    }
    Ok(())
}

/// An agent that a scenario needs is there; on a deployment of our own it always is.
async fn must_have(lab: &Lab, deployment: Option<&Deployment>, agent: &str) -> Result<(), RunError> {
    let api = lab.api(deployment)?;
    match api.get(&format!("/v1/agents/{agent}")).await {
        Ok(_) => Ok(()),
        Err(crate::sut::SutError::Answer { status: 404, .. }) => Err(RunError::Usage(format!(
            "the deployment at {} has no agent `{agent}`: add a file with `name: {agent}`, `execution_mode: autonomous` and \
             `llm_config: {{provider: simulated, model: echo}}` to its agents",
            api.base()
        ))),
        Err(error) => Err(error.into()),
    }
}

/// The fewest healthy agents seen at any moment.
fn agents_through(scraper: &Scraper, seen: &mut Vec<Observation>) {
    let counts = scraper.series(HEALTHY);
    let least = counts.iter().map(|(_, healthy)| *healthy).fold(f64::INFINITY, f64::min);
    let source = "the platform's count of healthy agents, once a second through the whole load";
    for criterion in ["tier/agents-20", "tier/agents-50"] {
        seen.push(Observation::new(criterion, least, counts.len() as u64, source));
    }
}

/// The slowest and the fastest window as the interval of a rate.
fn rate_of(criterion: &'static str, seen: &Recording, target: f64, name: &str) -> Observation {
    let (slowest, trouble) = sustained(seen, target);
    let fastest = windows(seen).into_iter().fold(0.0, f64::max);
    let source =
        "completed per second in the slowest 5-s window; the interval is from the slowest to the fastest window";
    let observed = Observation::new(criterion, slowest, seen.ok, source)
        .ci(Some([slowest, fastest]))
        .shown_by(&[&format!("{name}.completed"), &format!("{name}-rate")]);
    match trouble {
        Some(trouble) if slowest >= target => observed.undecided(trouble),
        Some(trouble) => observed.remark(trouble),
        None => observed,
    }
}

/// As many tasks as it takes, from accept to the last end.
async fn capacity(
    lab: &mut Lab,
    test: &mut Test,
    seen: &mut Vec<Observation>,
    deployment: Option<&Deployment>,
) -> Result<(), RunError> {
    let (target, host) = lab.target(deployment)?;
    let load = Load::closed(target, 4, lab.seconds(2.0, 4.0, 20.0, 60.0));
    let driven = lab.drive(test, load, Batches::of(&host, &fleet::noop().0, BATCH), Purpose::capacity()).await?;
    lab.api(deployment)?.drained(DRAIN).await?;
    // From the first send to the last end: what was accepted and still waits is not done.
    let seconds = (clock::now() - driven.seen.began) as f64 / 1e9;
    let tasks = driven.seen.ok * BATCH as u64;
    let rate = tasks as f64 / seconds;
    let source = "batches of 200 from 4 connections, first send to the end of the last task";
    test.metrics.push(gain("tasks.capacity", "1/s", "rate", rate, tasks, source));
    if let Some(each) = driven.ledger.ms_per(Part::Sut, tasks) {
        test.metrics.push(cost(
            "tasks.capacity.cpu_per_task.sut",
            "ms",
            "mean",
            each,
            tasks,
            "schedstat of every thread",
        ));
    }
    let id = match lab.engine {
        Engine::Embedded => "stretch/tasks-embedded",
        Engine::Cluster => "stretch/tasks-cluster",
    };
    let remark = "one run on a machine that also makes the load";
    seen.push(Observation::new(id, rate, tasks, source).ci(Some([rate, rate])).remark(remark));
    Ok(())
}

/// A mode's load.
struct Cell {
    mode: &'static str,
    agent: &'static str,
    criterion: &'static str,
    rate: f64,
    sessions: u64,
    in_flight: usize,
}

const CELLS: [Cell; 4] = [
    Cell {
        mode: "collaborative",
        agent: "bench-team",
        criterion: "1.2/collaborative",
        rate: 5.0,
        sessions: 0,
        in_flight: 10,
    },
    Cell {
        mode: "autonomous",
        agent: "bench-worker",
        criterion: "1.2/autonomous",
        rate: 20.0,
        sessions: 0,
        in_flight: 50,
    },
    Cell {
        mode: "continuous",
        agent: "bench-support",
        criterion: "1.2/continuous",
        rate: 10.0,
        sessions: 40,
        in_flight: 20,
    },
    Cell {
        mode: "scheduled",
        agent: "bench-report",
        criterion: "1.2/scheduled",
        rate: 0.0,
        sessions: 0,
        in_flight: 15,
    },
];

/// Agents of the four modes whose calls go to the simulator; what is asked decides the number of calls.
fn agents_of_modes() -> Vec<fleet::AgentFile> {
    let team = "collaborative_config: {preferred_collaborators: [bench-worker, bench-helper], min_collaborators: 1}\n";
    let yearly = "schedule_config: {type: cron, cron: \"0 0 1 1 *\", task_data: {say: happy new year}}\n";
    vec![
        fleet::agent("bench-team", "collaborative", team),
        fleet::agent("bench-worker", "autonomous", ""),
        fleet::agent("bench-helper", "autonomous", ""),
        fleet::agent("bench-support", "continuous", ""),
        fleet::agent("bench-report", "scheduled", yearly),
    ]
}

async fn modes(lab: &mut Lab, test: &mut Test, seen: &mut Vec<Observation>) -> Result<(), RunError> {
    if lab.url.is_some() {
        for cell in &CELLS {
            seen.push(Observation::not_run(
                cell.criterion,
                "needs agents and a simulator of the run's own: leave out --url",
            ));
        }
        return Ok(());
    }
    let llm = Some(Llm { profile: "fast", ..Llm::default() });
    let deployment = lab.deploy(Plan { agents: agents_of_modes(), llm, ..Plan::default() }).await?;
    let (target, host) = lab.target(Some(&deployment))?;
    let window = lab.seconds(5.0, 10.0, 120.0, 600.0);
    let (mut failed, mut arrived) = (0, 0);
    for cell in &CELLS {
        let name = format!("modes.{}", cell.mode);
        let mut caller = Tasks::of(&host, cell.agent, lab.seed);
        caller.sessions = cell.sessions;
        let closed = lab.seconds(3.0, 5.0, 60.0, 120.0);
        let load = Load::closed(target, cell.in_flight, closed);
        let at_limit = Tasks { first_session: cell.sessions, ..caller.clone() };
        let driven = lab.drive(test, load, at_limit, Purpose::capacity()).await?;
        figures::of_load(test, lab, &format!("{name}.capacity"), &driven);
        count(&driven, &mut failed, &mut arrived);
        if cell.rate == 0.0 {
            let whole = driven.seen.ok == driven.seen.sent;
            let source = "requests in flight at once, all of which ended completed";
            let peak = driven.seen.peak_in_flight as f64;
            let observed = Observation::new(cell.criterion, peak, driven.seen.ok, source).ci(Some([peak, peak]));
            seen.push(if whole { observed } else { observed.undecided("not all of them completed") });
            continue;
        }
        let offered = cell.rate * MARGIN;
        let mut load = Load::open(target, offered, window, lab.seed_of(&name));
        load = load.warm_up(lab.seconds(1.0, 2.0, 30.0, 60.0));
        // Few arrivals: random gaps would leave every second window below the target by chance alone.
        load.pace = crate::load::Pace::Open { rate: offered, spacing: Spacing::Uniform, seed: 1 };
        let driven = lab.drive(test, load, caller, Purpose::target(1_000.0)).await?;
        figures::of_load(test, lab, &name, &driven);
        test.plots.push(plots::percentiles(&name, &format!("{} tasks", cell.mode), &driven.seen, None));
        test.plots.extend(plots::over_time(lab, &name, cell.mode, &driven.seen));
        count(&driven, &mut failed, &mut arrived);
        let observed = rate_of(cell.criterion, &driven.seen, cell.rate, &name);
        seen.push(match cell.sessions {
            0 => observed,
            sessions => in_order(&deployment, cell.agent, sessions, observed).await?,
        });
    }
    let (low, high) = (0.0, share_upper(failed, arrived) * 100.0);
    let source = "failed over arrived, all modes together; one-sided 95 % upper bound";
    let value = failed as f64 / arrived.max(1) as f64 * 100.0;
    seen.push(Observation::new("1.2/errors", value, arrived, source).ci(Some([low, high])));
    test.metrics.push(metric("modes.errors", "%", "share", value, arrived, source));
    test.notes.push(
        "shapes: collaborative is a plan, its steps and a summary; autonomous and scheduled one call; continuous one call \
         with its history. The model is the simulator's `fast` profile: 50 ms to the first token, 200 tokens/s"
            .to_owned(),
    );
    continuous_stretch(lab, test, seen).await
}

fn count(driven: &Driven<Tasks>, failed: &mut u64, arrived: &mut u64) {
    *failed += driven.seen.failed() + driven.seen.refused;
    *arrived += driven.seen.sent;
}

/// Every conversation has its messages in the order in which they were sent, each once.
async fn in_order(
    deployment: &Deployment,
    agent: &str,
    sessions: u64,
    observed: Observation,
) -> Result<Observation, RunError> {
    let mut wrong = 0;
    for session in 0..sessions {
        let path = format!("/v1/sessions/{agent}:s{session}?limit=1000");
        let Ok(history) = deployment.api()?.get(&path).await else { continue };
        let numbers = numbers_of(&history);
        wrong += u64::from(numbers.windows(2).any(|pair| pair[1] <= pair[0]));
    }
    Ok(match wrong {
        0 => observed.remark(format!("order held in {sessions} conversations")),
        wrong => observed.undecided(format!("{wrong} of {sessions} conversations are out of order")),
    })
}

/// The numbers at the ends of what users said.
fn numbers_of(history: &Value) -> Vec<u64> {
    let messages = history["history"].as_array().into_iter().flatten();
    let said = messages.filter_map(|row| {
        let message = if row["message"].is_object() { &row["message"] } else { row };
        (message["role"] == "user").then(|| message["content"].as_str().unwrap_or_default().to_owned())
    });
    said.filter_map(|text| text.rsplit(' ').next()?.parse().ok()).collect()
}

/// 2,000 messages per second over 200 conversations of one agent.
async fn continuous_stretch(lab: &mut Lab, test: &mut Test, seen: &mut Vec<Observation>) -> Result<(), RunError> {
    const RATE: f64 = 2_000.0;
    let agents = vec![fleet::agent_of("bench-many", "continuous", "simulated", "echo", "")];
    let deployment = lab.deploy(Plan { agents, ..Plan::default() }).await?;
    let (target, host) = lab.target(Some(&deployment))?;
    let mut load = Load::open(target, RATE * 1.02, lab.seconds(2.0, 5.0, 30.0, 60.0), lab.seed_of("continuous"));
    load.pace = crate::load::Pace::Open { rate: RATE * 1.02, spacing: Spacing::Uniform, seed: 1 };
    let mut caller = Tasks::of(&host, "bench-many", lab.seed);
    caller.sessions = 200;
    let driven = lab.drive(test, load, caller, Purpose::capacity()).await?;
    figures::of_load(test, lab, "modes.continuous.stretch", &driven);
    let observed = rate_of("stretch/continuous", &driven.seen, RATE, "modes.continuous.stretch");
    seen.push(in_order(&deployment, "bench-many", 200, observed).await?);
    Ok(())
}
