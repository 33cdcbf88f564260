//! The simulator over a socket, byte by byte: the formats that foreign clients rely on, and the ledger's file.
#![allow(clippy::unwrap_used, reason = "a test may panic, also in its helpers")]

use agentry_sim::llm::{LlmSim, SimOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Sends one request on a connection of its own and returns the response.
async fn post(address: std::net::SocketAddr, body: &str) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: sim\r\nx-request-id: r-1\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(body.as_bytes()).await.unwrap();
    let mut response = String::new();
    connection.read_to_string(&mut response).await.unwrap();
    response
}

fn request(text: &str, stream: bool) -> String {
    let mut body = json!({"model": "sim-small", "messages": [{"role": "user", "content": text}]});
    if stream {
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
    }
    body.to_string()
}

/// Runs `talk` against a simulator and returns its result after the simulator has shut down.
async fn with_sim<T, F: Future<Output = T>>(options: SimOptions, talk: impl FnOnce(std::net::SocketAddr) -> F) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let (sim, stop) = (LlmSim::new(options).unwrap(), shutdown.clone());
    let server = tokio::spawn(async move { sim.serve(listener, stop).await });
    let result = talk(address).await;
    shutdown.cancel();
    server.await.unwrap().unwrap();
    result
}

#[tokio::test]
async fn a_stream_has_role_pieces_reason_usage_and_done() {
    let response =
        with_sim(SimOptions::default(), |at| async move { post(at, &request("[[say:Hello]]", true)).await }).await;
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
    with_sim(options, |at| async move {
        assert!(post(at, &request("hi", false)).await.starts_with("HTTP/1.1 200"));
        assert!(post(at, &request("[[fail:503]]", false)).await.starts_with("HTTP/1.1 503"));
        assert!(post(at, "{").await.starts_with("HTTP/1.1 400"));
    })
    .await;
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
    let response = with_sim(always, |at| async move { post(at, &request("hi", false)).await }).await;
    assert!(response.starts_with("HTTP/1.1 500"), "{response}");
    let none = SimOptions { rate_limit: Some(0), ..SimOptions::default() };
    let response = with_sim(none, |at| async move { post(at, &request("hi", false)).await }).await;
    assert!(response.starts_with("HTTP/1.1 429") && response.contains("retry-after: 1"), "{response}");
}
