//! The client against a server by script: pages, streams that break, refusals, headers.

use agentry_api::{Client, Code, Error, List, SubmitReply, TaskQuery, TaskRequest};
use futures_util::TryStreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Gives these answers, one a connection; returns the requests.
async fn serve(answers: Vec<String>) -> (Client, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let serving = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut request = Vec::new();
            // A body may come after its head; each of these is an object.
            while !(request.ends_with(b"}") || request.starts_with(b"GET ") && request.ends_with(b"\r\n\r\n")) {
                socket.read_buf(&mut request).await.expect("a request");
            }
            requests.push(String::from_utf8_lossy(&request).into_owned());
            socket.write_all(answer.as_bytes()).await.expect("a reader");
        }
        requests
    });
    (Client::builder(&url).build().expect("a client"), serving)
}

fn answer(status: &str, headers: &str, body: &Value) -> String {
    let body = body.to_string();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// A stream of which more was announced than comes: it breaks off.
fn stream(events: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n{events}")
}

#[tokio::test]
async fn a_list_is_read_page_by_page_up_to_its_limit() {
    let pages = [json!({"items": [1, 2], "next_cursor": "c/1"}), json!({"items": [3, 4], "next_cursor": "c/2"})];
    let (client, serving) = serve(pages.iter().map(|page| answer("200 OK", "", page)).collect()).await;
    let rows = client.call::<List<u32>>(Method::GET, &["v1", "numbers"]).all(3).await.expect("rows");
    assert_eq!(rows, [1, 2, 3]);
    let requests = serving.await.expect("the requests");
    assert!(requests[0].starts_with("GET /v1/numbers?limit=3 "), "{}", requests[0]);
    assert!(requests[1].starts_with("GET /v1/numbers?cursor=c%2F1&limit=1 "), "{}", requests[1]);
}

#[tokio::test]
async fn a_list_without_a_cursor_is_whole() {
    let (client, _) = serve(vec![answer("200 OK", "", &json!({"items": [1]}))]).await;
    assert_eq!(client.call::<List<u32>>(Method::GET, &["x"]).all(10).await.expect("rows"), [1]);
}

#[tokio::test]
async fn a_stream_goes_on_after_the_last_event_that_was_read() {
    let first = stream("id: 1\nevent: a\ndata: {\"n\":1}\n\nid: 2\nevent: a\ndata: {\"n\":2}\n\n");
    let second = stream(": comment\n\nid: 3\nevent: a\ndata: {\"n\":3}\n\nevent: end\ndata: {}\n\n");
    let (client, serving) = serve(vec![first, second]).await;
    let events = client.task_events("t").follow().await.expect("a stream");
    let events: Vec<_> = events.to_the_end().try_collect().await.expect("all events");
    let ids: Vec<_> = events.iter().map(|event| event.id.as_deref()).collect();
    assert_eq!(ids, [Some("1"), Some("2"), Some("3"), None]);
    assert_eq!(events[3].event, "end");
    let requests = serving.await.expect("the requests");
    assert!(!requests[0].contains("last-event-id") && requests[1].contains("last-event-id: 2\r\n"), "{requests:?}");
}

#[tokio::test]
async fn a_refusal_has_its_code_its_fields_and_when_to_try_again() {
    let body = json!({"type": "urn:agentry:problem:queue_full", "title": "Full", "status": 503, "detail": "try later",
        "code": "queue_full", "trace_id": "0af7651916cd43dd8448eb211c80319c", "errors": [{"pointer": "/a", "detail": "b"}]});
    let (client, _) = serve(vec![answer("503 Service Unavailable", "retry-after: 7\r\n", &body)]).await;
    let error = client.tasks(&TaskQuery::default()).await.expect_err("a refusal");
    assert!(error.is(Code::QueueFull) && !error.is(Code::Internal));
    assert_eq!(error.to_string(), "try later (queue_full)");
    let refusal = error.refusal().expect("a refusal");
    assert_eq!(refusal.retry_after.map(|after| after.as_secs()), Some(7));
    assert_eq!(
        (refusal.problem.errors[0].pointer.as_str(), &*refusal.problem.trace_id),
        ("/a", "0af7651916cd43dd8448eb211c80319c")
    );
}

#[tokio::test]
async fn what_no_server_of_ours_answers_is_told_apart() {
    let answers = vec![answer("502 Bad Gateway", "", &json!("")), answer("200 OK", "", &json!({"no": "task"}))];
    let (client, _) = serve(answers).await;
    let error = client.task("x").await.expect_err("a proxy");
    assert!(matches!(&error, Error::Foreign { what, .. } if what.starts_with("502")), "{error}");
    let error = client.task("x").await.expect_err("not a task");
    assert!(error.to_string().contains("something else than expected: missing field"), "{error}");
}

#[tokio::test]
async fn a_request_carries_its_headers_and_only_the_fields_that_are_given() {
    let receipt = json!({"id": "01890a5d-ac96-774b-bcce-b302099a8057", "status": "queued", "trace_id": "0af7651916cd43dd8448eb211c80319c"});
    let (client, serving) = serve(vec![answer("202 Accepted", "", &receipt)]).await;
    let call = client.submit_and_wait(&TaskRequest::new("clerk", "hi"), 0.5).header("idempotency-key", "k1");
    assert!(matches!(call.await.expect("a reply"), SubmitReply::Accepted(_)));
    let request = serving.await.expect("the requests").remove(0);
    assert!(
        request.starts_with("POST /v1/tasks?wait=0.5 ") && request.contains("idempotency-key: k1\r\n"),
        "{request}"
    );
    let body: Value = serde_json::from_str(request.rsplit("\r\n\r\n").next().unwrap_or_default()).expect("JSON");
    assert_eq!(body, json!({"agent": "clerk", "input": "hi", "priority": "normal", "stream": false}));
}
