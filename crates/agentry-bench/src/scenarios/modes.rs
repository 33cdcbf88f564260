//! 1.2 Concurrent execution, and the rows of the verdict tables that are about the whole platform under load: number of
//! agents, throughput.

use agentry_lab::LabError;
use serde_json::{Value, json};

use super::callers::{BatchCaller, TaskCaller};
use super::experiment::{Experiment, once};
use super::loads::{Drawing, LoadRow, Rate, Reading, error_share};
use super::skeleton;
use crate::check::check_session;
use crate::run::{Lab, LoadResult, RunError};
use crate::sample::Scraper;
use crate::sut::{Deployment, Llm, Plan, fleet};
use crate::verdict::Observation;

/// Load offered over what a criterion asks for: at the very target every second window of random arrivals is below it.
const MARGIN: f64 = 1.25;
/// Tasks of a batch when the limit is looked for.
const BATCH: usize = 200;
const WARM_UP: [f64; 4] = [1.0, 5.0, 30.0, 60.0];
const SUSTAINED: &str = "completed per second in the slowest 5-s window";
const EVERYTHING: &[Drawing] = &[Drawing::Percentiles, Drawing::OverTime, Drawing::Processors];

const HUNDRED: LoadRow = LoadRow::new("tasks.100", Rate::Random(100.0 * MARGIN), [10.0, 15.0, 120.0, 600.0])
    .warm_up(WARM_UP)
    .target(100.0)
    .draws(EVERYTHING)
    .decides(&[("tier/throughput-100", Reading::Sustained(100.0), SUSTAINED)]);
const AT_625: &str = "intended start to the answer that carries the result, at 625/s";
const FIVE_HUNDRED: LoadRow = LoadRow::new("tasks.500", Rate::Random(500.0 * MARGIN), [10.0, 15.0, 120.0, 600.0])
    .warm_up(WARM_UP)
    .target(100.0)
    .draws(EVERYTHING)
    .decides(&[
        ("tier/throughput-500", Reading::Sustained(500.0), SUSTAINED),
        ("stretch/tasks-p95-embedded", Reading::Latency(0.95), AT_625),
        ("stretch/tasks-p95-cluster", Reading::Latency(0.95), AT_625),
    ]);
const BATCHES: LoadRow = LoadRow::new("tasks.capacity", Rate::Callers(4), [2.0, 4.0, 20.0, 60.0]);
const CALLED: LoadRow = LoadRow::new("tasks.called", Rate::Callers(4), [2.0, 4.0, 20.0, 60.0]);
const SINGLES: LoadRow = LoadRow::new("tasks.singles", Rate::Callers(64), [2.0, 4.0, 20.0, 60.0]);
/// 2,000 messages per second over 200 conversations of one agent.
const CONVERSATIONS: LoadRow = LoadRow::new(
    "modes.continuous.stretch",
    Rate::Even(2_000.0 * 1.02),
    [2.0, 5.0, 30.0, 60.0],
)
.decides(&[("stretch/continuous", Reading::Sustained(2_000.0), SUSTAINED)]);

/// A mode: its agent, the conversations that its tasks are spread over, at its limit and at its rate.
struct Mode {
    agent: &'static str,
    sessions: u64,
    limit: LoadRow,
    target: Option<LoadRow>,
}

/// A mode's closed loop.
const fn limit(name: &'static str, callers: usize) -> LoadRow {
    LoadRow::new(name, Rate::Callers(callers), [3.0, 5.0, 60.0, 120.0])
}

/// A mode at its rate.
const fn target(name: &'static str, rate: f64, decides: &'static [(&'static str, Reading, &'static str)]) -> LoadRow {
    LoadRow::new(name, Rate::Even(rate * MARGIN), [5.0, 10.0, 120.0, 600.0])
        .warm_up([1.0, 2.0, 30.0, 60.0])
        .target(1_000.0)
        .draws(&[Drawing::Percentiles, Drawing::OverTime])
        .decides(decides)
}

#[rustfmt::skip]
const MODES: [Mode; 4] = [
    Mode { agent: "bench-team", sessions: 0, limit: limit("modes.collaborative.capacity", 10),
        target: Some(target("modes.collaborative", 5.0, &[("1.2/collaborative", Reading::Sustained(5.0), SUSTAINED)])) },
    Mode { agent: "bench-worker", sessions: 0, limit: limit("modes.autonomous.capacity", 50),
        target: Some(target("modes.autonomous", 20.0, &[("1.2/autonomous", Reading::Sustained(20.0), SUSTAINED)])) },
    Mode { agent: "bench-support", sessions: 40, limit: limit("modes.continuous.capacity", 20),
        target: Some(target("modes.continuous", 10.0, &[("1.2/continuous", Reading::Sustained(10.0), SUSTAINED)])) },
    Mode { agent: "bench-report", sessions: 0, limit: limit("modes.scheduled.capacity", 15), target: None },
];

/// Runs throughput at the tables' rates, the four modes at theirs, and looks for the limit.
pub(super) async fn run(x: &mut Experiment<'_>) -> Result<(), RunError> {
    throughput(x).await?;
    if x.by([false, true, true, true]) {
        modes(x).await?;
    }
    Ok(())
}

/// A deployment of 50 agents of which one does no-op tasks, at 100 and 500 tasks per second and at its limit.
async fn throughput(x: &mut Experiment<'_>) -> Result<(), RunError> {
    let mut agents = fleet::mixed(48);
    agents.push(fleet::noop());
    agents.push(fleet::agent("bench-called", "autonomous", ""));
    let deployment = match x.lab.url {
        Some(_) => None,
        None => Some(x.deploy(Plan { agents, llm: Some(Llm::default()), ..Plan::default() }).await?),
    };
    let deployment = deployment.as_ref();
    let noop = fleet::noop().0;
    must_have(x.lab, deployment, &noop).await?;
    let api = x.api(deployment)?;
    let scraper = Scraper::start(api.client().clone(), api.base());
    x.test.params.insert("offered_over_target".to_owned(), json!(MARGIN));
    let is_longer = x.by([false, true, true, true]);
    for row in [Some(HUNDRED), is_longer.then_some(FIVE_HUNDRED)].into_iter().flatten() {
        x.drive(&row, deployment, |host, seed| TaskCaller::of(host, &noop, seed)).await?;
    }
    // The fewest healthy agents seen at any moment.
    let counts = scraper.series("agentry_agents{state=\"healthy\"}");
    let least = counts.iter().map(|(_, healthy)| *healthy).fold(f64::INFINITY, f64::min);
    let source = "the platform's count of healthy agents, once a second through the whole load";
    for criterion in ["tier/agents-20", "tier/agents-50"] {
        x.observe(criterion, Observation::exact(least, counts.len() as u64, source));
    }
    if is_longer {
        limits(x, deployment).await?;
    }
    Ok(())
}

/// An agent that a scenario needs is there; on a deployment of our own it always is.
async fn must_have(lab: &Lab, deployment: Option<&Deployment>, agent: &str) -> Result<(), RunError> {
    let api = lab.api(deployment)?;
    match api.get(&format!("/v1/agents/{agent}")).await {
        Ok(_) => Ok(()),
        Err(LabError::Answer { status: 404, .. }) => Err(RunError::Usage(format!(
            "the deployment at {} has no agent `{agent}`: add a file with `name: {agent}`, `execution_mode: autonomous` and \
             `llm_config: {{provider: simulated, model: echo}}` to its agents",
            api.base()
        ))),
        Err(error) => Err(error.into()),
    }
}

/// The most that the machine gives: in batches, beside a bare skeleton; one by one; and with a model call over HTTP each.
async fn limits(x: &mut Experiment<'_>, deployment: Option<&Deployment>) -> Result<(), RunError> {
    let noop = fleet::noop().0;
    let bare = if x.lab.url.is_none() { Some(skeleton::rate(x.lab).await?) } else { None };
    let batches = |host: &str, _| BatchCaller::of(host, &noop, BATCH);
    let rate = x.drive_to_end(&BATCHES, deployment, BATCH, batches).await?;
    x.observe_each(&["stretch/tasks-embedded", "stretch/tasks-cluster"], &rate);
    if let (Some(bare), Some(value)) = (bare, rate.value) {
        let source = skeleton::source(x.lab.engine);
        x.benefit("skeleton.rate", ("1/s", "rate"), bare, rate.n, source);
        let share = once(value / bare * 100.0, rate.n, source);
        x.observe("stretch/tasks-skeleton", share.shown_by(&["skeleton.rate", "tasks.capacity"]));
    }
    let singles = |host: &str, seed| TaskCaller { wait: 0, ..TaskCaller::of(host, &noop, seed) };
    let rate = x.drive_to_end(&SINGLES, deployment, 1, singles).await?;
    x.observe_each(&["stretch/singles-embedded", "stretch/singles-cluster"], &rate);
    if x.lab.url.is_none() {
        let called = |host: &str, _| BatchCaller::of(host, "bench-called", BATCH);
        let rate = x.drive_to_end(&CALLED, deployment, BATCH, called).await?;
        x.observe("stretch/tasks-called", rate);
    }
    Ok(())
}

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

async fn modes(x: &mut Experiment<'_>) -> Result<(), RunError> {
    if x.lab.url.is_some() {
        let decided = ["1.2/collaborative", "1.2/autonomous", "1.2/continuous", "1.2/scheduled"];
        x.not_run(&decided, "needs agents and a simulator of the run's own: leave out --url");
        return Ok(());
    }
    let llm = Some(Llm { profile: "fast", ..Llm::default() });
    let deployment = x.deploy(Plan { agents: agents_of_modes(), llm, ..Plan::default() }).await?;
    let (mut failed, mut arrived) = (0, 0);
    let mut add = |driven: &LoadResult<TaskCaller>| {
        failed += driven.seen.failed() + driven.seen.refused;
        arrived += driven.seen.sent;
    };
    for mode in &MODES {
        let tasks = |host: &str, seed| TaskCaller { sessions: mode.sessions, ..TaskCaller::of(host, mode.agent, seed) };
        // Another load of the same agent has conversations of its own, and its own order in them.
        let at_limit = |host: &str, seed| TaskCaller { first_session: mode.sessions, ..tasks(host, seed) };
        let driven = x.drive(&mode.limit, &deployment, at_limit).await?;
        add(&driven);
        let Some(row) = &mode.target else {
            let source = "requests in flight at once, all of which ended completed";
            let peak = once(driven.seen.peak_in_flight as f64, driven.seen.ok, source);
            let is_whole = driven.seen.ok == driven.seen.sent;
            x.observe("1.2/scheduled", if is_whole { peak } else { peak.undecided("not all of them completed") });
            continue;
        };
        add(&x.drive(row, &deployment, tasks).await?);
        check_order(x, &deployment, mode.agent, mode.sessions).await?;
    }
    let source = "failed over arrived, all modes together; one-sided 95 % upper bound";
    let mut seen = error_share(failed, arrived, source);
    seen.ci95 = seen.ci95.map(|[_, high]| [0.0, high]);
    x.figure("modes.errors", ("%", "share"), seen.value.unwrap_or(f64::NAN), arrived, source);
    x.observe("1.2/errors", seen);
    x.note(
        "shapes: collaborative is a plan, its steps and a summary; autonomous and scheduled one call; continuous one call \
         with its history. The model is the simulator's `fast` profile: 50 ms to the first token, 200 tokens/s",
    );
    let agents = vec![fleet::agent_of("bench-many", "continuous", "simulated", "echo", "")];
    let deployment = x.deploy(Plan { agents, ..Plan::default() }).await?;
    let caller = |host: &str, seed| TaskCaller { sessions: 200, ..TaskCaller::of(host, "bench-many", seed) };
    x.drive(&CONVERSATIONS, &deployment, caller).await?;
    check_order(x, &deployment, "bench-many", 200).await
}

/// Every conversation has its messages in the order in which they were sent, each once; said of what was observed last.
async fn check_order(
    x: &mut Experiment<'_>,
    deployment: &Deployment,
    agent: &str,
    sessions: u64,
) -> Result<(), RunError> {
    if sessions == 0 {
        return Ok(());
    }
    let mut wrong = 0;
    for session in 0..sessions {
        let path = format!("/v1/sessions/{agent}:s{session}?limit=1000");
        let Ok(history) = deployment.api()?.get(&path).await else { continue };
        let said = said_by_users(&history);
        let mut sent = said.clone();
        sent.sort_by_key(|number| (number.len(), number.clone()));
        sent.dedup();
        wrong += u64::from(!check_session(&sent, &said).is_valid());
    }
    let Some(last) = x.seen.pop() else { return Ok(()) };
    x.seen.push(match wrong {
        0 => last.remark(format!("order held in {sessions} conversations")),
        wrong => last.undecided(format!("{wrong} of {sessions} conversations are out of order")),
    });
    Ok(())
}

/// The numbers at the ends of what users said.
fn said_by_users(history: &Value) -> Vec<String> {
    let messages = history["history"].as_array().into_iter().flatten();
    let said = messages.filter_map(|row| {
        let message = if row["message"].is_object() { &row["message"] } else { row };
        (message["role"] == "user").then(|| message["content"].as_str().unwrap_or_default())
    });
    let numbers = said.filter_map(|text| text.rsplit(' ').next());
    numbers.filter(|number| number.parse::<u64>().is_ok()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_said_is_read_from_both_forms_of_a_history() {
        let history = json!({"history": [
            {"message": {"role": "user", "content": "task 7"}},
            {"role": "assistant", "content": "8"},
            {"role": "user", "content": "task 10"},
        ]});
        assert_eq!(said_by_users(&history), ["7", "10"]);
    }
}
