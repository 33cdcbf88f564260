//! Server-sent events: replay, resume, live, end, bounds, shutdown.

use std::sync::Arc;

use agentry_bus::{EventBus as _, Signal};
use agentry_core::journal::{JournalBody, JournalEntry, Scope};
use agentry_core::task::Outcome;
use agentry_core::time::Clock as _;
use agentry_server::ServerLimits;
use agentry_store::sqlite::SqliteOptions;
use agentry_store::{Advance, ClaimedTask, Step, TaskStore as _};
use axum::body::{Body, BodyDataStream};
use axum::http::Request;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::support::Server;

/// One server-sent event.
#[derive(Debug)]
struct ServerEvent {
    id: Option<String>,
    name: String,
    data: Value,
}

/// Reads a stream event by event.
struct EventReader {
    body: BodyDataStream,
    rest: String,
}

impl EventReader {
    async fn open(server: &Server, path: &str, last: Option<u32>) -> Self {
        let mut request = Request::get(path);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = server.raw(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body().into_data_stream(), rest: String::new() }
    }

    async fn next(&mut self) -> Option<ServerEvent> {
        loop {
            if let Some((event, rest)) = self.rest.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                let sent = field("data:").map(|data| ServerEvent {
                    id: field("id:").map(str::to_owned),
                    name: field("event:").unwrap_or("message").to_owned(),
                    data: serde_json::from_str(data).unwrap(),
                });
                self.rest = rest.to_owned();
                match sent {
                    Some(sent) => return Some(sent),
                    None => continue,
                }
            }
            let chunk = self.body.next().await?.unwrap();
            self.rest.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

async fn journal(server: &Server, claimed: &ClaimedTask, seq: u32, step: Step) {
    let mut advance = Advance::new(claimed.lease, server.clock.now(), step);
    let body = JournalBody::PlanRejected { problems: vec![seq.to_string()] };
    let at = server.clock.now();
    advance.journal.push(JournalEntry { seq, attempt: 1, scope: Scope::MAIN, at, body });
    server.store.advance(advance.into()).await.unwrap();
}

#[tokio::test]
async fn a_stream_replays_follows_and_ends_with_the_task() {
    let server = Server::new().await;
    let id = server.ask("x").await;
    let claimed = server.claim().await;
    journal(&server, &claimed, 1, Step::Continue).await;
    let mut reader = EventReader::open(&server, &format!("/v1/tasks/{id}/events"), None).await;
    let first = reader.next().await.unwrap();
    assert_eq!((first.id.as_deref(), first.name.as_str()), (Some("1"), "plan_rejected"));
    assert_eq!(first.data["body"]["problems"], json!(["1"]));
    let status = reader.next().await.unwrap();
    assert_eq!((status.name.as_str(), &status.data["status"], status.id), ("status", &json!("running"), None));

    server.bus.signal(Signal::Delta { task: id, text: Arc::from("Hel\nlo") });
    let delta = reader.next().await.unwrap();
    assert_eq!((delta.name.as_str(), &delta.data["text"], delta.id), ("delta", &json!("Hel\nlo"), None));

    journal(&server, &claimed, 2, Step::Continue).await;
    let outcome = Outcome::completed(json!("done"));
    server.finish(&claimed, outcome, false).await;
    assert_eq!(reader.next().await.unwrap().id.as_deref(), Some("2"));
    let end = reader.next().await.unwrap();
    assert_eq!(
        (end.name.as_str(), &end.data["status"], &end.data["output"]),
        ("end", &json!("completed"), &json!("done"))
    );
    assert!(reader.next().await.is_none());
}

#[tokio::test]
async fn a_stream_resumes_after_the_last_event_and_reads_long_journals_whole() {
    let server = Server::new().await;
    let id = server.ask("x").await;
    let claimed = server.claim().await;
    for seq in 1..=300 {
        journal(&server, &claimed, seq, Step::Continue).await;
    }
    server.finish(&claimed, Outcome::completed(json!(1)), false).await;
    let path = format!("/v1/tasks/{id}/events");
    for last in [0, 298, 300] {
        let mut reader = EventReader::open(&server, &path, Some(last)).await;
        let mut ids = Vec::new();
        loop {
            let sent = reader.next().await.unwrap();
            match sent.id {
                Some(id) => ids.push(id.parse::<u32>().unwrap()),
                None => break assert_eq!(sent.name, "end"),
            }
        }
        assert_eq!(ids, (last + 1..=300).collect::<Vec<_>>());
    }
    let bad = server.call("GET", &path, &[("last-event-id", "x")], "").await;
    assert_eq!(bad.status, 422);
    let unknown = format!("/v1/tasks/{}/events", agentry_core::id::TaskId::generate());
    assert_eq!(server.get(&unknown).await.status, 404);
}

#[tokio::test]
async fn streams_are_bounded_and_a_closed_one_makes_room() {
    let limits = ServerLimits { max_streams: 1, ..ServerLimits::default() };
    let server = Server::with(limits, SqliteOptions::default()).await;
    let id = server.ask("x").await;
    let path = format!("/v1/tasks/{id}/events");
    let open = EventReader::open(&server, &path, None).await;
    let refused = server.get(&path).await;
    assert_eq!((refused.status.as_u16(), refused.json()["code"].clone()), (503, json!("too_many_streams")));
    assert!(!refused.header("retry-after").is_empty());
    drop(open);
    EventReader::open(&server, &path, None).await;
}

#[tokio::test]
async fn the_tail_begins_with_the_past_and_filters_by_pattern() {
    let server = Server::new().await;
    for n in 1..=3 {
        server.post("/v1/events", format!(r#"{{"topic":"a.b","data":{n}}}"#)).await;
    }
    let mut reader = EventReader::open(&server, "/v1/events?topic=a.*&recent=2", None).await;
    server.post("/v1/events", r#"{"topic":"other","data":9}"#).await;
    server.post("/v1/events", r#"{"topic":"a.c","data":4}"#).await;
    for expected in [2, 3, 4] {
        let sent = reader.next().await.unwrap();
        assert_eq!((sent.name.as_str(), &sent.data["data"]), ("event", &json!(expected)));
    }
    assert_eq!(server.get("/v1/events?topic=a..b").await.status, 422);
}

#[tokio::test]
async fn shutting_down_ends_open_streams_so_that_the_server_ends() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let limits = ServerLimits { drain: std::time::Duration::from_secs(3_600), ..ServerLimits::default() };
    let server = Server::with(limits, SqliteOptions::default()).await;
    let id = server.ask("x").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let serving = tokio::spawn(agentry_server::serve(listener, None, server.deps.clone(), stop.clone()));
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET /v1/tasks/{id}/events HTTP/1.1\r\nhost: localhost\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut heard, mut buffer) = (String::new(), [0; 1024]);
    while !heard.contains("event: status") {
        let read = client.read(&mut buffer).await.unwrap();
        assert!(read > 0, "closed after: {heard}");
        heard.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    stop.cancel();
    // The drain deadline is an hour in this test: only the end of the stream can end the server.
    serving.await.unwrap().unwrap();
    client.read_to_string(&mut heard).await.unwrap();
    assert!(heard.ends_with("0\r\n\r\n"), "the stream ended cleanly: {heard}");
}
