//! The simulator over a socket, byte by byte: the formats that foreign clients rely on, and the ledger's file.
#![allow(clippy::unwrap_used, reason = "a test may panic, also in its helpers")]

mod common;

use agentry_sim::llm::SimOptions;
use serde_json::{Value, json};

use common::Sim;

const PATH: &str = "/v1/chat/completions";

fn request(text: &str, stream: bool) -> String {
    let mut body = json!({"model": "sim-small", "messages": [{"role": "user", "content": text}]});
    if stream {
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
    }
    body.to_string()
}

#[tokio::test]
async fn a_stream_has_role_pieces_reason_usage_and_done() {
    let response = Sim::start(SimOptions::default()).await.post_text(PATH, &request("[[say:Hello]]", true)).await;
    assert!(response.contains("content-type: text/event-stream"), "{response}");
    let data: Vec<&str> = response.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let (done, chunks) = data.split_last().unwrap();
    assert_eq!(*done, "[DONE]");
    let chunks: Vec<Value> = chunks.iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect();
    assert!(chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == chunks[0]["id"]));
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let pieces: Vec<_> =
        chunks[1..3].iter().map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().unwrap()).collect();
    assert_eq!(pieces, ["Hell", "o"]);
    assert_eq!((&chunks[3]["choices"][0]["finish_reason"], &chunks[3]["usage"]), (&json!("stop"), &Value::Null));
    assert_eq!((&chunks[4]["choices"], &chunks[4]["usage"]["completion_tokens"]), (&json!([]), &json!(2)));
    assert_eq!(chunks.len(), 5);
}

#[tokio::test]
async fn the_ledgers_file_has_a_line_for_every_request_also_for_one_that_is_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl");
    let options = SimOptions { ledger: Some(path.clone()), ..SimOptions::default() };
    let sim = Sim::start(options).await;
    for (body, status) in [(request("hi", false), 200), (request("[[fail:503]]", false), 503), ("{".to_owned(), 400)] {
        let response = sim.post_text(PATH, &body).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{response}");
    }
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seen: Vec<_> =
        lines.iter().map(|line| (line["n"].as_u64().unwrap(), line["status"].as_u64().unwrap())).collect();
    assert_eq!(seen, [(1, 200), (2, 503), (3, 400)]);
    assert!(lines.iter().all(|line| line["request_id"] == "r-1"));
}

#[tokio::test]
async fn the_error_rate_and_the_rate_limit_refuse() {
    let always = SimOptions { faults: vec!["500=1".parse().unwrap()], ..SimOptions::default() };
    let response = Sim::start(always).await.post_text(PATH, &request("hi", false)).await;
    assert!(response.starts_with("HTTP/1.1 500"), "{response}");
    let none = SimOptions { rate_limit: Some(0), ..SimOptions::default() };
    let response = Sim::start(none).await.post_text(PATH, &request("hi", false)).await;
    assert!(response.starts_with("HTTP/1.1 429") && response.contains("retry-after: 1"), "{response}");
}
