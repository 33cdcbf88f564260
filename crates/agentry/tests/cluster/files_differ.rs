//! Processes whose agent files are invalid, older, newer or missing, under load: what was accepted is not touched by it, and
//! what comes in reaches the fleet of the deployment.

use std::path::Path;
use std::time::Duration;

use agentry_lab::Signal;
use serde_json::{Value, json};

use crate::test_cluster::{PATIENCE, TestCluster, now};
use crate::wait::until;

/// How long a process may take to end: its drain, and what comes after.
const ENDS: Duration = Duration::from_secs(30);
/// Events that are published while only one process has the file of their subscriber.
const EVENTS: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_differ_touch_no_accepted_work_and_lose_no_event() {
    let mut cluster = TestCluster::open(&[]).await;
    cluster.load().await;
    // Workers: one with a mistake in a file, one without the agents that plans and tasks go to.
    with_files(&mut cluster, "autonomous-1", "an invalid file", |agents| {
        let file = agents.join("clerk.yml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("autonomous", "autonomus")).unwrap();
    })
    .await;
    with_files(&mut cluster, "autonomous-2", "missing files", |agents| {
        for gone in ["checker.yml", "clerk.yml", "ticker.yml"] {
            std::fs::remove_file(agents.join(gone)).unwrap();
        }
    })
    .await;
    with_files(&mut cluster, "scheduler", "an invalid schedule", |agents| {
        std::fs::write(agents.join("ticker.yml"), "name: ticker\nexecution_mode: scheduled\nnonsense: 1\n").unwrap();
    })
    .await;
    with_files(&mut cluster, "collaborative", "a team without its members", |agents| {
        std::fs::remove_file(agents.join("clerk.yml")).unwrap();
    })
    .await;
    a_new_agent_hears_every_event(&mut cluster).await;
    differences_are_shown(&cluster).await;
    let failed = "SELECT count(*) FROM agentry.ended_tasks WHERE status <> 3";
    cluster.measured(format!("{} tasks did not complete", cluster.number(failed).await));
    assert_eq!(cluster.number(failed).await, 0, "every accepted task completes");
    let missed = "SELECT count(*) FROM agentry.slots WHERE state <> 0";
    assert_eq!(cluster.number(missed).await, 0, "every slot fires");
    cluster.judge().await;
}

/// Restarts a process on a copy of the agent files that is changed before it starts.
async fn with_files(cluster: &mut TestCluster, name: &str, what: &str, change: impl FnOnce(&Path)) {
    cluster.fault(&format!("{name} with {what}"));
    let at = now();
    cluster.deployment.process(name).signal(Signal::TERM).unwrap();
    cluster.deployment.ended(name, ENDS).await;
    change(&cluster.deployment.lab.own_agents(name).unwrap());
    cluster.start(&[name]).await;
    cluster.rate_is_back(&format!("{name} with {what}"), at).await;
}

/// A file of a new subscriber appears on one worker only; events that are published from then on reach it, and what it says
/// reaches the next one.
async fn a_new_agent_hears_every_event(cluster: &mut TestCluster) {
    cluster.fault("a new agent on one worker");
    let agents = cluster.deployment.lab.own_agents("autonomous-1").unwrap();
    let target = "llm_config: {provider: openai, model: gpt-4.1-mini}\nsystem_prompt: Answer shortly.\n";
    let write = |name: &str, topic: &str| {
        let head = format!("name: {name}\nexecution_mode: autonomous\nevent_subscriptions: [\"{topic}\"]\n");
        std::fs::write(agents.join(format!("{name}.yml")), format!("{head}{target}")).unwrap();
    };
    write("auditor", "audit.requested");
    write("archivist", "agent.output.auditor");
    until("the deployment to have the new agents", PATIENCE, async || {
        let sql = "SELECT count(*) FROM agentry.fleet WHERE agent IN ('auditor', 'archivist')";
        (cluster.number(sql).await == 2).then_some(())
    })
    .await;
    for number in 0..EVENTS {
        let body = json!({"topic": "audit.requested", "data": {"number": number}, "id": format!("audit-{number}")});
        let response = cluster.http.post(format!("{}/v1/events", cluster.api())).json(&body).send().await.unwrap();
        let reply: Value = response.json().await.unwrap();
        assert_eq!(reply["tasks"].as_array().map(Vec::len), Some(1), "event {number} starts the new agent: {reply}");
    }
    for agent in ["auditor", "archivist"] {
        let sql = format!(
            "SELECT count(*) FROM agentry.ended_tasks JOIN agentry.tasks USING (id)
             WHERE agent = '{agent}' AND status = 3"
        );
        until(&format!("every event to reach {agent}"), PATIENCE, async || {
            (cluster.number(&sql).await == EVENTS as i64).then_some(())
        })
        .await;
    }
}

/// `GET /v1/agents/{name}` says which process has what.
async fn differences_are_shown(cluster: &TestCluster) {
    let clerk = cluster.get("/v1/agents/clerk").await;
    let processes = clerk["processes"].as_array().unwrap();
    let differing: Vec<&Value> = processes.iter().filter(|process| process["current"] == false).collect();
    assert_eq!(differing.len(), 3, "{clerk}");
    assert!(differing.iter().any(|process| process["error"].as_str().is_some_and(|text| text.contains("autonomus"))));
}
