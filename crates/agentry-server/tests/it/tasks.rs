//! `/v1/tasks` and `/v1/tasks/batch`.

use agentry_bus::{EventBus as _, ReceiveOutcome, Signal};
use agentry_core::agent::ModeSet;
use agentry_core::task::Outcome;
use agentry_server::ServerLimits;
use agentry_store::sqlite::SqliteOptions;
use agentry_store::{OutboxStore as _, TaskStore as _};
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::support::Server;

#[tokio::test]
async fn an_accepted_task_is_durable_woken_and_shown() {
    let server = Server::new().await;
    let mut wakes = server.bus.wakes(ModeSet::ALL);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let body = r#"{"agent":"triage","input":{"q":1},"priority":"high","timeout_seconds":1.5,"budget":0.1,
        "callback_url":"https://example.com/hook"}"#;
    let reply = server.call("POST", "/v1/tasks", &[("traceparent", trace)], body).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text);
    let receipt = reply.json();
    let id = receipt["id"].as_str().unwrap();
    assert_eq!(reply.header("location"), format!("/v1/tasks/{id}"));
    assert_eq!(receipt["status"], "queued");
    assert_eq!(receipt["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert!(receipt.get("session").is_none());
    assert_eq!(wakes.next(10).await[0].task.to_string(), id);
    let stored = server.store.task(id.parse().unwrap()).await.unwrap().unwrap().task;
    assert_eq!((stored.timeout_ms, stored.budget.unwrap().0), (1_500, 100_000_000));

    let shown = server.get(&format!("/v1/tasks/{id}?journal=true")).await;
    let mut shown = shown.json();
    shown["id"] = json!("[id]");
    insta::assert_json_snapshot!("a_queued_task", shown);
}

#[tokio::test]
async fn a_continuous_agent_has_sessions_and_others_have_none() {
    let server = Server::new().await;
    let reply = server.post("/v1/tasks", r#"{"agent":"support","input":"hi","session":"thread/1"}"#).await;
    assert_eq!(reply.json()["session"], "support:thread/1");
    let fresh = server.post("/v1/tasks", r#"{"agent":"support","input":"hi"}"#).await.json();
    assert_eq!(fresh["session"], format!("support:{}", fresh["id"].as_str().unwrap()));
    let refused = server.post("/v1/tasks", r#"{"agent":"triage","input":"hi","session":"x"}"#).await;
    assert_eq!((refused.status.as_u16(), refused.json()["errors"][0]["pointer"].clone()), (422, json!("/session")));
    let long = format!(r#"{{"agent":"support","input":"hi","session":"{}"}}"#, "x".repeat(257));
    assert_eq!(server.post("/v1/tasks", long).await.status, 422);
}

#[tokio::test]
async fn the_same_key_is_the_same_task_and_another_request_under_it_is_a_mistake() {
    let server = Server::new().await;
    let key = [("idempotency-key", "k1")];
    let first = server.call("POST", "/v1/tasks", &key, r#"{"agent":"triage","input":{"a":1,"b":2}}"#).await;
    let again = server.call("POST", "/v1/tasks", &key, r#"{"input":{"b":2,"a":1},"agent":"triage"}"#).await;
    assert_eq!(again.status, StatusCode::ACCEPTED);
    assert_eq!(first.json(), again.json());
    assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), ("", "true"));
    let other = server.call("POST", "/v1/tasks", &key, r#"{"agent":"triage","input":"else"}"#).await;
    assert_eq!((other.status.as_u16(), other.json()["code"].clone()), (422, json!("idempotency_key_reused")));
    assert_eq!(server.get("/v1/tasks").await.json()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn waiting_answers_with_the_end_or_gives_up_in_time() {
    let server = Server::new().await;
    let open = server.post("/v1/tasks?wait=0", r#"{"agent":"triage","input":"x"}"#).await;
    assert_eq!(open.status, StatusCode::ACCEPTED);
    server.finish(&server.claim().await, Outcome::completed(json!("first")), false).await;

    // A worker that ends the task as soon as it is woken: between its acceptance and the caller's first look.
    let mut wakes = server.bus.wakes(ModeSet::ALL);
    let worker = async {
        wakes.next(1).await;
        server.finish(&server.claim().await, Outcome::completed(json!({"team": "billing"})), false).await;
    };
    let (reply, ()) = tokio::join!(server.post("/v1/tasks?wait=30", r#"{"agent":"triage","input":"x"}"#), worker);
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_eq!((&reply.json()["status"], &reply.json()["output"]), (&json!("completed"), &json!({"team": "billing"})));

    let long = server.post("/v1/tasks?wait=61", r#"{"agent":"triage","input":"x"}"#).await;
    assert_eq!((long.status.as_u16(), long.json()["code"].clone()), (422, json!("invalid_query")));
}

#[tokio::test]
async fn lists_have_filters_and_cursors_that_reach_every_task_once() {
    let server = Server::new().await;
    let mut asked = Vec::new();
    for i in 0..7 {
        asked.push(server.ask(&i.to_string()).await.to_string());
    }
    server.post("/v1/tasks", r#"{"agent":"support","input":"hi","session":"s"}"#).await;
    let (mut seen, mut path) = (Vec::new(), "/v1/tasks?agent=triage&limit=3".to_owned());
    loop {
        let page = server.get(&path).await.json();
        seen.extend(page["items"].as_array().unwrap().iter().map(|t| t["id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/tasks?agent=triage&limit=3&cursor={cursor}");
    }
    seen.reverse();
    assert_eq!(seen, asked);
    for (query, expected) in [
        ("mode=continuous", 1),
        ("session=support:s", 1),
        ("status=queued", 8),
        ("status=completed", 0),
        ("agent=nobody", 0),
    ] {
        let page = server.get(&format!("/v1/tasks?{query}")).await.json();
        assert_eq!(page["items"].as_array().unwrap().len(), expected, "{query}");
    }
}

#[tokio::test]
async fn a_batch_is_accepted_or_refused_task_by_task() {
    let server = Server::new().await;
    let mut wakes = server.bus.wakes(ModeSet::ALL);
    let body = r#"{"tasks":[
        {"agent":"triage","input":"a"},
        {"agent":"triag","input":"b"},
        {"agent":"triage","inputs":"c"},
        {"agent":"off","input":"d"},
        {"agent":"support","input":"e","session":"s"},
        17
    ]}"#;
    let trace = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let reply = server.call("POST", "/v1/tasks/batch", &[trace], body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let mut body = reply.json();
    assert_eq!(wakes.next(10).await.len(), 2);
    assert_eq!(server.store.counts().await.unwrap().queued, 2);
    for row in body["tasks"].as_array_mut().unwrap() {
        if row.get("id").is_some() {
            row["id"] = json!("[id]");
        }
    }
    insta::assert_json_snapshot!("a_mixed_batch", body);
}

#[tokio::test]
async fn a_batch_can_be_sent_again_whole() {
    let server = Server::new().await;
    let body = r#"{"tasks":[{"agent":"triage","input":"a"},{"agent":"triage","input":"b","idempotency_key":"own"}]}"#;
    let ids = |reply: Value| reply["tasks"].as_array().unwrap().iter().map(|t| t["id"].clone()).collect::<Vec<_>>();
    let first = server.call("POST", "/v1/tasks/batch", &[("idempotency-key", "b1")], body).await.json();
    let again = server.call("POST", "/v1/tasks/batch", &[("idempotency-key", "b1")], body).await.json();
    assert_eq!(again["tasks"][1]["duplicate"], true);
    assert_eq!(ids(first), ids(again));
    assert_eq!(server.store.counts().await.unwrap().queued, 2);
}

#[tokio::test]
async fn a_batch_has_its_bounds() {
    let server = Server::new().await;
    let of = |n: usize| format!(r#"{{"tasks":[{}]}}"#, vec![r#"{"agent":"triage","input":"a"}"#; n].join(","));
    assert_eq!(server.post("/v1/tasks/batch", of(1_000)).await.json()["accepted"], 1_000);
    for n in [0, 1_001] {
        let reply = server.post("/v1/tasks/batch", of(n)).await;
        assert_eq!((reply.status.as_u16(), reply.json()["code"].clone()), (422, json!("invalid_request")), "{n}");
    }
    assert_eq!(server.store.counts().await.unwrap().queued, 1_000);
}

#[tokio::test]
async fn a_full_queue_refuses_with_retry_after_and_loses_nothing() {
    let server = Server::with(ServerLimits::default(), SqliteOptions { max_queued: 1 }).await;
    let first = server.ask("a").await;
    let reply = server.post("/v1/tasks", r#"{"agent":"triage","input":"b"}"#).await;
    assert_eq!((reply.status.as_u16(), reply.json()["code"].clone()), (503, json!("queue_full")), "{}", reply.text);
    assert!(reply.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert!(server.store.task(first).await.unwrap().is_some());
}

#[tokio::test]
async fn cancelling_ends_a_queued_task_with_its_messages_and_asks_the_owner_of_a_running_one() {
    let server = Server::new().await;
    let body = r#"{"agent":"triage","input":"x","callback_url":"https://example.com/hook"}"#;
    let id = server.post("/v1/tasks", body).await.json()["id"].as_str().unwrap().to_owned();
    let reply = server.post(&format!("/v1/tasks/{id}/cancel"), "").await;
    assert_eq!((reply.status.as_u16(), reply.json()["status"].clone()), (200, json!("cancelled")));
    // `support` subscribes to the output of `triage`, so the end is an event and a callback.
    let now = crate::support::NOW;
    let pending = server.store.claim_outbox(server.worker, now, 10, &[]).await.unwrap();
    let mut kinds: Vec<Value> =
        pending.iter().map(|p| serde_json::to_value(&p.message.body).unwrap()["kind"].clone()).collect();
    kinds.sort_by_key(ToString::to_string);
    assert_eq!(kinds, ["callback", "event"]);
    let again = server.post(&format!("/v1/tasks/{id}/cancel"), "").await;
    assert_eq!((again.status.as_u16(), again.json()["code"].clone()), (409, json!("task_ended")));

    let running = server.ask("y").await;
    server.claim().await;
    let mut signals = server.bus.signals();
    let reply = server.post(&format!("/v1/tasks/{running}/cancel"), "").await;
    assert_eq!((reply.status.as_u16(), reply.json()["status"].clone()), (202, json!("running")));
    assert!(matches!(signals.next().await, ReceiveOutcome::Signal(Signal::Cancel(id)) if id == running));
    let unknown = server.post(&format!("/v1/tasks/{}/cancel", agentry_core::id::TaskId::generate()), "").await;
    assert_eq!((unknown.status.as_u16(), unknown.json()["code"].clone()), (404, json!("unknown_task")));
}
