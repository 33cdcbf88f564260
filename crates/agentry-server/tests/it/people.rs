//! What people decide: clarifications and dead letters.

use agentry_bus::EventBus as _;
use agentry_core::agent::ModeSet;
use agentry_core::clarification::Clarification;
use agentry_core::id::ClarificationId;
use agentry_core::journal::{JournalBody, JournalEntry, Scope};
use agentry_core::slack::ReplyTo;
use agentry_core::task::{ErrorCode, Outcome, TaskError};
use agentry_core::time::Clock as _;
use agentry_store::{Advance, Step, TaskStore as _};
use serde_json::json;
use std::time::Duration;

use crate::support::Server;

/// A task that waits for an answer.
async fn question(server: &Server, options: &[&str]) -> Clarification {
    question_in(server, options, None).await
}

/// A task that waits for an answer to what was asked in this place.
pub async fn question_in(server: &Server, options: &[&str], reply_to: Option<ReplyTo>) -> Clarification {
    server.ask("x").await;
    let claimed = server.claim().await;
    let now = server.clock.now();
    let clarification = Clarification {
        id: ClarificationId::generate(),
        task: claimed.lease.task,
        agent: agentry_core::agent::AgentName::new("triage").unwrap(),
        scope: "main".to_owned(),
        question: "which region?".to_owned(),
        options: options.iter().map(ToString::to_string).collect(),
        asked_at: now,
        expires_at: now.after(Duration::from_secs(60)),
        default: None,
        reply_to,
        resolution: None,
    };
    let mut advance = Advance::new(claimed.lease, now, Step::Wait);
    let (id, question) = (clarification.id, clarification.question.clone());
    let body = JournalBody::Asked { clarification: id, call_id: None, question };
    advance.journal.push(JournalEntry { seq: 1, attempt: 1, scope: Scope::MAIN, at: now, body });
    advance.clarifications.push(clarification.clone());
    server.store.advance(advance.into()).await.unwrap();
    clarification
}

#[tokio::test]
async fn an_answer_wakes_the_task_and_the_first_one_stands() {
    let server = Server::new().await;
    let asked = question(&server, &["eu", "us"]).await;
    let mut wakes = server.bus.wakes(ModeSet::ALL);
    wakes.next(10).await;
    let open = server.get("/v1/clarifications").await.json();
    assert_eq!(open["items"][0]["id"], asked.id.to_string());
    let path = format!("/v1/clarifications/{}/answer", asked.id);

    let wrong = server.post(&path, r#"{"answer":"mars"}"#).await;
    assert_eq!(wrong.status, 422);
    assert!(wrong.text.contains("choose from eu, us"), "{}", wrong.text);
    let good = server.post(&path, r#"{"answer":"eu","by":"ada"}"#).await;
    assert_eq!(good.status, 200, "{}", good.text);
    assert_eq!((&good.json()["resolution"]["answer"], &good.json()["resolution"]["by"]), (&json!("eu"), &json!("ada")));
    assert_eq!(wakes.next(10).await[0].task, asked.task);
    let second = server.post(&path, r#"{"answer":"us"}"#).await;
    assert_eq!((second.status.as_u16(), second.json()["code"].clone()), (409, json!("clarification_resolved")));
    assert_eq!(server.get("/v1/clarifications").await.json()["items"], json!([]));
    assert_eq!(server.get("/v1/clarifications?all=true").await.json()["items"].as_array().unwrap().len(), 1);
    let nobody = format!("/v1/clarifications/{}/answer", ClarificationId::generate());
    assert_eq!(server.post(&nobody, r#"{"answer":"us"}"#).await.status, 404);
}

#[tokio::test]
async fn nobody_answers_after_the_time_is_up() {
    let server = Server::new().await;
    let asked = question(&server, &[]).await;
    server.clock.advance(61);
    let late = server.post(&format!("/v1/clarifications/{}/answer", asked.id), r#"{"answer":"eu"}"#).await;
    assert_eq!(late.status, 409);
    assert!(late.json()["detail"].as_str().unwrap().contains("expired"), "{}", late.text);
}

#[tokio::test]
async fn a_dead_letter_is_edited_and_replayed_once() {
    let server = Server::new().await;
    let body = r#"{"agent":"triage","input":"bad","priority":"high","timeout_seconds":7}"#;
    let old = server.post("/v1/tasks", body).await.json();
    let claimed = server.claim().await;
    let error = TaskError::new(ErrorCode::ProviderUnavailable, "no answer");
    server.finish(&claimed, Outcome::from_error(error), true).await;
    let listed = server.get("/v1/dead-letters").await.json();
    let path = format!("/v1/dead-letters/{}", listed["items"][0]["id"].as_str().unwrap());
    assert_eq!(listed["items"][0]["reason"]["code"], "provider_unavailable");

    let edited = server.call("PATCH", &path, &[], r#"{"payload":"good"}"#).await;
    assert_eq!((edited.status.as_u16(), edited.json()["payload"].clone()), (200, json!("good")));
    let replayed = server.post(&format!("{path}/replay"), "").await;
    assert_eq!(replayed.status, 202, "{}", replayed.text);
    let task = server.get(replayed.header("location")).await.json();
    assert_eq!(task["id"], replayed.json()["task"]);
    assert_eq!(task["input"], "good");
    assert_eq!(task["source"], json!({"kind": "replay", "of": old["id"]}));
    assert_eq!((&task["priority"], &task["timeout_seconds"]), (&json!("high"), &json!(7.0)));
    assert_eq!(task["trace_id"], old["trace_id"]);

    for reply in [
        server.post(&format!("{path}/replay"), "").await,
        server.call("PATCH", &path, &[], r#"{"payload":1}"#).await,
        server.delete(&path).await,
    ] {
        assert_eq!((reply.status.as_u16(), reply.json()["code"].clone()), (409, json!("dead_letter_closed")));
    }
    assert_eq!(server.get("/v1/dead-letters").await.json()["items"], json!([]));
    assert_eq!(server.get(&path).await.json()["state"], "replayed");
}

#[tokio::test]
async fn a_dead_letter_can_be_dropped() {
    let server = Server::new().await;
    server.ask("x").await;
    let error = TaskError::new(ErrorCode::Internal, "x");
    server.finish(&server.claim().await, Outcome::from_error(error), true).await;
    let listed = server.get("/v1/dead-letters").await.json();
    let path = format!("/v1/dead-letters/{}", listed["items"][0]["id"].as_str().unwrap());
    assert_eq!(server.delete(&path).await.status, 204);
    assert_eq!(server.get(&path).await.json()["state"], "dropped");
    let unknown = format!("/v1/dead-letters/{}", agentry_core::id::DeadLetterId::generate());
    assert_eq!(server.delete(&unknown).await.status, 404);
}
