//! A worker, the scheduler and the API, each with an invalid, a newer, an older and no file of the agents that work: no
//! queued task fails, and no event and no slot is lost.
//!
//! `AGENTRY_TEST_FILES` sets another size: seconds, queued tasks and events of each case, such as `60,2000,100`.

use std::path::Path;
use std::time::Duration;

use agentry_lab::Signal;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::test_cluster::{PATIENCE, TestCluster};
use crate::wait::until;

/// Processes whose files differ.
const PROCESSES: [&str; 3] = ["autonomous-1", "scheduler", "api"];
/// The agents of queued tasks, of chains of events, and of slots.
const AGENTS: [&str; 4] = ["clerk", "auditor", "archivist", "ticker"];
/// Seconds, queued tasks and events of a case.
const SIZE: [u64; 3] = [1, 100, 10];
/// Time for everything to end at the end, for each case.
const ENDS: Duration = Duration::from_secs(60);

/// A change of an agent's file; `None` deletes it.
type Change = fn(&str) -> Option<String>;

/// In this order: the older file is one that the deployment had before.
const CHANGES: [(&str, Change); 4] = [
    ("invalid", |text| Some(text.replace("execution_mode", "execution_mood"))),
    ("newer", |text| Some(text.replace("Answer shortly.", "Answer at length."))),
    ("older", |text| Some(text.to_owned())),
    ("missing", |_| None),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_differ_on_any_process_fail_no_task_and_lose_no_event_or_slot() {
    let [seconds, tasks, events] = size();
    let mut cluster = TestCluster::open(&[]).await;
    let originals = with_chain(&cluster).await;
    let mut cases = 0;
    for process in PROCESSES {
        for (what, change) in CHANGES {
            restart_with(&mut cluster, process, what, |agents| change_all(agents, &originals, change)).await;
            submit(&cluster, cases, tasks).await;
            publish(&cluster, cases, events).await;
            sleep(Duration::from_secs(seconds)).await;
            cases += 1;
        }
    }
    everything_ended(&cluster, "clerk", cases * tasks).await;
    for agent in ["auditor", "archivist"] {
        everything_ended(&cluster, agent, cases * events).await;
    }
    every_slot_fired(&cluster).await;
}

fn size() -> [u64; 3] {
    let Ok(listed) = std::env::var("AGENTRY_TEST_FILES") else { return SIZE };
    let numbers: Vec<u64> = listed.split(',').filter_map(|one| one.trim().parse().ok()).collect();
    numbers.try_into().expect("AGENTRY_TEST_FILES: seconds, tasks and events, by commas")
}

/// Adds two agents to all processes, the second of which hears the first; the text of each agent's file.
async fn with_chain(cluster: &TestCluster) -> Vec<(&'static str, String)> {
    let agents = cluster.deployment.lab.program.folder.join("agents");
    for (name, topic) in [("auditor", "audit.requested"), ("archivist", "agent.output.auditor")] {
        let text =
            std::fs::read_to_string(agents.join("clerk.yml")).unwrap().replace("name: clerk", &format!("name: {name}"));
        std::fs::write(agents.join(format!("{name}.yml")), format!("{text}event_subscriptions: [\"{topic}\"]\n"))
            .unwrap();
    }
    until("the deployment to have the new agents", PATIENCE, async || {
        let sql = "SELECT count(*) FROM agentry.fleet WHERE agent IN ('auditor', 'archivist')";
        (cluster.number(sql).await == 2).then_some(())
    })
    .await;
    AGENTS.map(|name| (name, std::fs::read_to_string(agents.join(format!("{name}.yml"))).unwrap())).to_vec()
}

fn change_all(agents: &Path, originals: &[(&str, String)], change: Change) {
    for (name, text) in originals {
        let file = agents.join(format!("{name}.yml"));
        match change(text) {
            Some(text) => std::fs::write(file, text).unwrap(),
            None => std::fs::remove_file(file).unwrap(),
        }
    }
}

/// Restarts a process on agent files of its own that are changed before it starts.
async fn restart_with(cluster: &mut TestCluster, name: &str, what: &str, change: impl FnOnce(&Path)) {
    eprintln!("--- {name} with {what} files");
    cluster.deployment.process(name).signal(Signal::TERM).unwrap();
    cluster.deployment.ended(name, PATIENCE).await;
    change(&cluster.deployment.lab.own_agents(name).unwrap());
    cluster.start(&[name]).await;
}

async fn post(cluster: &TestCluster, path: &str, body: &Value) -> Value {
    let response = cluster.http.post(format!("{}{path}", cluster.api())).json(body).send().await.unwrap();
    let status = response.status();
    let reply = response.json().await.unwrap();
    assert!(status.is_success(), "{path}: {status} {reply}");
    reply
}

/// Queues tasks of half a second, more than the workers have slots for.
async fn submit(cluster: &TestCluster, case: u64, tasks: u64) {
    let task = |number| json!({"agent": "clerk", "input": format!("case {case} task {number} [[sleep:500]]")});
    let tasks: Vec<Value> = (0..tasks).map(task).collect();
    for piece in tasks.chunks(500) {
        let reply = post(cluster, "/v1/tasks/batch", &json!({"tasks": piece})).await;
        assert_eq!(reply["accepted"], piece.len(), "{reply}");
    }
}

async fn publish(cluster: &TestCluster, case: u64, events: u64) {
    for number in 0..events {
        let id = format!("audit-{case}-{number}");
        let reply = post(cluster, "/v1/events", &json!({"topic": "audit.requested", "data": {}, "id": id})).await;
        assert_eq!(reply["tasks"].as_array().map(Vec::len), Some(1), "{id} starts one task: {reply}");
    }
}

/// Waits until so many tasks of an agent have completed, and no other is there.
async fn everything_ended(cluster: &TestCluster, agent: &str, expected: u64) {
    let open =
        format!("SELECT count(*) FROM agentry.open_tasks JOIN agentry.tasks t USING (id) WHERE t.agent = '{agent}'");
    let ended = format!(
        "SELECT status, count(*) FROM agentry.ended_tasks JOIN agentry.tasks t USING (id) WHERE t.agent = '{agent}' GROUP BY 1"
    );
    until(&format!("the end of every task of {agent}"), ENDS + PATIENCE, async || {
        let rows = cluster.rows(&ended).await;
        let all: u64 = rows.iter().map(|row| row[1].parse::<u64>().unwrap()).sum();
        (all >= expected && cluster.number(&open).await == 0).then_some(())
    })
    .await;
    let rows = cluster.rows(&ended).await;
    assert_eq!(rows, [["3".to_owned(), expected.to_string()]], "tasks of {agent} by status");
    eprintln!("    {expected} tasks of {agent} completed");
}

/// Every second has one slot; each fired, and its task completed.
async fn every_slot_fired(cluster: &TestCluster) {
    let sql = "SELECT count(*), (max(slot) - min(slot)) / 1000000 + 1, count(*) FILTER (WHERE state = 0), count(DISTINCT task)
               FROM agentry.slots WHERE schedule LIKE '%ticker%'";
    let rows = cluster.rows(sql).await;
    let [slots, seconds, fired, tasks] = &rows[0][..] else { panic!("{rows:?}") };
    assert_eq!((slots, fired, tasks), (seconds, seconds, seconds), "slots, fired slots and tasks; seconds");
    let failed = "SELECT count(*) FROM agentry.ended_tasks WHERE status <> 3";
    assert_eq!(cluster.number(failed).await, 0, "every task completes");
    eprintln!("    {slots} slots fired");
}
