//! Agents, sessions, events, usage, workers, health, metrics, the page and the document.

use agentry_bus::EventBus as _;
use agentry_core::agent::{AgentName, ModeSet, ProviderKind};
use agentry_core::chat::{Message, Usage};
use agentry_core::fleet::AgentState;
use agentry_core::id::CallId;
use agentry_core::money::{CallStatus, LedgerRow, NanoUsd};
use agentry_core::session::{SessionId, SessionWrite};
use agentry_core::task::Outcome;
use agentry_store::{Advance, AgentStatus, FleetStore as _, SessionClaim, SessionStore as _, Step, TaskStore as _};
use serde_json::json;

use crate::support::{NOW, Server};

#[tokio::test]
async fn agents_show_their_state_and_why() {
    let server = Server::new().await;
    let status = AgentStatus {
        agent: AgentName::new("triage").unwrap(),
        state: AgentState::Healthy,
        version: None,
        restarts: 2,
        reason: None,
        since: NOW,
    };
    server.store.put_agent_status(vec![status]).await.unwrap();
    let listed = server.get("/v1/agents").await.json();
    let states: Vec<_> = listed["items"].as_array().unwrap().iter().map(|a| (&a["name"], &a["status"])).collect();
    let expected = [("broken", "invalid"), ("off", "disabled"), ("support", "starting"), ("triage", "healthy")]
        .map(|(n, s)| (json!(n), json!(s)));
    assert_eq!(states, expected.iter().map(|(n, s)| (n, s)).collect::<Vec<_>>());
    let triage = server.get("/v1/agents/triage").await.json();
    assert_eq!((&triage["model"], &triage["counters"]["restarts"]), (&json!("simulated/echo"), &json!(2)));
    let broken = server.get("/v1/agents/broken").await.json();
    assert!(broken["error"].as_str().unwrap().contains("did you mean `model`?"));
    let unknown = server.get("/v1/agents/suport").await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.text.contains("did you mean `support`?"), "{}", unknown.text);
}

#[tokio::test]
async fn an_agent_file_is_checked_without_joining_the_fleet() {
    let server = Server::new().await;
    let text = "name: a\nexecution_mode: autonomos\nsystem_prompt: x\nllm_config: {provider: simulated, model: echo}\n";
    let bad = server.post("/v1/agents/validate", json!({"text": text, "file": "a.yml"}).to_string()).await.json();
    assert_eq!((&bad["valid"], &bad["problems"][0]["line"]), (&json!(false), &json!(2)));
    assert!(bad["problems"][0]["text"].as_str().unwrap().contains("a.yml:2:17"), "{bad}");
    let good = text.replace("autonomos", "autonomous");
    let good = server.post("/v1/agents/validate", json!({"text": good}).to_string()).await.json();
    assert_eq!(good["valid"], true, "{good}");
}

/// Whoever may read must learn nothing of the server's environment: neither a value nor whether a variable is set.
#[tokio::test]
async fn checking_a_file_tells_nothing_of_the_environment() {
    let server = Server::new().await;
    // Cargo sets the first of these for every test; the second is as long and not set.
    let value = std::env::var("CARGO_PKG_NAME").unwrap();
    for key in ["execution_mode", "enabled", "name", "description", "system_prompt", "tools", "schedule_config", "x"] {
        let mut replies = Vec::new();
        for name in ["CARGO_PKG_NAME", "CARGO_PKG_NONE"] {
            let text = format!("{key}: ${{{name}}}\nllm_config: {{provider: '${{{name}}}', model: m}}\n");
            let reply = server.post("/v1/agents/validate", json!({"text": text, "file": "a.yml"}).to_string()).await;
            assert_eq!(reply.status, 200, "{}", reply.text);
            assert!(!reply.text.contains(&value), "{key}: {}", reply.text);
            replies.push(reply.text.replace("CARGO_PKG_NONE", "CARGO_PKG_NAME"));
        }
        assert_eq!(replies[0], replies[1], "{key}");
    }
}

#[tokio::test]
async fn a_session_has_its_messages_in_pages_and_is_deleted_only_when_idle() {
    let server = Server::new().await;
    server.post("/v1/tasks", r#"{"agent":"support","input":"hi","session":"thread/1"}"#).await;
    let id = SessionId::parse("support:thread/1").unwrap();
    let claim = server.store.claim_session(server.worker, &id, NOW).await.unwrap();
    let SessionClaim::Claimed { claimed, session } = claim else { panic!("{claim:?}") };
    let path = "/v1/sessions/support:thread%2F1";
    let busy = server.delete(path).await;
    assert_eq!((busy.status.as_u16(), busy.json()["code"].clone()), (409, json!("session_busy")), "{}", busy.text);

    let step = Step::Finish { outcome: Outcome::completed(json!("hello")), dead_letter: false };
    let mut advance = Advance::new(claimed.lease, NOW, step);
    let messages = vec![
        Message::User { content: "hi".to_owned() },
        Message::Assistant { content: "hello".to_owned(), tool_calls: Vec::new(), native: None },
    ];
    advance.session = Some(SessionWrite { session: id, fence: session.fence, messages, summary: None });
    server.store.advance(advance.into()).await.unwrap();

    let first = server.get(&format!("{path}?limit=1")).await.json();
    assert_eq!((&first["messages"], &first["history"][0]["message"]["content"]), (&json!(2), &json!("hi")));
    let rest = server.get(&format!("{path}?after={}", first["next_after"])).await.json();
    assert_eq!(rest["history"][0]["message"]["role"], "assistant");
    assert!(rest.get("next_after").is_none());
    let listed = server.get("/v1/sessions?agent=support").await.json();
    assert_eq!((&listed["items"][0]["id"], &listed["items"][0]["turns"]), (&json!("support:thread/1"), &json!(1)));
    assert_eq!(server.delete(path).await.status, 204);
    assert_eq!(server.get(path).await.status, 404);
}

#[tokio::test]
async fn an_event_starts_a_task_of_each_subscriber_once() {
    let server = Server::new().await;
    let mut wakes = server.bus.wakes(ModeSet::ALL);
    let body = r#"{"topic":"customer.ticket.created","data":{"n":1},"id":"e1","source":"crm"}"#;
    let first = server.post("/v1/events", body).await;
    assert_eq!(first.status, 202, "{}", first.text);
    // `off` subscribes too, but is disabled.
    let started = &first.json()["tasks"];
    assert_eq!((started.as_array().unwrap().len(), &started[0]["agent"]), (1, &json!("triage")));
    assert_eq!(wakes.next(10).await[0].task.to_string(), started[0]["id"].as_str().unwrap());
    let task = server.get(&format!("/v1/tasks/{}", started[0]["id"].as_str().unwrap())).await.json();
    let source = json!({"kind": "event", "source": "crm", "id": "e1", "topic": "customer.ticket.created"});
    assert_eq!((&task["input"], &task["source"]), (&json!({"n": 1}), &source));

    let again = server.post("/v1/events", body).await;
    assert_eq!((again.status.as_u16(), again.json()["duplicate"].clone()), (200, json!(true)));
    assert_eq!(server.store.counts().await.unwrap().queued, 1);
    let nobody = server.post("/v1/events", r#"{"topic":"nobody.listens","data":null}"#).await;
    assert_eq!((nobody.status.as_u16(), nobody.json()["tasks"].clone()), (202, json!([])));
}

#[tokio::test]
async fn usage_is_summed_exactly() {
    let server = Server::new().await;
    server.ask("x").await;
    let claimed = server.claim().await;
    let row = |cost: Option<i64>| LedgerRow {
        provider_call: None,
        call: CallId::generate(),
        task: claimed.lease.task,
        agent: AgentName::new("triage").unwrap(),
        provider: ProviderKind::Openai,
        model: "gpt-4o".to_owned(),
        status: CallStatus::Completed,
        usage: Usage { input_tokens: 10, output_tokens: 2, ..Usage::default() },
        cost: cost.map(NanoUsd),
        at: NOW,
        duration_us: 5,
    };
    let step = Step::Finish { outcome: Outcome::completed(json!(1)), dead_letter: false };
    let mut advance = Advance::new(claimed.lease, NOW, step);
    advance.ledger = vec![row(Some(41_500)), row(Some(1_000_000_000)), row(None)];
    server.store.advance(advance.into()).await.unwrap();
    for (by, key) in [("agent", "triage"), ("model", "openai/gpt-4o"), ("day", "2026-11-23")] {
        let reply = server.get(&format!("/v1/usage?by={by}&from=2026-11-23&to=2026-11-24")).await.json();
        let sum = &reply["rows"][0];
        assert_eq!(
            (&sum["key"], &sum["calls"], &sum["unpriced_calls"]),
            (&json!(key), &json!(3), &json!(1)),
            "{reply}"
        );
        assert_eq!((&sum["cost_usd"], &reply["total"]["cost_nanos"]), (&json!("1.000041500"), &json!(1_000_041_500)));
    }
    let before = server.get("/v1/usage?from=2026-11-01&to=2026-11-02").await.json();
    assert_eq!((&before["rows"], &before["total"]["cost_usd"]), (&json!([]), &json!("0.000000")));
    let task = server.get(&format!("/v1/tasks/{}", claimed.lease.task)).await.json();
    assert_eq!((&task["spent"]["cost_usd"], &task["spent"]["llm_calls"]), (&json!("1.000041500"), &json!(3)));
    let agent = server.get("/v1/agents/triage").await.json();
    assert_eq!(agent["counters"]["cost_usd_today"], "1.000041500");
}

#[tokio::test]
async fn readiness_follows_the_workers() {
    let server = Server::new().await;
    assert_eq!(server.get("/health/live").await.json()["status"], "ok");
    let ready = server.get("/health/ready").await;
    assert_eq!((ready.status.as_u16(), ready.json()["status"].clone()), (200, json!("ready")), "{}", ready.text);
    server.clock.advance(10);
    let dead = server.get("/health/ready").await;
    assert_eq!((dead.status.as_u16(), dead.json()["checks"]["workers"]["ok"].clone()), (503, json!(false)));
    assert_eq!(server.get("/v1/workers").await.json()["items"][0]["alive"], false);
    server.beat().await;
    assert_eq!(server.get("/health/ready").await.status, 200);
    assert_eq!(server.get("/v1/workers").await.json()["items"][0]["alive"], true);
}

#[tokio::test]
async fn metrics_count_tasks_agents_and_requests_by_template() {
    let server = Server::new().await;
    let id = server.ask("x").await;
    server.get(&format!("/v1/tasks/{id}")).await;
    server.get("/nowhere").await;
    let text = server.get("/metrics").await.text;
    for line in [
        "agentry_tasks{status=\"queued\"} 1",
        "agentry_agents{state=\"invalid\"} 1",
        "agentry_agents{state=\"disabled\"} 1",
        "agentry_bus_depth 1",
        "agentry_workers_alive 1",
        "agentry_http_requests_total{method=\"POST\",route=\"/v1/tasks\",status=\"202\"} 1",
        "agentry_http_requests_total{method=\"GET\",route=\"/v1/tasks/{id}\",status=\"200\"} 1",
        "agentry_http_requests_total{method=\"any\",route=\"unrouted\",status=\"404\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(!text.contains(&id.to_string()), "no task ids in labels");
}

#[tokio::test]
async fn the_page_and_the_document_are_served() {
    let server = Server::new().await;
    let page = server.get("/").await;
    assert!(page.text.contains(r#"<script type="module" src="/ui/app.js">"#), "{}", page.text);
    let shown = server.get("/v1/agents?limit=1&status=invalid").await.json();
    assert_eq!(shown["items"][0]["name"], "broken", "{shown}");
    assert!(shown["items"][0]["error"].as_str().unwrap().contains("unknown key `modle`"), "{shown}");
    let document = server.get("/openapi.json").await;
    assert_eq!(document.text, agentry_server::openapi());
}
