//! With a server: the verbs against it, what keeps it from starting, and how it ends.

use std::process::Command;

use crate::support::{Server, agentry, folder_with_fleet, json, run};

#[test]
fn a_task_is_run_shown_listed_and_paid_for() {
    let folder = folder_with_fleet();
    let server = Server::start(folder.path());
    let at = |args: &[&str]| json(folder.path(), &[args, &["--url", &server.url, "-o", "json"]].concat());
    let task = at(&["run", "triage", "refund not received", "--wait"]);
    assert_eq!(task["status"], "completed", "{task}");
    let id = task["id"].as_str().unwrap();
    let shown = at(&["tasks", "show", id]);
    let kinds: Vec<&str> =
        shown["journal"].as_array().unwrap().iter().map(|entry| entry["body"]["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["model_started", "model_completed"]);
    assert_eq!(at(&["tasks", "list", "--agent", "triage"])[0]["id"], id);
    let usage = at(&["usage", "--by", "agent"]);
    let row = usage["rows"].as_array().unwrap().iter().find(|row| row["key"] == "triage").unwrap();
    assert_eq!(row["cost_nanos"], shown["spent"]["cost_nanos"]);
    assert_eq!(
        at(&["agents"]).as_array().unwrap().len(),
        std::fs::read_dir(folder.path().join("agents")).unwrap().count()
    );
    assert_eq!(at(&["workers"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_session_keeps_its_turns_in_order() {
    let folder = folder_with_fleet();
    let server = Server::start(folder.path());
    for turn in ["one", "two"] {
        let args = ["run", "support", turn, "--session", "s/1", "--wait", "--url", &server.url, "-o", "json"];
        assert_eq!(json(folder.path(), &args)["status"], "completed");
    }
    let session = json(folder.path(), &["sessions", "show", "support:s/1", "--url", &server.url, "-o", "json"]);
    let said: Vec<&str> = session["history"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|message| message["message"]["role"] == "user")
        .map(|message| message["message"]["content"].as_str().unwrap())
        .collect();
    assert_eq!(said, ["one", "two"]);
}

#[test]
fn an_agent_that_does_not_exist_is_named_and_the_nearest_offered() {
    let folder = folder_with_fleet();
    let server = Server::start(folder.path());
    let said = run(folder.path(), &["run", "triag", "x", "--url", &server.url]);
    assert!(said.starts_with("exit code: 1") && said.contains("`triage`"), "{said}");
}

#[test]
fn a_port_in_use_is_an_error_with_the_way_out() {
    let folder = folder_with_fleet();
    let server = Server::start(folder.path());
    let port = server.url.rsplit(':').next().unwrap();
    let listen = format!("127.0.0.1:{port}");
    let said = run(folder.path(), &["serve", "--sim", "--data", "other", "--listen", &listen]).replace(port, "PORT");
    insta::assert_snapshot!(said);
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let folder = folder_with_fleet();
    let server = Server::start(folder.path());
    let said = run(folder.path(), &["serve", "--sim", "--listen", "127.0.0.1:0"]);
    insta::assert_snapshot!(said.replace(&server.pid(), "PID"));
}

#[test]
fn a_public_address_can_be_allowed() {
    let folder = folder_with_fleet();
    let args = ["serve", "--sim", "--listen", "0.0.0.0:0", "--allow-unauthenticated"];
    let server = Server::spawn(agentry(folder.path()).args(args).stderr(std::process::Stdio::null()));
    let url = server.url.replace("0.0.0.0", "127.0.0.1");
    let workers = json(folder.path(), &["workers", "--url", &url, "-o", "json"]);
    assert_eq!(workers[0]["roles"], serde_json::json!(["api", "slack", "scheduler", "worker"]), "{workers}");
}

#[test]
fn sigterm_ends_it_with_exit_code_0() {
    let folder = folder_with_fleet();
    let server = Server::start(folder.path());
    assert!(Command::new("kill").args(["-TERM", &server.pid()]).status().unwrap().success());
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn run_needs_no_server() {
    let folder = folder_with_fleet();
    let task = json(folder.path(), &["run", "writer", "a haiku about queues", "--sim", "-o", "json"]);
    assert_eq!(task["status"], "completed", "{task}");
}
