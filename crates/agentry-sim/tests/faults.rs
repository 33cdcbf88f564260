//! Injected faults, byte by byte over a socket, in every protocol, and their ledger lines.
#![allow(clippy::unwrap_used, reason = "a test may panic, also in its helpers")]

mod common;

use agentry_sim::llm::SimOptions;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use common::{Sim, chunks_of};

/// Returns a streaming request with this text for each protocol.
fn streamed(text: &str) -> [(&'static str, Value); 6] {
    let messages = json!([{"role": "user", "content": text}]);
    [
        ("/v1/chat/completions", json!({"model": "m", "messages": messages, "stream": true})),
        ("/v1/messages", json!({"model": "m", "max_tokens": 9_000, "messages": messages, "stream": true})),
        ("/model/m/converse-stream", json!({"messages": [{"role": "user", "content": [{"text": text}]}]})),
        ("/api/chat", json!({"model": "m", "messages": messages})),
        ("/v1/responses", json!({"model": "m", "input": text, "stream": true})),
        (
            "/v1beta/models/m:streamGenerateContent?alt=sse",
            json!({"contents": [{"role": "user", "parts": [{"text": text}]}]}),
        ),
    ]
}

/// Returns true when a response ends as chunked bodies end.
fn is_whole(response: &[u8]) -> bool {
    response.ends_with(b"0\r\n\r\n")
}

#[tokio::test]
async fn a_disconnect_comes_before_a_single_byte() {
    let sim = Sim::start(SimOptions::default()).await;
    for (path, body) in streamed("[[disconnect]]") {
        assert_eq!(sim.post(path, &body).await, b"", "{path}");
    }
    let ends: Vec<Value> = sim.ledger().iter().map(|line| line["end"].clone()).collect();
    assert_eq!(ends, vec![json!("disconnected"); 6]);
}

#[tokio::test]
async fn a_truncated_stream_has_no_end_and_a_garbled_or_broken_one_has() {
    let sim = Sim::start(SimOptions::default()).await;
    for (directive, whole, end) in
        [("[[truncate]]", false, "truncated"), ("[[garble]]", true, "garbled"), ("[[break:529]]", true, "broken")]
    {
        for (path, body) in streamed(&format!("Tell me more {directive}")) {
            let response = sim.post(path, &body).await;
            assert!(response.starts_with(b"HTTP/1.1 200"), "{path} {directive}");
            assert_eq!(is_whole(&response), whole, "{path} {directive}");
            let line = sim.ledger().pop().unwrap();
            assert_eq!(line["end"], end, "{path} {directive}");
            assert!(line["output_tokens"].as_u64().unwrap() > 0, "{path} {directive}: {line}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_drips_comes_in_small_pieces_and_is_whole() {
    let sim = Sim::start(SimOptions::default()).await;
    for (path, body) in streamed("[[drip:1]] [[say:drop by drop]]") {
        let response = sim.post(path, &body).await;
        let chunks = chunks_of(&response);
        assert!(is_whole(&response) && chunks.len() > 10, "{path}");
        assert!(chunks.iter().all(|chunk| chunk.len() <= 16), "{path}");
        let line = sim.ledger().pop().unwrap();
        assert_eq!((&line["end"], &line["output_tokens"]), (&json!("completed"), &json!(3)), "{path}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_an_endless_stream_is_charged_for_what_was_sent() {
    let sim = Sim::start(SimOptions::default()).await;
    for (path, body) in streamed("[[endless]] [[say:ever]]") {
        let mut connection = sim.open(path, &body).await;
        let mut read = vec![0; 64 * 1024];
        connection.read_exact(&mut read).await.unwrap();
        drop(connection);
        let line = sim.line_of(path).await;
        assert_eq!(line["end"], "aborted", "{path}");
        assert!(line["output_tokens"].as_u64().unwrap() > 100, "{path}: {line}");
    }
}

#[tokio::test]
async fn a_client_that_gives_up_waiting_is_in_the_ledger_too() {
    let sim = Sim::start(SimOptions::default()).await;
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "[[sleep:60000]]"}]});
    let connection = sim.open("/v1/chat/completions", &body).await;
    sim.taken(1).await;
    drop(connection);
    let line = sim.line_of("/v1/chat/completions").await;
    assert_eq!((&line["end"], &line["status"], &line["output_tokens"]), (&json!("aborted"), &json!(0), &json!(0)));
}

#[tokio::test]
async fn errors_have_the_shape_and_the_headers_of_their_provider() {
    let sim = Sim::start(SimOptions::default()).await;
    let expected = [
        ("retry-after: 7", r#""code":"rate_limit_exceeded""#),
        ("retry-after: 7", r#""type":"rate_limit_error""#),
        ("x-amzn-errortype: ThrottlingException", r#"{"message":"#),
        ("retry-after: 7", r#"{"error":"#),
        ("retry-after: 7", r#""code":"rate_limit_exceeded""#),
        ("HTTP/1.1 429", r#""status":"RESOURCE_EXHAUSTED""#),
    ];
    for ((path, body), (header, shape)) in streamed("[[fail:429::7]]").into_iter().zip(expected) {
        let response = String::from_utf8(sim.post(path, &body).await).unwrap();
        assert!(response.starts_with("HTTP/1.1 429") && response.contains(header), "{path}: {response}");
        assert!(response.contains(shape), "{path}: {response}");
        let line = sim.ledger().pop().unwrap();
        assert_eq!(line["retry_after"] == 7, header.starts_with("retry-after"), "{path}: {line}");
        let id = line["provider_id"].as_str().unwrap();
        let has_id = path != "/api/chat" && !path.starts_with("/v1beta");
        assert!(response.contains(id) && id.is_empty() != has_id, "{path}: {id}: {response}");
    }
}

#[tokio::test]
async fn an_event_stream_is_read_by_an_independent_decoder() {
    let sim = Sim::start(SimOptions::default()).await;
    let (path, body) = &streamed("[[say:Hello there]]")[2];
    let mut frames = bytes::Bytes::from(chunks_of(&sim.post(path, body).await).concat());
    let mut kinds = Vec::new();
    let mut text = String::new();
    while !frames.is_empty() {
        let message = aws_smithy_eventstream::frame::read_message_from(&mut frames).unwrap();
        let payload: Value = serde_json::from_slice(message.payload()).unwrap();
        text.push_str(payload["delta"]["text"].as_str().unwrap_or_default());
        let kind = message.headers().iter().find(|header| header.name().as_str() == ":event-type").unwrap();
        kinds.push(kind.value().as_string().unwrap().as_str().to_owned());
    }
    assert_eq!(text, "Hello there");
    let delta = "contentBlockDelta";
    assert_eq!(kinds, ["messageStart", delta, delta, delta, "contentBlockStop", "messageStop", "metadata"]);
}
