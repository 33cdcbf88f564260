//! 3.2 Delivery guarantees: faults under load, then everything that was acknowledged is looked for.
//!
//! Every attempt is on our disk before it is sent. After each fault: heal, wait until nothing is open, repeat what nobody
//! knows the outcome of under the same key, wait again, and compare three witnesses: our history, the platform's tasks,
//! and the simulator's own ledger of calls.

use std::collections::BTreeSet;
use std::time::Duration;

use agentry_lab::{FaultProxy, LabError};
use serde_json::{Value, json};

use super::experiment::Experiment;
use super::injection::{FaultEvidence, inject};
use super::keyed_tasks::KeyedTaskCaller;
use super::plots;
use super::tasks::{id_of, is_whole, repeated, simulated_calls};
use crate::catalogue::Nemesis;
use crate::check::{History, QueueReport, check_queue};
use crate::load::{Load, Recording, clock};
use crate::model::Fault;
use crate::run::{Purpose, RunError, gates};
use crate::sut::{Api, Deployment, Llm, Member, Plan, fleet};
use crate::verdict::Observation;

/// Tasks per second during a fault.
const RATE: f64 = 50.0;
/// Longest wait for the end of all tasks after the last fault is healed (I1).
const DEADLINE: Duration = Duration::from_secs(60);
/// The agent whose calls are the effects.
const AGENT: &str = "bench-effect";
/// The agent for a fault that must fall between the calls of one task: a team plans, works and sums up.
const TEAM: &str = "bench-team";
/// Milliseconds that each call takes: so that some are under way when the fault comes.
const CALL_MS: u32 = 40;
/// The rate is back when this part of it ends in a second.
const BACK: f64 = 0.9;

/// Result of a fault.
struct FaultCycle {
    nemesis: Nemesis,
    evidence: FaultEvidence,
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
pub(super) async fn run(x: &mut Experiment<'_>) -> Result<(), RunError> {
    x.test.params.insert("rate".to_owned(), json!(RATE));
    let mut cycles = Vec::new();
    // Those that were asked for, else those of the profile.
    let nemeses = match (x.lab.only_faults.is_empty(), x.by([true, false, false, false])) {
        (false, _) => x.lab.only_faults.clone(),
        (true, true) => vec![Nemesis::ConsumerKilled],
        (true, false) => Nemesis::of(x.lab.engine),
    };
    for round in 0..x.by([1, 1, 10, 100]) {
        for nemesis in nemeses.iter().copied() {
            x.lab.progress.tick(nemesis.traits().words);
            cycles.push(cycle(x, nemesis, round).await?);
        }
    }
    report(x, &cycles);
    invariants(x, &cycles);
    judge(x, &cycles);
    Ok(())
}

/// Plans the deployment for a fault, and the agent. Where work must be under way between two calls of a task, each call
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

async fn cycle(x: &mut Experiment<'_>, nemesis: Nemesis, round: u32) -> Result<FaultCycle, RunError> {
    let (plan, agent) = plan(nemesis);
    let mut deployment = x.deploy(plan).await?;
    let link = FaultProxy::start(deployment.target()?, x.lab.seed_of(nemesis.traits().id)).await;
    let link = link.map_err(|error| LabError::Server(format!("no fault proxy: {error}")))?;
    let name = format!("{}-{round}", nemesis.traits().id);
    let file = format!("history-{name}.jsonl");
    let history = History::create(&x.lab.out.join(&file))?;
    x.test.raw.push(file);
    let window = x.seconds([7.0, 12.0, 60.0, 60.0]) + nemesis.traits().duration;
    let mut load = Load::open(link.address(), RATE, window, x.lab.seed_of(&name));
    load.patience = Duration::from_secs(10);
    let caller = KeyedTaskCaller::new(&link.address().to_string(), agent, CALL_MS, history);
    let mut servers = x.lab.take_servers();
    let quiet = x.seconds([2.0, 4.0, 20.0, 20.0]);
    let (driven, evidence) = tokio::join!(
        x.lab.drive(&mut x.test, load, caller, Purpose::target(60_000.0)),
        inject(nemesis, &mut deployment, servers.as_mut(), &link, quiet),
    );
    x.lab.give_servers(servers);
    let (driven, evidence) = (driven?, evidence?);
    link.heal();
    let KeyedTaskCaller { attempts, acknowledged, unknown, trouble, history, .. } = driven.caller;
    if let Some(error) = trouble {
        return Err(error.into());
    }
    history.end()?;
    figures_of(x, &name, &driven.seen);
    let open = settle(&deployment, agent, &acknowledged, &unknown).await?;
    let tasks = deployment.api()?.all(&format!("/v1/tasks?agent={agent}")).await?;
    let ended = tasks.iter().filter(|task| task["finished_at"].is_string());
    let delivered: Vec<&str> = ended.clone().filter_map(key_of).collect();
    let report = check_queue(&attempts, &acknowledged, delivered);
    let mut calls = simulated_calls(&deployment)?;
    calls.retain(is_whole);
    // One call id that the simulator answered whole more than once, and one key that became two tasks.
    let effects_twice = repeated(calls.iter().map(id_of)) + repeated(tasks.iter().filter_map(key_of));
    let late_calls = match nemesis {
        Nemesis::WorkerFrozen => Some(unbooked_after(evidence.healed, &calls, &deployment).await?),
        _ => None,
    };
    let ends: Vec<u64> = ended.filter_map(|task| moment_of(&task["finished_at"])).collect();
    let born: Vec<u64> = tasks.iter().filter_map(|task| moment_of(&task["created_at"])).collect();
    let seconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e9;
    let first = ends.iter().filter(|at| **at > evidence.injected).min();
    let first_success = first.map(|at| seconds(evidence.injected, *at));
    let recovered = back(&born, &ends, evidence.healed).map(|at| seconds(evidence.healed, at));
    Ok(FaultCycle { nemesis, evidence, report, effects_twice, late_calls, open, first_success, recovered })
}

fn figures_of(x: &mut Experiment<'_>, name: &str, seen: &Recording) {
    x.test.plots.extend(plots::over_time(x.lab, name, name, seen));
    let (n, by) = (seen.offered, "load generator");
    x.figure(&format!("{name}.acknowledged"), ("count", "count"), seen.ok as f64, n, by);
    x.counts(name, &[("unknown", seen.failed())], n, by);
    x.latencies(&format!("{name}.accept"), &seen.latency, "intended start to durable");
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
        let body = KeyedTaskCaller::body(agent, CALL_MS, key);
        let request = api.client().post(format!("{}/v1/tasks", api.base())).header("idempotency-key", key);
        // It is a second try of the same request; whether it is refused does not matter, only that it makes no second task.
        let _ = request.header("content-type", "application/json").body(body).send().await;
    }
    match api.drained(DEADLINE).await {
        Ok(()) => Ok(0),
        Err(_) => Ok(open(api).await),
    }
}

async fn open(api: &Api) -> u64 {
    let metrics = api.metrics().await.unwrap_or_default();
    metrics.sum("agentry_tasks").map_or(u64::MAX, |open| open as u64)
}

/// The key that a task's input begins with.
fn key_of(task: &Value) -> Option<&str> {
    task["input"].as_str()?.split(' ').next()
}

/// A moment of the API on the monotonic clock.
fn moment_of(text: &Value) -> Option<u64> {
    let stamp: jiff::Timestamp = text.as_str()?.parse().ok()?;
    let ago = clock::wall_micros() - stamp.as_microsecond();
    clock::now().checked_sub(u64::try_from(ago).ok()?.checked_mul(1_000)?)
}

/// Calls that began after a moment and that the platform's ledger does not have, and all that began after it. A worker
/// whose work was taken over may end the call that it was in, which nobody books; beginning another one is forbidden to it.
async fn unbooked_after(moment: u64, calls: &[Value], deployment: &Deployment) -> Result<(u64, u64), RunError> {
    let since = clock::wall_micros() - i64::try_from((clock::now() - moment) / 1_000).unwrap_or(0);
    let rows = deployment.api()?.all("/v1/usage/calls").await?;
    let booked: BTreeSet<&str> = rows.iter().filter_map(|row| row["call"].as_str()).collect();
    let began = calls.iter().filter(|call| call["t_us"].as_i64().is_some_and(|at| at > since));
    let unbooked = began.clone().filter(|call| !booked.contains(id_of(call)));
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

fn sum(cycles: &[FaultCycle], of: impl Fn(&FaultCycle) -> u64) -> u64 {
    cycles.iter().map(of).sum()
}

/// The faults with their evidence, and what came of them.
fn report(x: &mut Experiment<'_>, cycles: &[FaultCycle]) {
    for (index, cycle) in cycles.iter().enumerate() {
        let (id, evidence) = (cycle.nemesis.traits().id, &cycle.evidence);
        gates::of_fault(&mut x.lab.gates, &x.test.id, id, &evidence.proof, evidence.effective);
        let (injected, healed) = (x.lab.time(evidence.injected), x.lab.time(evidence.healed));
        x.lab.faults.push(Fault {
            id: format!("{id}-{index}"),
            kind: cycle.nemesis.traits().kind.to_owned(),
            test: x.test.id.clone(),
            target: cycle.nemesis.traits().words.to_owned(),
            t_inject: injected,
            t_effect: evidence.effective.then_some(injected),
            t_heal: Some(healed),
            t_recovered: cycle.recovered.map(|seconds| healed + seconds),
            effective: evidence.effective,
            proof: evidence.proof.clone(),
        });
    }
    let acknowledged = sum(cycles, |cycle| cycle.report.acknowledged);
    let duplicated = sum(cycles, |cycle| cycle.report.duplicated);
    x.counts("delivery", &[("duplicated", duplicated)], acknowledged, "tasks of one key beyond the first");
    let recovered = sum(cycles, |cycle| cycle.report.recovered) as f64;
    let source = "came out though nobody heard the acknowledgement";
    x.figure("delivery.recovered", ("count", "count"), recovered, acknowledged, source);
}

/// The slowest of the cycles that count; the deadline when one did not come back.
fn slowest(
    cycles: &[FaultCycle],
    counts: fn(Nemesis) -> bool,
    of: fn(&FaultCycle) -> Option<f64>,
    source: &str,
) -> Observation {
    let times: Vec<Option<f64>> = cycles.iter().filter(|cycle| counts(cycle.nemesis)).map(of).collect();
    let n = times.len() as u64;
    if times.is_empty() {
        Observation::not_run("no such fault in this run")
    } else if times.contains(&None) {
        Observation::exact(DEADLINE.as_secs_f64(), n, source).remark("at least once it did not come back")
    } else {
        Observation::exact(times.into_iter().flatten().fold(0.0, f64::max), n, source)
    }
}

fn judge(x: &mut Experiment<'_>, cycles: &[FaultCycle]) {
    let acknowledged = sum(cycles, |cycle| cycle.report.acknowledged);
    let ledger = "history of the harness against the platform's tasks after a full drain";
    let lost = Observation::exact(sum(cycles, |cycle| cycle.report.lost) as f64, acknowledged, ledger);
    x.observe("3.2/loss", lost.shown_by(&["I2"]));
    let (strange, delivered) = (sum(cycles, |c| c.report.unexpected), sum(cycles, |c| c.report.delivered));
    x.observe("3.2/unexpected", Observation::exact(strange as f64, delivered, ledger).shown_by(&["I3"]));
    let effects = "ids in the simulator's own ledger, and tasks of one idempotency key";
    let twice = Observation::exact(sum(cycles, |cycle| cycle.effects_twice) as f64, acknowledged, effects);
    x.observe("3.2/duplicates", twice.shown_by(&["I9"]));
    let source = "heal to 90 % of the rate over a second with the backlog gone";
    let seen = slowest(cycles, |_| true, |cycle| cycle.recovered, source);
    x.observe("3.2/recovery", seen.remark(format!("{} faults", cycles.len())));
    let source = "kill to the first task that ended after it";
    x.observe("stretch/recovery-process", slowest(cycles, Nemesis::is_process, |cycle| cycle.first_success, source));
    let source = "the broker answers again to the rate being back";
    x.observe("stretch/recovery-server", slowest(cycles, Nemesis::is_server, |cycle| cycle.recovered, source));
}

fn invariants(x: &mut Experiment<'_>, cycles: &[FaultCycle]) {
    let of = |of: fn(&QueueReport) -> u64| sum(cycles, |cycle| of(&cycle.report));
    let some = |of: fn(&QueueReport) -> &Vec<String>| -> Vec<String> {
        cycles.iter().flat_map(|cycle| of(&cycle.report).iter().cloned()).collect()
    };
    let (acknowledged, open) = (of(|report| report.acknowledged), sum(cycles, |cycle| cycle.open));
    let counts = [("acknowledged", acknowledged), ("open", open)];
    x.invariant("I1", "every accepted task reaches exactly one terminal state", open, &counts, Vec::new());
    let (attempts, recovered, lost) =
        (of(|report| report.attempts), of(|report| report.recovered), of(|report| report.lost));
    let counts = [("attempts", attempts), ("acknowledged", acknowledged), ("lost", lost), ("recovered", recovered)];
    let examples = some(|report| &report.lost_examples);
    x.invariant("I2", "no result is lost after the acknowledgement", lost, &counts, examples);
    let unexpected = of(|report| report.unexpected);
    let counts = [("delivered", of(|report| report.delivered)), ("unexpected", unexpected)];
    let examples = some(|report| &report.unexpected_examples);
    x.invariant("I3", "nothing comes from nowhere", unexpected, &counts, examples);
    let twice = sum(cycles, |cycle| cycle.effects_twice);
    let counts = [("acknowledged", acknowledged), ("twice", twice)];
    let examples = some(|report| &report.duplicated_examples);
    x.invariant("I9", "one idempotency key is one task, one call id one answer", twice, &counts, examples);
    let late: Vec<(u64, u64)> = cycles.iter().filter_map(|cycle| cycle.late_calls).collect();
    if !late.is_empty() {
        let (unbooked, calls) = late.iter().fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1));
        let counts = [("calls after it was let go", calls), ("unbooked", unbooked)];
        let text = "a worker whose task was taken over begins nothing more for it";
        x.invariant("I8", text, unbooked, &counts, Vec::new());
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
        assert_eq!(key_of(&json!({"input": "k12 [[sleep:40]]"})), Some("k12"));
    }
}
