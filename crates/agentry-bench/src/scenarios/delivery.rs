//! 3.2 Delivery guarantees: faults under load, then everything that was acknowledged is looked for.
//!
//! Every attempt is on our disk before it is sent. After each fault: heal, wait until nothing is open, repeat what nobody
//! knows the outcome of under the same key, wait again, and compare three witnesses: our history, the platform's tasks,
//! and the simulator's own ledger of calls.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::Found;
use super::figures::{self, cost, metric};
use super::nemesis::{Bite, Nemesis, inject};
use super::observe::Observation;
use super::plots;
use super::promises::Promises;
use crate::check::{History, QueueReport, check_queue};
use crate::faults::Link;
use crate::load::{Load, clock};
use crate::model::{Fault, Invariant, Test};
use crate::run::{Lab, Purpose, RunError, gates};
use crate::sut::{Deployment, Llm, Member, Plan, SutError, fleet};

/// Tasks per second during a fault.
const RATE: f64 = 50.0;
/// How long everything may take to end after the last fault is healed (I1).
const DEADLINE: Duration = Duration::from_secs(60);
/// The agent whose calls are the effects.
const AGENT: &str = "bench-effect";
/// The agent for a fault that must fall between the calls of one task: a team plans, works and sums up.
const TEAM: &str = "bench-team";
/// Milliseconds that each call takes: so that some are under way when the fault comes.
const CALL_MS: u32 = 40;
/// The rate is back when this part of it ends in a second.
const BACK: f64 = 0.9;

/// What a fault came to.
struct Cycle {
    nemesis: Nemesis,
    bite: Bite,
    report: QueueReport,
    /// Calls that the simulator answered whole more than once under one id, and requests that became two tasks.
    effects_twice: u64,
    /// Calls that began after a frozen worker was let go and that no ledger of the platform has, of so many.
    late_calls: Option<(u64, u64)>,
    /// Tasks that did not end in time.
    open: u64,
    /// Seconds from the fault to the first task that ended after it.
    first_success: Option<f64>,
    /// Seconds from the heal to the rate and the backlog being as before.
    recovered: Option<f64>,
}

/// Runs each fault of the engine in turn.
///
/// # Errors
/// When the platform does not start or the harness does not work.
pub async fn run(lab: &mut Lab) -> Result<Found, RunError> {
    let mut test = lab.test("3.2-delivery", "Faults under 50 tasks/s, then a full drain", "instant");
    if lab.url.is_some() {
        let why = "needs processes of its own, which it kills: leave out --url";
        let seen =
            ["3.2/loss", "3.2/unexpected", "3.2/duplicates", "3.2/recovery"].map(|id| Observation::not_run(id, why));
        return Ok(Found { tests: vec![test], seen: seen.to_vec() });
    }
    test.params.insert("rate".to_owned(), json!(RATE));
    let mut cycles = Vec::new();
    let nemeses = nemeses(lab);
    for round in 0..lab.by(1, 1, 10, 100) {
        for nemesis in nemeses.iter().copied() {
            lab.progress.tick(nemesis.words());
            cycles.push(cycle(lab, &mut test, nemesis, round).await?);
        }
    }
    let seen = judge(lab, &mut test, &cycles);
    Ok(Found { tests: vec![test], seen })
}

/// The faults that were asked for, else those of the profile.
fn nemeses(lab: &Lab) -> Vec<Nemesis> {
    match (lab.only_faults.is_empty(), lab.by(true, false, false, false)) {
        (false, _) => lab.only_faults.clone(),
        (true, true) => vec![Nemesis::ConsumerKilled],
        (true, false) => Nemesis::of(lab.engine),
    }
}

/// What is deployed for a fault, and who is asked. Where work must be under way between two calls of a task, each call
/// takes a while.
fn plan(nemesis: Nemesis) -> (Plan, &'static str) {
    let members = vec![
        Member::new("api", "api,scheduler", ""),
        Member::new("worker-1", "worker", ""),
        Member::new("worker-2", "worker", ""),
    ];
    let retries = "retry_config: {max_retries: 5, retry_delay_seconds: 1}\n";
    let team = "collaborative_config: {preferred_collaborators: [bench-effect], min_collaborators: 1}\n";
    let agents = vec![
        fleet::agent(AGENT, "autonomous", retries),
        fleet::agent(TEAM, "collaborative", &format!("{retries}{team}")),
    ];
    let (profile, asked) =
        if nemesis == Nemesis::WorkerFrozen { ("fast", TEAM) } else { (Llm::default().profile, AGENT) };
    let llm = Some(Llm { profile, ..Llm::default() });
    (Plan { agents, llm, members, ..Plan::default() }, asked)
}

async fn cycle(lab: &mut Lab, test: &mut Test, nemesis: Nemesis, round: u32) -> Result<Cycle, RunError> {
    let (plan, agent) = plan(nemesis);
    let mut deployment = lab.deploy(plan).await?;
    let link = Link::start(deployment.target()?, lab.seed_of(nemesis.id())).await;
    let link = link.map_err(|error| SutError::Server(format!("no fault proxy: {error}")))?;
    let name = format!("{}-{round}", nemesis.id());
    let file = format!("history-{name}.jsonl");
    let history = History::create(&lab.out.join(&file))?;
    test.raw.push(file);
    let window = lab.seconds(7.0, 12.0, 60.0, 60.0) + nemesis.lasts();
    let mut load = Load::open(link.address(), RATE, window, lab.seed_of(&name));
    load.patience = Duration::from_secs(10);
    let caller = Promises::new(&link.address().to_string(), agent, CALL_MS, history);
    let mut servers = lab.take_servers();
    let purpose = Purpose { target_ms: Some(60_000.0), capacity: false };
    let quiet = lab.seconds(2.0, 4.0, 20.0, 20.0);
    let (driven, bite) = tokio::join!(
        lab.drive(test, load, caller, purpose),
        inject(nemesis, &mut deployment, servers.as_mut(), &link, quiet),
    );
    lab.give_servers(servers);
    let (driven, bite) = (driven?, bite?);
    link.heal();
    let Promises { attempts, acknowledged, unknown, trouble, history, .. } = driven.caller;
    if let Some(error) = trouble {
        return Err(error.into());
    }
    history.end()?;
    figures_of(test, lab, &name, &driven.seen);
    let open = settle(&deployment, agent, &acknowledged, &unknown).await?;
    let tasks = deployment.api()?.all(&format!("/v1/tasks?agent={agent}")).await?;
    let ended = tasks.iter().filter(|task| task["finished_at"].is_string());
    let delivered: Vec<String> = ended.clone().filter_map(key_of).collect();
    let report = check_queue(&attempts, &acknowledged, delivered.iter().map(String::as_str));
    let calls = calls(&deployment)?;
    let effects_twice = twice(&calls, &tasks);
    let late_calls = match nemesis {
        Nemesis::WorkerFrozen => Some(unbooked_after(bite.healed, &calls, &deployment).await?),
        _ => None,
    };
    let ends: Vec<u64> = ended.filter_map(|task| moment_of(&task["finished_at"])).collect();
    let born: Vec<u64> = tasks.iter().filter_map(|task| moment_of(&task["created_at"])).collect();
    let first_success = ends.iter().filter(|at| **at > bite.injected).min().map(|at| (at - bite.injected) as f64 / 1e9);
    let recovered = back(&born, &ends, bite.healed).map(|at| at.saturating_sub(bite.healed) as f64 / 1e9);
    Ok(Cycle { nemesis, bite, report, effects_twice, late_calls, open, first_success, recovered })
}

fn figures_of(test: &mut Test, lab: &Lab, name: &str, seen: &crate::load::Recording) {
    test.plots.extend(plots::over_time(lab, name, name, seen));
    let n = seen.offered;
    let by = "load generator";
    test.metrics.push(metric(&format!("{name}.acknowledged"), "count", "count", seen.ok as f64, n, by));
    test.metrics.push(cost(&format!("{name}.unknown"), "count", "count", seen.failed() as f64, n, by));
    test.metrics.extend(figures::latencies(&format!("{name}.accept"), &seen.latency, "intended start to durable"));
}

/// Waits until nothing is open, asks again for what nobody knows the outcome of, and waits again. Tasks still open.
async fn settle(
    deployment: &Deployment,
    agent: &str,
    acknowledged: &BTreeSet<String>,
    unknown: &BTreeSet<String>,
) -> Result<u64, RunError> {
    let api = deployment.api()?;
    if api.drained(DEADLINE).await.is_err() {
        return Ok(open(api).await);
    }
    for key in unknown.difference(acknowledged) {
        let body = Promises::body(agent, CALL_MS, key);
        let request = api.client().post(format!("{}/v1/tasks", api.base())).header("idempotency-key", key);
        // It is a second try of the same request; whether it is refused does not matter, only that it makes no second task.
        let _ = request.header("content-type", "application/json").body(body).send().await;
    }
    match api.drained(DEADLINE).await {
        Ok(()) => Ok(0),
        Err(_) => Ok(open(api).await),
    }
}

async fn open(api: &crate::sut::Api) -> u64 {
    let metrics = api.metrics().await.unwrap_or_default();
    metrics.sum("agentry_tasks").map_or(u64::MAX, |open| open as u64)
}

/// The key that a task's input begins with.
fn key_of(task: &Value) -> Option<String> {
    Some(task["input"].as_str()?.split(' ').next()?.to_owned())
}

/// A moment of the API on the monotonic clock.
fn moment_of(text: &Value) -> Option<u64> {
    let stamp: jiff::Timestamp = text.as_str()?.parse().ok()?;
    let ago = clock::wall_micros() - stamp.as_microsecond();
    clock::now().checked_sub(u64::try_from(ago).ok()?.checked_mul(1_000)?)
}

/// Calls that the simulator answered whole, by its own ledger.
fn calls(deployment: &Deployment) -> Result<Vec<Value>, RunError> {
    let path = deployment.llm_ledger();
    let text = std::fs::read_to_string(&path).map_err(|error| RunError::File { path, error })?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines.filter(|line| line["end"] == "completed").collect())
}

/// Effects that happened twice: one call id that the simulator answered whole more than once, and one key that became
/// two tasks.
fn twice(calls: &[Value], tasks: &[Value]) -> u64 {
    let mut answered: BTreeMap<&str, u64> = BTreeMap::new();
    for call in calls {
        *answered.entry(call["request_id"].as_str().unwrap_or_default()).or_default() += 1;
    }
    let mut keys: BTreeMap<String, u64> = BTreeMap::new();
    for key in tasks.iter().filter_map(key_of) {
        *keys.entry(key).or_default() += 1;
    }
    answered.values().chain(keys.values()).map(|count| count - 1).sum()
}

/// Calls that began after a moment and that the platform's ledger does not have, and all that began after it. A worker
/// whose work was taken over may end the call that it was in, which nobody books; beginning another one is forbidden to it.
async fn unbooked_after(moment: u64, calls: &[Value], deployment: &Deployment) -> Result<(u64, u64), RunError> {
    let since = clock::wall_micros() - i64::try_from((clock::now() - moment) / 1_000).unwrap_or(0);
    let rows = deployment.api()?.all("/v1/usage/calls").await?;
    let booked: BTreeSet<&str> = rows.iter().filter_map(|row| row["call"].as_str()).collect();
    let began = calls.iter().filter(|call| call["t_us"].as_i64().is_some_and(|at| at > since));
    let unbooked = began.clone().filter(|call| !booked.contains(call["request_id"].as_str().unwrap_or_default()));
    Ok((unbooked.count() as u64, began.count() as u64))
}

/// The first moment from the heal on at which, over a second, tasks ended at 90 % of their rate and no more than a
/// second's arrivals were open at its end.
fn back(born: &[u64], ends: &[u64], healed: u64) -> Option<u64> {
    const STEP: u64 = clock::SECOND / 10;
    let last = *ends.iter().max()?;
    let within =
        |moments: &[u64], from: u64, to: u64| moments.iter().filter(|at| (from..to).contains(*at)).count() as f64;
    let mut at = healed;
    while at + clock::SECOND <= last {
        let to = at + clock::SECOND;
        let came = within(born, at, to);
        let open = within(born, 0, to) - within(ends, 0, to);
        if came >= BACK * RATE * 0.7 && within(ends, at, to) >= BACK * came && open <= RATE {
            return Some(at);
        }
        at += STEP;
    }
    None
}

fn judge(lab: &mut Lab, test: &mut Test, cycles: &[Cycle]) -> Vec<Observation> {
    let sum = |of: fn(&Cycle) -> u64| cycles.iter().map(of).sum::<u64>();
    let acknowledged = sum(|cycle| cycle.report.acknowledged);
    let delivered = sum(|cycle| cycle.report.delivered);
    for (index, cycle) in cycles.iter().enumerate() {
        let bite = &cycle.bite;
        gates::of_fault(&mut lab.gates, &test.id, cycle.nemesis.id(), &bite.proof, bite.effective);
        lab.faults.push(Fault {
            id: format!("{}-{index}", cycle.nemesis.id()),
            kind: cycle.nemesis.kind().to_owned(),
            test: test.id.clone(),
            target: cycle.nemesis.words().to_owned(),
            t_inject: lab.time(bite.injected),
            t_effect: bite.effective.then(|| lab.time(bite.injected)),
            t_heal: Some(lab.time(bite.healed)),
            t_recovered: cycle.recovered.map(|seconds| lab.time(bite.healed) + seconds),
            effective: bite.effective,
            proof: bite.proof.clone(),
        });
    }
    test.metrics.push(cost(
        "delivery.duplicated",
        "count",
        "count",
        sum(|cycle| cycle.report.duplicated) as f64,
        acknowledged,
        "tasks of one key beyond the first",
    ));
    test.metrics.push(metric(
        "delivery.recovered",
        "count",
        "count",
        sum(|cycle| cycle.report.recovered) as f64,
        acknowledged,
        "came out though nobody heard the acknowledgement",
    ));
    invariants(lab, test, cycles);
    let n = cycles.len() as u64;
    let ledger = "history of the harness against the platform's tasks after a full drain";
    let effects = "ids in the simulator's own ledger, and tasks of one idempotency key";
    let worst = |of: fn(&Cycle) -> Option<f64>, some: fn(Nemesis) -> bool| {
        let times: Vec<Option<f64>> = cycles.iter().filter(|cycle| some(cycle.nemesis)).map(of).collect();
        let never = times.iter().any(Option::is_none);
        (times.len() as u64, if never { f64::INFINITY } else { times.into_iter().flatten().fold(0.0, f64::max) })
    };
    let timed = |id, of, some, source: &str| {
        let (n, worst) = worst(of, some);
        match n {
            0 => Observation::not_run(id, "no such fault in this run"),
            _ if worst.is_infinite() => {
                Observation::new(id, DEADLINE.as_secs_f64(), n, source).remark("at least once it did not come back")
            }
            _ => Observation::new(id, worst, n, source),
        }
    };
    vec![
        Observation::new("3.2/loss", sum(|cycle| cycle.report.lost) as f64, acknowledged, ledger).shown_by(&["I2"]),
        Observation::new("3.2/unexpected", sum(|cycle| cycle.report.unexpected) as f64, delivered, ledger)
            .shown_by(&["I3"]),
        Observation::new("3.2/duplicates", sum(|cycle| cycle.effects_twice) as f64, acknowledged, effects)
            .shown_by(&["I9"]),
        timed(
            "3.2/recovery",
            |cycle| cycle.recovered,
            |_| true,
            "heal to 90 % of the rate over a second with the backlog gone",
        )
        .remark(format!("{n} faults")),
        timed(
            "stretch/recovery-process",
            |cycle| cycle.first_success,
            Nemesis::is_process,
            "kill to the first task that ended after it",
        ),
        timed(
            "stretch/recovery-server",
            |cycle| cycle.recovered,
            Nemesis::is_server,
            "the broker answers again to the rate being back",
        ),
    ]
}

fn invariants(lab: &mut Lab, test: &Test, cycles: &[Cycle]) {
    let sum = |of: &dyn Fn(&Cycle) -> u64| cycles.iter().map(of).sum::<u64>();
    let some = |of: &dyn Fn(&Cycle) -> Vec<String>| -> Vec<String> {
        cycles.iter().flat_map(of).take(Invariant::MAX_EXAMPLES).collect()
    };
    let mut add = |name: &str, text: &str, valid: bool, counts: &[(&str, u64)], examples: Vec<String>| {
        lab.safety.push(Invariant {
            invariant: name.to_owned(),
            text: text.to_owned(),
            test: test.id.clone(),
            valid: Some(valid),
            counts: counts.iter().map(|(key, count)| ((*key).to_owned(), *count)).collect(),
            examples,
        });
    };
    let acknowledged = sum(&|cycle| cycle.report.acknowledged);
    let open = sum(&|cycle| cycle.open);
    add(
        "I1",
        "every accepted task reaches exactly one terminal state",
        open == 0,
        &[("acknowledged", acknowledged), ("open", open)],
        Vec::new(),
    );
    let lost = sum(&|cycle| cycle.report.lost);
    let examples = some(&|cycle| cycle.report.lost_examples.clone());
    let attempts = sum(&|cycle| cycle.report.attempts);
    let recovered = sum(&|cycle| cycle.report.recovered);
    let counts = [("attempts", attempts), ("acknowledged", acknowledged), ("lost", lost), ("recovered", recovered)];
    add("I2", "no result is lost after the acknowledgement", lost == 0, &counts, examples);
    let unexpected = sum(&|cycle| cycle.report.unexpected);
    let examples = some(&|cycle| cycle.report.unexpected_examples.clone());
    let delivered = sum(&|cycle| cycle.report.delivered);
    add(
        "I3",
        "nothing comes from nowhere",
        unexpected == 0,
        &[("delivered", delivered), ("unexpected", unexpected)],
        examples,
    );
    let double = sum(&|cycle| cycle.effects_twice);
    let examples = some(&|cycle| cycle.report.duplicated_examples.clone());
    add(
        "I9",
        "one idempotency key is one task, one call id one answer",
        double == 0,
        &[("acknowledged", acknowledged), ("twice", double)],
        examples,
    );
    let late: Vec<(u64, u64)> = cycles.iter().filter_map(|cycle| cycle.late_calls).collect();
    if !late.is_empty() {
        let (unbooked, calls) = late.iter().fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1));
        add(
            "I8",
            "a worker whose task was taken over begins nothing more for it",
            unbooked == 0,
            &[("calls after it was let go", calls), ("unbooked", unbooked)],
            Vec::new(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_back_when_it_is() {
        let second = clock::SECOND;
        // Fifty a second for ten seconds; nothing ends from second 3 to 6, then everything that waited at once.
        let born: Vec<u64> = (0..500).map(|n| n * second / 50).collect();
        let ends: Vec<u64> =
            born.iter().map(|at| if (3 * second..6 * second).contains(at) { 6 * second } else { *at } + 1).collect();
        let at = back(&born, &ends, 4 * second).unwrap();
        assert!((5 * second..=6 * second + second / 10).contains(&at), "{at}");
        assert_eq!(back(&born, &ends[..150], 4 * second), None);
    }

    #[test]
    fn a_moment_of_the_api_is_one_of_ours() {
        let text = jiff::Timestamp::now().to_string();
        let at = moment_of(&json!(text)).unwrap();
        assert!(clock::now() - at < clock::SECOND);
        assert_eq!(key_of(&json!({"input": "k12 [[sleep:40]]"})).as_deref(), Some("k12"));
    }
}
