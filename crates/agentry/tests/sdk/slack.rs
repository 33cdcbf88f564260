//! `agentry sim slack` and Slack's library for Python, which calls the Web API and verifies what is sent.

use std::process::Command;

use serde_json::Value;

use crate::python::script;
use crate::simulator::start;
use crate::support::Server;

#[test]
fn slack_sdk_takes_it_for_slack() {
    let simulator = start(&["sim", "slack", "--time-scale", "0.001", "--ack-timeout-ms", "500"]);
    let parts = "web_api\nrefusals\nrates\nsigned_events\nretries\nforgeries\ncommands\nclicks\nmodals\nfaults\n";
    assert_eq!(script("slack_sdk_test.py", &[&simulator.url, "sim-signing-secret"]), parts);
}

/// A run of `agentry sim send`: whether it succeeded, and what it said.
fn send(simulator: &Server, what: &str, body: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentry"));
    let output = command.args(["sim", "send", what, body, "--url", &simulator.url]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn people_act_from_the_command_line() {
    let app = start(&["sim", "llm"]);
    let slack = start(&["sim", "slack", "--time-scale", "0"]);
    let (code, _, said) = send(&slack, "event", r#"{"text": "hello"}"#);
    assert!(code == Some(1) && said.contains("nothing to send to"), "{said}");
    assert_eq!(send(&slack, "target", &format!(r#"{{"url": "{}"}}"#, app.url)).0, Some(0));
    // Somebody who knows no Slack answers 404: the event is given up after three retries.
    let (code, told, _) = send(&slack, "event", r#"{"text": "hello"}"#);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, told["attempts"].as_array().unwrap().len()), (Some(1), 4), "{told}");
    assert_eq!(send(&slack, "event", "hello").0, Some(2), "a body that is no JSON is a usage error");
}
