//! HTTP tools against a server on this machine: requests, responses, and every kind of failure.
#![allow(clippy::unwrap_used, reason = "a test may panic, also in its helpers")]

use std::sync::Arc;

use agentry_core::agent::{OnUnknown, ToolAuth, ToolAuthKind, ToolKind, ToolSpec};
use agentry_core::chat::ToolCall;
use agentry_core::id::TaskId;
use agentry_core::trace::{Sampling, SpanContext, SpanId, Trace};
use agentry_tools::{Invocation, ToolBox, ToolError, ToolOutput, Tools};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

fn tools() -> Tools {
    Tools::with_environment(Arc::new(|name| (name == "CRM_TOKEN").then(|| "t0ken".to_owned())))
}

fn tool(url: &str) -> ToolSpec {
    ToolSpec {
        name: "crm".into(),
        kind: ToolKind::Http { url: url.into() },
        description: None,
        parameters: Some(Box::new(json!({"type": "object", "required": ["q"]}))),
        allowed_tools: Vec::new(),
        auth: None,
        timeout_ms: 10_000,
        on_unknown: OnUnknown::Fail,
    }
}

async fn invoke(tool: &ToolSpec, arguments: &str) -> Result<ToolOutput, ToolError> {
    let call = ToolCall { id: "c1".into(), name: tool.name.to_string(), arguments: arguments.into() };
    let invocation = Invocation {
        tool,
        call: &call,
        task: TaskId::from_parts(1, 2),
        idempotency_key: "key-1".into(),
        place: SpanContext::of(Sampling::ALL, Trace::begin(0xabc), SpanId::new(0xdef)),
    };
    tools().invoke(invocation).await
}

/// Serves `POST /` by `router` and returns its address.
async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

async fn echo(headers: HeaderMap, Json(body): Json<Value>) -> Json<Value> {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    Json(json!({
        "body": body,
        "authorization": header("authorization"),
        "x-api-key": header("x-api-key"),
        "idempotency-key": header("idempotency-key"),
        "traceparent": header("traceparent"),
    }))
}

#[tokio::test]
async fn arguments_key_trace_and_credential_are_sent() {
    let url = serve(Router::new().route("/", post(echo))).await;
    let mut tool = tool(&url);
    for (kind, header, expected) in [
        (ToolAuthKind::BearerToken, "authorization", "Bearer t0ken"),
        (ToolAuthKind::Oauth2, "authorization", "Bearer t0ken"),
        (ToolAuthKind::ApiKey, "x-api-key", "t0ken"),
    ] {
        tool.auth = Some(ToolAuth { kind, token: "${CRM_TOKEN}".into() });
        let output = invoke(&tool, r#"{"q":"late"}"#).await.unwrap();
        assert!(!output.is_error);
        let seen: Value = serde_json::from_str(&output.text).unwrap();
        assert_eq!(seen["body"], json!({"q": "late"}));
        assert_eq!(seen[header], expected);
        assert_eq!(seen["idempotency-key"], "key-1");
        let trace = seen["traceparent"].as_str().unwrap();
        assert_eq!(trace, "00-00000000000000000000000000000abc-0000000000000def-01");
    }
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_not_sent() {
    let error = invoke(&tool("http://127.0.0.1:1/"), "{}").await.unwrap_err();
    assert!(matches!(&error, ToolError::Arguments { .. }), "{error}");
}

#[tokio::test]
async fn an_unset_credential_is_named_and_nothing_is_sent() {
    let auth = ToolAuth { kind: ToolAuthKind::ApiKey, token: "${OTHER_TOKEN}".into() };
    let tool = ToolSpec { auth: Some(auth), ..tool("http://127.0.0.1:1/") };
    let error = invoke(&tool, r#"{"q":1}"#).await.unwrap_err();
    assert!(matches!(&error, ToolError::Unavailable { .. }) && error.to_string().contains("OTHER_TOKEN"), "{error}");
}

#[tokio::test]
async fn a_tools_own_error_is_an_output() {
    let answer = || async { (StatusCode::CONFLICT, "no such customer") };
    let url = serve(Router::new().route("/", post(answer))).await;
    let output = invoke(&tool(&url), r#"{"q":1}"#).await.unwrap();
    let told = "HTTP 409 Conflict: no such customer".to_owned();
    assert_eq!(output, ToolOutput { text: told, is_error: true, is_refusal: false });
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let answer = || async { axum::response::Redirect::temporary("http://127.0.0.1:1/") };
    let url = serve(Router::new().route("/", post(answer))).await;
    let output = invoke(&tool(&url), r#"{"q":1}"#).await.unwrap();
    assert!(output.is_error && output.text.contains("not followed"), "{output:?}");
}

#[tokio::test]
async fn a_long_output_is_cut_at_a_character_with_a_note() {
    let answer = || async { format!("a{}", "ä".repeat(1024 * 1024)) };
    let url = serve(Router::new().route("/", post(answer))).await;
    let output = invoke(&tool(&url), r#"{"q":1}"#).await.unwrap();
    assert!(
        output.text.ends_with("ä\n[cut: the first 1048576 bytes are shown]"),
        "{}",
        &output.text[output.text.len() - 60..]
    );
    assert!(output.text.len() < 1024 * 1024 + 64);
}

#[tokio::test]
async fn nobody_listening_is_unavailable() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = invoke(&tool(&format!("http://127.0.0.1:{port}/")), r#"{"q":1}"#).await.unwrap_err();
    assert!(matches!(&error, ToolError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn a_connection_lost_after_sending_leaves_the_outcome_unknown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut head = [0; 64];
        connection.read_exact(&mut head).await.unwrap();
    });
    let error = invoke(&tool(&url), r#"{"q":1}"#).await.unwrap_err();
    assert!(matches!(&error, ToolError::Unknown { .. }), "{error}");
}

#[tokio::test]
async fn no_answer_in_time_leaves_the_outcome_unknown() {
    let url = serve(Router::new().route("/", post(std::future::pending::<String>))).await;
    let tool = ToolSpec { timeout_ms: 100, ..tool(&url) };
    let error = invoke(&tool, r#"{"q":1}"#).await.unwrap_err();
    assert!(matches!(&error, ToolError::Unknown { .. }) && error.to_string().contains("100ms"), "{error}");
}
