//! A misbehaving server over stdio.

use std::time::Duration;

use agentry_core::agent::{ToolKind, ToolSpec};
use agentry_tools::{ToolBox, ToolError};
use serde_json::json;

use crate::support::{agent, call, hostile, json, names, peak, stdio, text, tools};

const MAX_LOOKS: usize = 2_000;

#[tokio::test]
async fn tools_are_told_checked_and_called() {
    let (tools, spec) = (tools(), hostile(&[]));
    let definitions = tools.definitions(&agent(vec![spec.clone()])).await;
    let echo = definitions.iter().find(|definition| definition.name == "srv__echo").unwrap();
    assert_eq!((echo.description.as_str(), &echo.parameters["required"]), ("Does echo", &json!(["n"])));
    assert_eq!(call(&tools, &spec, "echo", r#"{"n":1}"#).await.unwrap().text, r#"echo {"n": 1}"#);
    let error = call(&tools, &spec, "echo", r#"{"n":"x"}"#).await.unwrap_err();
    assert!(matches!(&error, ToolError::Arguments { .. }) && error.to_string().contains("/n"), "{error}");
    let failed = call(&tools, &spec, "fail", "{}").await.unwrap();
    assert!(failed.is_error && failed.text == "no such customer", "{failed:?}");
    let refused = call(&tools, &spec, "refuse", "{}").await.unwrap();
    assert!(refused.is_error && refused.text.contains("unknown tool"), "{refused:?}");
    let error = call(&tools, &spec, "nothing", "{}").await.unwrap_err();
    assert!(matches!(&error, ToolError::Unavailable { .. }) && error.to_string().contains("srv__echo"), "{error}");
    let meta = json(&tools, &spec, "meta").await;
    assert_eq!(meta["dev.agentry/idempotency-key"], "key-1");
    assert!(meta["traceparent"].as_str().unwrap().starts_with("00-00000000000000000000000000000abc-"), "{meta}");
    assert_eq!(tools.trouble(&agent(vec![spec])), None);
    tools.close().await;
}

#[tokio::test]
async fn only_some_tools_may_be_allowed() {
    let (tools, spec) = (tools(), ToolSpec { allowed_tools: vec!["env".into(), "lists".into()], ..hostile(&[]) });
    assert_eq!(names(&tools, &spec).await, ["srv__env", "srv__lists"]);
    let error = call(&tools, &spec, "die", "{}").await.unwrap_err();
    assert!(matches!(&error, ToolError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn a_server_gets_its_own_variables_and_none_of_ours() {
    let mut spec = hostile(&[]);
    if let ToolKind::McpStdio { env, .. } = &mut spec.kind {
        *env = vec![("KEY".into(), "a-${TOKEN}".into())];
    }
    let seen = json(&tools(), &spec, "env").await;
    assert_eq!(seen["KEY"], "a-t0ken-of-this-machine");
    assert!(seen.get("PATH").is_some(), "{seen}");
    // Cargo sets this for every test.
    assert!(std::env::var("CARGO_MANIFEST_DIR").is_ok() && seen.get("CARGO_MANIFEST_DIR").is_none(), "{seen}");
}

#[tokio::test]
async fn agents_share_a_server_and_different_ones_do_not() {
    let tools = tools();
    let (one, other) = (hostile(&[]), ToolSpec { description: Some("another agent's".into()), ..hostile(&[]) });
    assert_eq!(json(&tools, &one, "pids").await, json(&tools, &other, "pids").await);
    assert_ne!(json(&tools, &one, "pids").await, json(&tools, &hostile(&["banner"]), "pids").await);
    assert_eq!(text(&tools, &one, "lists").await, "1", "and its tools are asked for once");
}

#[tokio::test]
async fn fifty_megabytes_are_cut_with_a_note_and_never_held() {
    let (tools, spec) = (tools(), hostile(&[]));
    text(&tools, &spec, "lists").await;
    let before = peak();
    for tool in ["big", "ascii"] {
        let text = text(&tools, &spec, tool).await;
        assert!(text.len() <= 1024 * 1024 + 64, "{}", text.len());
        assert!(text.contains("[cut: the first "), "{}", &text[text.len() - 80..]);
    }
    let grown = peak() - before;
    assert!(grown < 25 * 1024 * 1024, "{grown} bytes more for results of 50 MB");
}

#[tokio::test]
async fn a_result_that_no_cut_makes_short_is_refused_and_the_server_stays() {
    let (tools, spec) = (tools(), hostile(&[]));
    let output = call(&tools, &spec, "numbers", "{}").await.unwrap();
    assert!(output.is_error && output.text.contains("ask for less"), "{output:?}");
    assert_eq!(text(&tools, &spec, "lists").await, "1", "the same server answers");
}

#[tokio::test]
async fn a_server_that_dies_leaves_the_outcome_unknown_and_is_started_again_later() {
    let (tools, spec) = (tools(), hostile(&[]));
    let first = json(&tools, &spec, "pids").await;
    let error = call(&tools, &spec, "die", "{}").await.unwrap_err();
    assert!(matches!(&error, ToolError::Unknown { .. }), "{error}");
    let error = call(&tools, &spec, "lists", "{}").await.unwrap_err();
    assert!(matches!(&error, ToolError::Unavailable { .. }) && error.to_string().contains("tried again"), "{error}");
    assert!(names(&tools, &spec).await.contains(&"srv__echo".to_owned()), "its tools are still told of");
    let trouble = tools.trouble(&agent(vec![spec.clone()])).unwrap();
    assert!(trouble.contains("`srv`") && trouble.contains("a bug in the server"), "{trouble}");
    for _ in 0..MAX_LOOKS {
        match call(&tools, &spec, "pids", "{}").await {
            Err(ToolError::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            again => {
                assert_ne!(again.unwrap().text, first.to_string());
                break;
            }
        }
    }
    assert_eq!(tools.trouble(&agent(vec![spec])), None);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_and_the_model_is_told() {
    for how in ["hang", "deaf"] {
        let tools = tools().with_patience(Duration::from_millis(300));
        let spec = ToolSpec { description: Some("Files.".into()), ..hostile(&[how]) };
        let definitions = tools.definitions(&agent(vec![spec.clone()])).await;
        assert_eq!(definitions.len(), 1);
        let told = &definitions[0];
        assert!(told.name == "srv" && told.description.contains("did not answer `initialize`"), "{told:?}");
        assert!(told.description.ends_with("Files."), "{told:?}");
        let error = call(&tools, &spec, "", "{}").await.unwrap_err();
        assert!(matches!(&error, ToolError::Unavailable { .. }), "{error}");
    }
}

#[tokio::test]
async fn what_stands_for_the_tools_tells_them_once_they_are_there() {
    let output = call(&tools(), &hostile(&[]), "", "").await.unwrap();
    assert!(output.text.starts_with("available now: srv__echo, "), "{output:?}");
}

#[tokio::test]
async fn why_a_server_does_not_start_is_told_without_its_secrets() {
    let mut spec = hostile(&["stderr"]);
    if let ToolKind::McpStdio { env, .. } = &mut spec.kind {
        *env = vec![("SECRET".into(), "${TOKEN}".into())];
    }
    let tools = tools();
    let error = call(&tools, &spec, "echo", "{}").await.unwrap_err().to_string();
    assert!(error.contains("cannot log in with [hidden]") && !error.contains("t0ken"), "{error}");
    let error = call(&tools, &stdio(&["no-such-program-anywhere"]), "echo", "{}").await.unwrap_err().to_string();
    assert!(error.contains("cannot start `no-such-program-anywhere`") && error.contains("PATH"), "{error}");
    let error = call(&tools, &stdio(&["x", "${NOT_SET}"]), "echo", "{}").await.unwrap_err().to_string();
    assert!(error.contains("NOT_SET is not set"), "{error}");
}

#[tokio::test]
async fn what_is_no_json_on_standard_output_is_passed_over_up_to_a_bound() {
    let tools = tools();
    assert_eq!(text(&tools, &hostile(&["banner"]), "lists").await, "1");
    let error = call(&tools, &hostile(&["garbage"]), "lists", "{}").await.unwrap_err();
    assert!(matches!(&error, ToolError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("writes text that is no JSON-RPC"), "{error}");
}

#[tokio::test]
async fn a_flood_of_notifications_changes_nothing() {
    let (tools, spec) = (tools(), hostile(&["flood"]));
    text(&tools, &spec, "lists").await;
    let before = peak();
    assert_eq!(text(&tools, &spec, "flood").await, "flooded");
    let grown = peak() - before;
    assert!(grown < 25 * 1024 * 1024, "{grown} bytes more for 50,000 notifications");
    let lists: u32 = text(&tools, &spec, "lists").await.parse().unwrap();
    assert!(lists < 20, "asked for its tools {lists} times");
}

#[tokio::test]
async fn a_changed_list_of_tools_is_read_again() {
    let (tools, spec) = (tools(), hostile(&[]));
    assert!(!names(&tools, &spec).await.contains(&"srv__later".to_owned()));
    text(&tools, &spec, "grow").await;
    // The notification may arrive after the response.
    for _ in 0..MAX_LOOKS {
        if names(&tools, &spec).await.contains(&"srv__later".to_owned()) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the new tool was never told");
}

#[tokio::test]
async fn a_call_that_is_dropped_or_takes_too_long_is_cancelled_on_the_server() {
    let (tools, spec) = (tools(), hostile(&[]));
    text(&tools, &spec, "lists").await;
    tokio::select! {
        biased;
        answer = call(&tools, &spec, "sleep", "{}") => panic!("{answer:?}"),
        () = async { for _ in 0..100 { tokio::task::yield_now().await } } => {}
    }
    let slow = ToolSpec { timeout_ms: 50, ..spec.clone() };
    let error = call(&tools, &slow, "sleep", "{}").await.unwrap_err();
    assert!(matches!(&error, ToolError::Unknown { .. }) && error.to_string().contains("no whole answer"), "{error}");
    for _ in 0..MAX_LOOKS {
        if json(&tools, &spec, "cancelled").await.as_array().unwrap().len() == 2 {
            return;
        }
    }
    panic!("the server was not told");
}

#[tokio::test]
async fn a_server_and_what_it_started_end_together() {
    for how in [vec![], vec!["stubborn"]] {
        let (tools, spec) = (tools(), hostile(&how));
        let pids = json(&tools, &spec, "pids").await;
        tools.close().await;
        for pid in pids.as_array().unwrap() {
            assert!(wait_for_end(pid.as_u64().unwrap()).await, "{pid} still runs");
        }
    }
}

/// Waits for the end of a process; a zombie that nobody has reaped counts as ended.
async fn wait_for_end(pid: u64) -> bool {
    for _ in 0..MAX_LOOKS {
        match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) if !stat.contains(") Z ") => tokio::time::sleep(Duration::from_millis(5)).await,
            _ => return true,
        }
    }
    false
}
