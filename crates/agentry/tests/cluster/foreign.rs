//! A foreign AMQP client, Python's pika: publishes CloudEvents that start an agent and receives its results.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::test_cluster::{PATIENCE, TestCluster};

/// The library, pinned.
const LIBRARY: &str = "pika==1.3.2";
/// Making the environment downloads one small wheel.
const INSTALLS: Duration = Duration::from_secs(120);
/// The trace that the foreign publisher gives its events (see `foreign.py`).
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_client_starts_an_agent_and_hears_its_result() {
    let (python, cluster) = tokio::join!(python(), TestCluster::with(&["api", "autonomous-1"], &[]));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/foreign.py");
    let url = cluster.servers.rabbitmq.url();
    let said =
        run(Command::new(python).arg(script).arg(url), PATIENCE * 2).await.unwrap_or_else(|error| panic!("{error}"));
    let seen: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));

    let tasks = cluster.get("/v1/tasks?agent=triage").await["items"].as_array().unwrap().clone();
    assert_eq!(tasks.len(), 2, "one task for each event, however often it came: {tasks:?}");
    for (number, seen) in [(1, &seen["first"]), (2, &seen["second"])] {
        let of_ticket = |task: &&Value| task["input"]["ticket"] == number;
        let task = tasks.iter().find(of_ticket).unwrap_or_else(|| panic!("no task of ticket {number}: {tasks:?}"));
        result_fits(task, number, seen);
    }
    let reasons = ["not a CloudEvent", "missing field `type`", "specversion is `0.3`", "content-type is `text/plain`"];
    let rejected = seen["rejected"].as_array().unwrap();
    for reason in reasons {
        let has =
            |message: &&Value| message["headers"]["agentry-reason"].as_str().is_some_and(|text| text.contains(reason));
        let message =
            rejected.iter().find(has).unwrap_or_else(|| panic!("nothing was rejected with `{reason}`: {rejected:?}"));
        assert_eq!(message["headers"]["agentry-topic"], "customer.ticket.created", "{message}");
    }
    assert_eq!(rejected.len(), reasons.len(), "{rejected:?}");
}

/// One result, in the documented form, of this task.
fn result_fits(task: &Value, number: u64, result: &Value) {
    let event = &result["event"];
    assert_eq!(
        (&result["topic"], &result["media"]),
        (&json!("agent.output.triage"), &json!("application/cloudevents+json"))
    );
    assert_eq!((&result["persistent"], &event["specversion"]), (&json!(true), &json!("1.0")), "{result}");
    assert_eq!(event["type"], "dev.agentry.task.completed.v1", "{event}");
    assert_eq!((&event["data"]["task_id"], &event["data"]["status"]), (&task["id"], &json!("completed")), "{event}");
    assert_eq!(event["data"]["output"], task["output"], "{event}");
    assert_eq!(task["source"]["kind"], "event", "{task}");
    assert_eq!(
        (&task["source"]["source"], &task["source"]["id"]),
        (&json!("shop"), &json!(format!("ticket-{number}")))
    );
    assert_eq!(task["trace_id"], TRACE, "{task}");
    assert!(event["traceparent"].as_str().is_some_and(|trace| trace.contains(TRACE)), "the trace broke off: {event}");
}

/// A Python with the library, made once in the build folder.
async fn python() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("foreign-amqp");
    let (python, done) = (folder.join("bin/python"), folder.join(LIBRARY));
    if !done.exists() {
        let hint =
            "this test needs Python 3 with venv (Debian: apt-get install python3-venv) and, the first time, PyPI";
        let make = async {
            run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder), INSTALLS).await?;
            let mut install = Command::new(&python);
            install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", LIBRARY]);
            run(&mut install, INSTALLS).await
        };
        make.await.unwrap_or_else(|error| panic!("{error}\n{hint}"));
        std::fs::write(done, "").unwrap();
    }
    python
}

/// Standard output of a command that must succeed in time.
async fn run(command: &mut Command, limit: Duration) -> Result<String, String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output =
        timeout(limit, command.output()).await.map_err(|_| format!("{command:?} took longer than {limit:?}"))?;
    let output = output.map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{command:?}: {}", text(&output.stderr)))
    }
}
