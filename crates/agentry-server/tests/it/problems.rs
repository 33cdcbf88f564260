//! Every kind of bad request: a stable code, the thing named, the way out.

use agentry_server::ServerLimits;
use agentry_store::sqlite::SqliteOptions;
use serde_json::{Value, json};

use crate::support::Server;

const TRACE: (&str, &str) = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");

#[tokio::test]
async fn bad_requests_name_the_thing_and_the_way_out() {
    let server = Server::new().await;
    let cases: &[(&str, &str, &str, &[u8])] = &[
        ("not json", "POST", "/v1/tasks", b"{\"agent\":\"triage\",\n  \"input\": }"),
        ("cut off", "POST", "/v1/tasks", b"{\"agent\":\"triage\""),
        ("empty body", "POST", "/v1/tasks", b""),
        ("not utf-8", "POST", "/v1/tasks", b"{\"agent\":\"tri\xffage\",\"input\":1}"),
        ("unknown field", "POST", "/v1/tasks", b"{\"agent\":\"triage\",\"input\":1,\"priorty\":\"high\"}"),
        ("missing field", "POST", "/v1/tasks", b"{\"agent\":\"triage\"}"),
        ("unknown variant", "POST", "/v1/tasks", b"{\"agent\":\"triage\",\"input\":1,\"priority\":\"hihg\"}"),
        ("unknown agent", "POST", "/v1/tasks", b"{\"agent\":\"tirage\",\"input\":1}"),
        ("invalid agent", "POST", "/v1/tasks", b"{\"agent\":\"broken\",\"input\":1}"),
        ("disabled agent", "POST", "/v1/tasks", b"{\"agent\":\"off\",\"input\":1}"),
        ("bad budget", "POST", "/v1/tasks", b"{\"agent\":\"triage\",\"input\":1,\"budget\":1e3}"),
        ("bad timeout", "POST", "/v1/tasks", b"{\"agent\":\"triage\",\"input\":1,\"timeout_seconds\":-1}"),
        ("bad callback", "POST", "/v1/tasks", b"{\"agent\":\"triage\",\"input\":1,\"callback_url\":\"ftp://x\"}"),
        ("bad batch", "POST", "/v1/tasks/batch", b"{\"task\":[]}"),
        ("not an id", "GET", "/v1/tasks/17", b""),
        ("bad query", "GET", "/v1/tasks?agnet=x", b""),
        ("bad status", "GET", "/v1/tasks?status=done", b""),
        ("bad limit", "GET", "/v1/tasks?limit=0", b""),
        ("foreign cursor", "GET", "/v1/tasks?cursor=x", b""),
        ("unknown route", "GET", "/v2/tasks", b""),
        ("wrong method", "PUT", "/v1/tasks", b""),
        ("bad topic", "POST", "/v1/events", b"{\"topic\":\"a..b\",\"data\":1}"),
        ("bad cron", "POST", "/v1/schedules", b"{\"name\":\"s\",\"agent\":\"triage\",\"cron\":\"61 * * * *\"}"),
        ("unknown schedule", "GET", "/v1/schedules/x", b""),
        ("unknown session", "GET", "/v1/sessions/support:x", b""),
        ("bad usage span", "GET", "/v1/usage?from=yesterday", b""),
    ];
    let mut answers = serde_json::Map::new();
    for (name, method, path, body) in cases {
        let reply = server.call(method, path, &[TRACE], body.to_vec()).await;
        assert_eq!(reply.header("content-type"), "application/problem+json", "{name}: {}", reply.text);
        let problem = reply.json();
        assert_eq!(problem["status"], reply.status.as_u16(), "{name}");
        assert_eq!(problem["trace_id"], "0af7651916cd43dd8448eb211c80319c", "{name}");
        answers.insert((*name).to_owned(), json!([problem["status"], problem["code"], problem["detail"]]));
    }
    insta::assert_json_snapshot!("bad_requests", Value::Object(answers));
    assert_eq!(server.get("/v1/tasks").await.json()["items"], json!([]), "nothing of it became a task");
}

#[tokio::test]
async fn a_problem_has_its_whole_shape() {
    let server = Server::new().await;
    let reply = server.call("POST", "/v1/tasks", &[TRACE], r#"{"agent":"triage","input":1,"timeout_seconds":0}"#).await;
    insta::assert_json_snapshot!("a_whole_problem", reply.json());
    let wrong = server.call("PUT", "/v1/tasks", &[], "").await;
    let mut allow: Vec<&str> = wrong.header("allow").split(',').collect();
    allow.sort_unstable();
    assert_eq!(allow, ["GET", "HEAD", "POST"]);
}

#[tokio::test]
async fn bodies_are_json_and_bounded() {
    let limits = ServerLimits { max_body_bytes: 64, ..ServerLimits::default() };
    let server = Server::with(limits, SqliteOptions::default()).await;
    let large = format!(r#"{{"agent":"triage","input":"{}"}}"#, "x".repeat(64));
    for headers in [vec![("content-length", "100")], vec![]] {
        let reply = server.call("POST", "/v1/tasks", &headers, large.clone()).await;
        assert_eq!((reply.status.as_u16(), reply.json()["code"].clone()), (413, json!("body_too_large")));
    }
    let request = axum::http::Request::post("/v1/tasks").header("content-type", "text/plain");
    let reply = server.send(request.body("{}".into()).unwrap()).await;
    assert_eq!((reply.status.as_u16(), reply.json()["code"].clone()), (415, json!("unsupported_media_type")));
}

#[tokio::test]
async fn an_overloaded_server_refuses_early_but_answers_probes() {
    let limits = ServerLimits { max_in_flight: 0, ..ServerLimits::default() };
    let server = Server::with(limits, SqliteOptions::default()).await;
    let reply = server.get("/v1/tasks").await;
    assert_eq!((reply.status.as_u16(), reply.json()["code"].clone()), (503, json!("overloaded")));
    assert_eq!(reply.header("retry-after"), "1");
    assert_eq!(server.get("/health/ready").await.status, 200);
}
