//! Tool calls of one task on the whole orchestrator, with a scripted model and tool: cases that a simulator of either
//! would not produce.

use agentry_core::agent::OnUnknown;
use agentry_core::task::{ErrorCode, TaskStatus};
use agentry_tools::{ToolError, ToolOutput};

use crate::script::{ScriptedRun, answer, calls, tool_results};

fn done(text: &str) -> Result<ToolOutput, ToolError> {
    Ok(ToolOutput { text: text.to_owned(), is_error: false, is_refusal: false })
}

fn refused(text: &str) -> Result<ToolOutput, ToolError> {
    Ok(ToolOutput { text: text.to_owned(), is_error: true, is_refusal: true })
}

fn unavailable() -> Result<ToolOutput, ToolError> {
    Err(ToolError::Unavailable { tool: "pay".to_owned(), reason: "connection refused".to_owned() })
}

fn unknown() -> Result<ToolOutput, ToolError> {
    Err(ToolError::Unknown { tool: "pay".to_owned(), reason: "the connection was lost".to_owned() })
}

#[tokio::test(start_paused = true)]
async fn two_calls_under_one_id_are_made_once_each() {
    let stage = ScriptedRun::new(
        OnUnknown::Fail,
        |request| match tool_results(request).as_slice() {
            [] => calls(&[("dup", r#"{"n":1}"#), ("dup", r#"{"n":2}"#)]),
            results => answer(&format!("done: {results:?}")),
        },
        |invocation, _| done(&invocation.call.arguments),
    );
    let record = stage.run().await;
    assert_eq!(record.status, TaskStatus::Completed, "{record:?}");
    let made = stage.made();
    assert_eq!(made.iter().map(|call| call.1.as_str()).collect::<Vec<_>>(), [r#"{"n":1}"#, r#"{"n":2}"#]);
    assert_ne!(made[0].0, made[1].0, "each call has an idempotency key of its own");
    assert!(record.outcome.unwrap().output.unwrap().to_string().contains(r#"n\\\":2"#), "the model sees both results");
}

#[tokio::test(start_paused = true)]
async fn one_id_in_every_turn_is_a_call_in_every_turn() {
    let stage = ScriptedRun::new(
        OnUnknown::Fail,
        |request| match tool_results(request).len() {
            count @ 0..3 => calls(&[("call_0", &format!(r#"{{"n":{count}}}"#))]),
            _ => answer("done"),
        },
        |_, _| done("ok"),
    );
    let record = stage.run().await;
    assert_eq!(record.status, TaskStatus::Completed, "{record:?}");
    let mut keys: Vec<String> = stage.made().into_iter().map(|(key, _)| key).collect();
    keys.dedup();
    assert_eq!(keys.len(), 3, "{keys:?}");
}

#[tokio::test(start_paused = true)]
async fn a_model_that_asks_for_too_much_is_stopped() {
    let many: Vec<(String, String)> = (0..129).map(|n| (format!("c{n}"), "{}".to_owned())).collect();
    let stage = ScriptedRun::new(
        OnUnknown::Fail,
        move |_| calls(&many.iter().map(|(id, arguments)| (id.as_str(), arguments.as_str())).collect::<Vec<_>>()),
        |_, _| done("ok"),
    );
    let record = stage.run().await;
    assert_eq!(record.outcome.unwrap().error.unwrap().code, ErrorCode::TooManySteps);
    assert!(stage.made().is_empty(), "none of them is made");
}

/// Runs a first attempt with an unknown outcome, then retries by this script, the last of which is repeated.
async fn after_an_unknown_try(
    retries: &'static [fn() -> Result<ToolOutput, ToolError>],
) -> (ScriptedRun, Option<ErrorCode>) {
    let stage = ScriptedRun::new(
        OnUnknown::Retry,
        |request| match tool_results(request).as_slice() {
            [] => calls(&[("c1", "{}")]),
            results => answer(&format!("the model was told {results:?}")),
        },
        move |_, number| match number {
            0 => unknown(),
            number => retries[(number - 1).min(retries.len() - 1)](),
        },
    );
    let record = stage.run().await;
    let code = record.outcome.as_ref().unwrap().error.as_ref().map(|error| error.code);
    (stage, code)
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_stays_unknown() {
    for turned_away in [unavailable, || refused("HTTP 503"), unknown] as [fn() -> _; 3] {
        let (stage, code) = after_an_unknown_try(Box::leak(Box::new([turned_away]))).await;
        assert_eq!(code, Some(ErrorCode::ToolOutcomeUnknown), "the model is told nothing of it");
        assert_eq!(stage.asked(), 1, "the model is not asked again");
        let made = stage.made();
        assert_eq!(made.len(), 6, "the first try and five retries");
        assert!(made.iter().all(|call| call.0 == made[0].0), "under one key");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_retry_is_the_answer() {
    let (stage, code) = after_an_unknown_try(&[unavailable, unavailable, || done("paid")]).await;
    assert_eq!((code, stage.made().len()), (None, 4));
}

#[tokio::test(start_paused = true)]
async fn what_surely_did_not_happen_is_told_to_the_model() {
    let stage = ScriptedRun::new(
        OnUnknown::Retry,
        |request| match tool_results(request).as_slice() {
            [] => calls(&[("c1", "{}")]),
            results => answer(&results.concat()),
        },
        |_, _| unavailable(),
    );
    let record = stage.run().await;
    assert_eq!((record.status, stage.made().len()), (TaskStatus::Completed, 1));
}
