//! What must hold after every fault, once all is quiet.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::Value;

use crate::http::get;
use crate::invariants::{self, Promised, calls, entries, journal_is_gapless, one_task_for_each_key};
use crate::test_cluster::{PATIENCE, TestCluster, now};
use crate::wait::until;

/// Journals that are read side by side.
const READERS: usize = 8;
/// Distance of the schedule's slots, in microseconds.
const SLOT: i64 = 1_000_000;

/// What was seen.
pub struct Record {
    /// Every task with its journal.
    pub journals: Vec<Value>,
    /// The simulator's own ledger: call to how often it was answered whole.
    pub bought: HashMap<String, u32>,
}

/// Waits for the end of all tasks and judges.
pub async fn judge(cluster: &mut TestCluster, promised: Promised) -> Record {
    until("the API to be ready", PATIENCE, async || {
        let url = format!("{}/health/ready", cluster.api());
        cluster.http.get(url).send().await.is_ok_and(|response| response.status().is_success()).then_some(())
    })
    .await;
    // The schedule goes on; what it brings from now on is not waited for.
    let quiet = now();
    let sql = format!(
        "SELECT count(*) FROM agentry.open_tasks o JOIN agentry.tasks t USING (id) WHERE t.created_at <= {quiet}"
    );
    until("the end of every task", PATIENCE, async || (cluster.number(&sql).await == 0).then_some(())).await;
    let mut tasks = all_tasks(cluster).await;
    tasks.retain(|task| micros(&task["created_at"]) <= quiet);
    one_task_for_each_key(&promised, &tasks);
    slots_fired_once(&tasks);
    same_as_in_the_store(cluster, &tasks).await;
    let urls: Vec<String> = tasks
        .iter()
        .map(|task| format!("{}/v1/tasks/{}?journal=true", cluster.api(), task["id"].as_str().unwrap()))
        .collect();
    let http = &cluster.http;
    let journals: Vec<Value> = stream::iter(&urls).map(|url| get(http, url)).buffer_unordered(READERS).collect().await;
    journals.iter().for_each(ended_once);
    let bought = nothing_bought_twice(&cluster.deployment.ledger(), &journals, quiet).await;
    for (session, turns) in &promised.turns {
        conversation_is_whole(cluster, session, turns).await;
    }
    Record { journals, bought }
}

/// Every task, as the API lists it.
pub async fn all_tasks(cluster: &TestCluster) -> Vec<Value> {
    let (mut tasks, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = cluster.get(&format!("/v1/tasks?limit=1000{cursor}")).await;
        tasks.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next_cursor"].as_str() else { return tasks };
        cursor = format!("&cursor={next}");
    }
}

/// Every second has its slot, and every slot one task.
fn slots_fired_once(tasks: &[Value]) {
    let of_schedule = tasks.iter().filter(|task| task["source"]["kind"] == "schedule");
    let mut slots: Vec<i64> = of_schedule.map(|task| micros(&task["source"]["slot"])).collect();
    slots.sort_unstable();
    assert!(!slots.is_empty(), "no slot was fired");
    let bad: Vec<_> = slots.windows(2).filter(|pair| pair[1] - pair[0] != SLOT).collect();
    assert!(bad.is_empty(), "slots that were fired twice or missed: {bad:?}");
}

/// A moment of the API (RFC 3339) in microseconds since the Unix epoch.
pub fn micros(moment: &Value) -> i64 {
    let moment = serde_json::from_value(moment.clone());
    moment.map(|moment: agentry_core::time::Timestamp| moment.0).unwrap()
}

/// The cache in front of the store says what the store says.
async fn same_as_in_the_store(cluster: &TestCluster, tasks: &[Value]) {
    let rows = cluster.rows("SELECT id::text, status::text FROM agentry.ended_tasks").await;
    let stored: HashMap<&str, &str> = rows.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
    let completed = (agentry_core::task::TaskStatus::Completed as u8).to_string();
    for task in tasks {
        let (id, status) = (task["id"].as_str().unwrap(), task["status"].as_str().unwrap());
        let in_store = stored.get(id).unwrap_or_else(|| panic!("task {id} is served and not in the store"));
        assert_eq!(status == "completed", **in_store == completed, "task {id}: {status} served, {in_store} stored");
    }
}

/// No fault here is the fault of a task: each of them completes.
fn ended_once(task: &Value) {
    assert_eq!(task["status"], "completed", "{task}");
    assert!(!task["output"].is_null() && task["finished_at"].is_string(), "no outcome: {task}");
    journal_is_gapless(task);
}

/// An answer that was journaled is never asked for again, each call reached the provider once at most, and none did that
/// no journal knows. A call whose owner died before its answer was journaled may be followed by another one; both have
/// their row in the ledger.
async fn nothing_bought_twice(ledger: &Path, journals: &[Value], quiet: i64) -> HashMap<String, u32> {
    let (known, completed) = calls(journals);
    let asked = until("the simulator's ledger to have every answer", PATIENCE, async || {
        let asked = read_ledger(ledger);
        completed.iter().all(|call| asked.contains_key(call)).then_some(asked)
    })
    .await;
    let twice: Vec<_> = asked.iter().filter(|(_, asked)| asked.answered > 1).collect();
    assert!(twice.is_empty(), "calls that the provider answered more than once: {twice:?}");
    assert!(completed.iter().all(|call| asked[call].answered == 1), "an answer that nobody gave was journaled");
    let strangers: Vec<_> = asked.iter().filter(|(call, asked)| asked.at <= quiet && !known.contains(*call)).collect();
    assert!(strangers.is_empty(), "the provider was asked what no journal knows: {strangers:?}");
    asked.into_iter().map(|(call, asked)| (call, asked.answered)).collect()
}

/// What the provider says of a call.
#[derive(Debug, Default)]
pub struct Asked {
    /// How often it was answered whole.
    pub answered: u32,
    /// When it came last.
    at: i64,
}

/// The provider's own ledger: what it says of each call, by the id that the caller gave it.
pub fn read_ledger(ledger: &Path) -> HashMap<String, Asked> {
    let text = std::fs::read_to_string(ledger).unwrap();
    let mut calls: HashMap<String, Asked> = HashMap::new();
    // The last line may be half written.
    for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let call = calls.entry(line["request_id"].as_str().unwrap().to_owned()).or_default();
        call.answered += u32::from(line["end"] == "completed");
        call.at = line["t_us"].as_i64().unwrap();
    }
    calls
}

/// Every message once, in the order in which they were accepted, each with its answer.
async fn conversation_is_whole(cluster: &TestCluster, session: &str, turns: &[(String, String)]) {
    let expected: Vec<&str> = turns.iter().map(|(_, said)| said.as_str()).collect();
    let (mut messages, mut after) = (Vec::new(), Some(0));
    while let Some(number) = after {
        let page = cluster.get(&format!("/v1/sessions/support:{session}?limit=1000&after={number}")).await;
        messages.extend(page["history"].as_array().unwrap().iter().cloned());
        after = page["next_after"].as_u64();
    }
    invariants::conversation_is_whole(session, &messages, &expected);
}

impl Record {
    /// The journals of these tasks.
    pub fn of<'r>(&'r self, tasks: &[String]) -> Vec<&'r Value> {
        let by_id: BTreeMap<&str, &Value> =
            self.journals.iter().map(|task| (task["id"].as_str().unwrap(), task)).collect();
        tasks.iter().map(|id| *by_id.get(id.as_str()).unwrap_or_else(|| panic!("no task {id}"))).collect()
    }

    /// How long after a moment a task that lost its owner was taken up by another: the first thing that a new owner
    /// wrote. `None`: the old owner was not declared dead.
    pub fn taken_over(task: &Value, from: &str, since: i64) -> Option<Duration> {
        let journal = task["journal"].as_array().unwrap();
        let lost = |entry: &Value| {
            entry["body"]["kind"] == "recovered" && entry["body"]["worker"] == from && micros(&entry["at"]) >= since
        };
        let at = journal.iter().position(lost)?;
        let next = journal.get(at + 1).map_or(&task["finished_at"], |entry| &entry["at"]);
        Some(Duration::from_micros((micros(next) - since).unsigned_abs()))
    }

    /// Calls of a task that reached the provider and whose answer was never written: its owner was fenced or gone. Those
    /// that were answered whole, and all: a provider sees when its client dies, and then ends an answer early.
    pub fn in_vain(&self, task: &Value) -> (usize, usize) {
        let call = |entry: &Value| entry["body"]["call"].as_str().unwrap().to_owned();
        let completed: HashSet<String> = entries(task, "model_completed").map(call).collect();
        let started = entries(task, "model_started").map(call).filter(|call| !completed.contains(call));
        let reached: Vec<u32> = started.filter_map(|call| self.bought.get(&call).copied()).collect();
        (reached.iter().filter(|answered| **answered == 1).count(), reached.len())
    }
}
