//! The Slack ingress without Slack: what is stored, what is answered, and what happens when the store is full.

use std::sync::{Arc, Mutex};

use agentry_config::SlackRoute;
use agentry_core::agent::{AgentName, ExecutionMode};
use agentry_core::clarification::{Clarification, Resolution};
use agentry_core::fleet::{AgentEntry, Fleet};
use agentry_core::slack::{ReplyTo, SlackAddress};
use agentry_core::time::{Clock as _, Timestamp};
use agentry_server::{ServerLimits, SlackIngress, router};
use agentry_slack::{MarkedPost, Post, ResponseMode, Slack, SlackError};
use agentry_store::sqlite::SqliteOptions;
use agentry_store::{ClarificationStore as _, EventStore as _};
use async_trait::async_trait;
use axum::body::Body;
use axum::http::Request;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::people::question_in;
use crate::support::{Reply, Server, spec};

const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";

/// A Slack that remembers what it was told.
#[derive(Default)]
struct RecordingSlack(Mutex<Vec<String>>);

#[async_trait]
impl Slack for RecordingSlack {
    async fn post(&self, team: &str, channel: &str, thread: Option<&str>, post: &Post) -> Result<String, SlackError> {
        self.0.lock().unwrap().push(format!("{team}/{channel}/{} {}", thread.unwrap_or_default(), post.text));
        Ok("9.9".to_owned())
    }

    async fn update(&self, _: &str, _: &str, _: &str, _: &Post) -> Result<(), SlackError> {
        Err(SlackError::Refused("the ingress does not post".to_owned()))
    }

    async fn find_marked(
        &self,
        _: &str,
        _: &str,
        _: Option<&str>,
        _: Timestamp,
    ) -> Result<Vec<MarkedPost>, SlackError> {
        Err(SlackError::Refused("the ingress does not look".to_owned()))
    }

    async fn respond(&self, url: &str, post: &Post, _: ResponseMode) -> Result<(), SlackError> {
        self.0.lock().unwrap().push(format!("{url} {}", post.text));
        Ok(())
    }

    async fn open_dialog(&self, _: &str, trigger: &str, _: &Value) -> Result<(), SlackError> {
        self.0.lock().unwrap().push(format!("dialog {trigger}"));
        Ok(())
    }
}

async fn slack_server(options: SqliteOptions) -> Server {
    with_slack(Server::with(ServerLimits::default(), options).await)
}

fn with_slack(mut server: Server) -> Server {
    let entry = |name: &str, topics: &[&str]| {
        let spec = spec(name, ExecutionMode::Continuous, topics);
        let file = format!("agents/{name}.yml").into();
        (
            spec.name.clone(),
            AgentEntry {
                file,
                spec: Some(Arc::new(spec)),
                error: None,
                warnings: Vec::new(),
                has_unset_variables: false,
            },
        )
    };
    let agents = [
        entry("support", &["slack.event.message"]),
        entry("helper", &["slack.event.app_mention", "slack.command.ask"]),
        entry("watcher", &["slack.event.reaction_added"]),
        entry("routed", &[]),
    ];
    server.set_fleet(Fleet::new(agents.into()));
    let agent = AgentName::new("routed").unwrap();
    server.deps.slack = Some(SlackIngress {
        secrets: vec!["another".into(), SECRET.into()],
        routes: vec![SlackRoute { team: None, channel: Some("C9".to_owned()), command: None, agent }],
        api: Arc::new(RecordingSlack::default()),
    });
    server.router = router(server.deps.clone());
    server
}

fn signature(timestamp: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("v0:{timestamp}:{body}").as_bytes());
    let tag: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("v0={tag}")
}

/// A request as Slack signs it now.
async fn signed(server: &Server, path: &str, body: &str) -> Reply {
    let now = server.clock.now().millis() / 1_000;
    send(server, path, now, &signature(now, body), body).await
}

async fn send(server: &Server, path: &str, timestamp: i64, tag: &str, body: &str) -> Reply {
    let request =
        Request::post(path).header("x-slack-request-timestamp", timestamp.to_string()).header("x-slack-signature", tag);
    server.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

fn event(id: &str, inner: &Value) -> String {
    json!({
        "type": "event_callback", "team_id": "T1", "event_id": id, "token": "legacy-token",
        "authorizations": [{"user_id": "U0BOT"}], "event": inner,
    })
    .to_string()
}

fn message(channel: &str, ts: &str, text: &str) -> Value {
    json!({"type": "message", "channel": channel, "user": "U1", "text": text, "ts": ts})
}

async fn tasks(server: &Server) -> Vec<Value> {
    server.get("/v1/tasks").await.json()["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_challenge_is_answered_when_it_is_signed() {
    let server = slack_server(SqliteOptions::default()).await;
    let body = r#"{"type":"url_verification","challenge":"abc"}"#;
    let reply = signed(&server, "/slack/events", body).await;
    assert_eq!((reply.status.as_u16(), reply.json()["challenge"].clone()), (200, json!("abc")));
    let unsigned = server.post("/slack/events", body).await;
    assert_eq!((unsigned.status.as_u16(), unsigned.json()["code"].clone()), (401, json!("slack_unverified")));
}

#[tokio::test]
async fn nothing_of_a_forged_request_is_parsed_or_stored() {
    let server = slack_server(SqliteOptions::default()).await;
    let body = event("Ev1", &message("C1", "1.1", "hello"));
    let now = server.clock.now().millis() / 1_000;
    for (timestamp, tag) in [
        (now, "v0=00".to_owned()),
        (now, signature(now, &format!("{body} "))),
        (now - 301, signature(now - 301, &body)),
        (now + 301, signature(now + 301, &body)),
        (now - 1, signature(now, &body)),
    ] {
        for path in ["/slack/events", "/slack/commands", "/slack/interactive"] {
            // A body that is not JSON is not parsed either.
            for body in [body.as_str(), "{"] {
                let reply = send(&server, path, timestamp, &tag, body).await;
                assert_eq!(reply.status, 401, "{path}: {}", reply.text);
            }
        }
    }
    assert!(tasks(&server).await.is_empty());
    assert!(server.store.recent_events(10).await.unwrap().is_empty());
    let metrics = server.get("/metrics").await.text;
    assert!(metrics.contains("agentry_slack_requests_total{kind=\"event\",outcome=\"unverified\"} 10"), "{metrics}");
}

#[tokio::test]
async fn one_event_is_one_task_and_one_post_is_one_answer() {
    let server = slack_server(SqliteOptions::default()).await;
    let mention = json!({"type": "app_mention", "channel": "C1", "user": "U1", "text": "<@U0BOT> hi", "ts": "1.1"});
    for _ in 0..3 {
        assert_eq!(signed(&server, "/slack/events", &event("Ev1", &mention)).await.status, 200);
    }
    let twin = event("Ev2", &message("C1", "1.1", "<@U0BOT> hi"));
    assert_eq!(signed(&server, "/slack/events", &twin).await.status, 200);
    let asked = tasks(&server).await;
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!((&asked[0]["agent"], &asked[0]["input"]), (&json!("helper"), &json!("hi")));
    assert_eq!(asked[0]["session"], "helper:T1/C1/1.1");
    assert_eq!(asked[0]["source"], json!({"kind": "slack", "event_id": "Ev1"}));
    let kept = server.store.recent_events(10).await.unwrap();
    assert_eq!((kept.len(), kept[1].source.as_str(), kept[1].id.as_str()), (2, "slack/T1", "Ev1"));
    assert!(!serde_json::to_string(&kept).unwrap().contains("legacy-token"), "secrets are not kept");
}

#[tokio::test]
async fn routes_come_before_subscriptions_and_other_events_reach_who_listens() {
    let server = slack_server(SqliteOptions::default()).await;
    signed(&server, "/slack/events", &event("Ev1", &message("C9", "1.1", "hi"))).await;
    signed(&server, "/slack/events", &event("Ev2", &message("C1", "1.2", "hi"))).await;
    let reaction = json!({"type": "reaction_added", "user": "U1", "reaction": "eyes"});
    signed(&server, "/slack/events", &event("Ev3", &reaction)).await;
    signed(&server, "/slack/events", &event("Ev4", &json!({"type": "team_join"}))).await;
    let agents: Vec<String> =
        tasks(&server).await.iter().map(|task| task["agent"].as_str().unwrap().to_owned()).collect();
    assert_eq!(agents, ["watcher", "support", "routed"], "newest first");
}

#[tokio::test]
async fn an_event_that_the_store_cannot_take_is_refused_so_that_slack_sends_it_again() {
    let server = slack_server(SqliteOptions { max_queued: 1 }).await;
    assert_eq!(signed(&server, "/slack/events", &event("Ev1", &message("C1", "1.1", "hi"))).await.status, 200);
    let second = event("Ev2", &message("C1", "1.2", "hi"));
    let refused = signed(&server, "/slack/events", &second).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(!refused.header("retry-after").is_empty());
    let first = tasks(&server).await[0]["id"].as_str().unwrap().to_owned();
    server.post(&format!("/v1/tasks/{first}/cancel"), "").await;
    assert_eq!(signed(&server, "/slack/events", &second).await.status, 200);
    assert_eq!(tasks(&server).await.len(), 2, "the event whose first attempt failed is not lost");
}

#[tokio::test]
async fn what_cannot_be_read_is_told() {
    let server = slack_server(SqliteOptions::default()).await;
    for (path, body, status, code) in [
        ("/slack/events", "{", 400, "malformed_json"),
        ("/slack/events", r#"{"type":"event_callback","team_id":"T1"}"#, 422, "invalid_request"),
        ("/slack/commands", "", 400, "malformed_form"),
        ("/slack/commands", "command=/ask", 400, "malformed_form"),
        ("/slack/interactive", "payload={", 400, "malformed_json"),
        ("/slack/interactive", "x=1", 400, "malformed_form"),
    ] {
        let reply = signed(&server, path, body).await;
        assert_eq!((reply.status.as_u16(), reply.json()["code"].clone()), (status, json!(code)), "{path} {body}");
    }
    let ignored = signed(&server, "/slack/interactive", "payload=%7B%22type%22%3A%22shortcut%22%7D").await;
    assert_eq!(ignored.status, 200);
}

#[tokio::test]
async fn commands_start_tasks_and_a_replay_is_refused() {
    let server = slack_server(SqliteOptions::default()).await;
    let form = |command: &str, trigger: &str| {
        format!(
            "command=%2F{command}&text=how+are+you&team_id=T1&channel_id=C1&user_id=U1&trigger_id={trigger}\
             &response_url=https%3A%2F%2Fhooks.example%2Fx"
        )
    };
    let taken = signed(&server, "/slack/commands", &form("ask", "1.2.3")).await;
    assert_eq!((taken.status.as_u16(), taken.json()["response_type"].clone()), (200, json!("ephemeral")));
    let replay = signed(&server, "/slack/commands", &form("ask", "1.2.3")).await;
    assert_eq!((replay.status.as_u16(), replay.json()["code"].clone()), (401, json!("slack_unverified")));
    let unknown = signed(&server, "/slack/commands", &form("askk", "1.2.4")).await;
    let said = unknown.json()["text"].as_str().unwrap().to_owned();
    assert!(unknown.status == 200 && said.contains("`/ask`") && said.contains("did you mean *ask*"), "{said}");
    let asked = tasks(&server).await;
    assert_eq!((asked.len(), &asked[0]["input"]), (1, &json!("how are you")));
    assert!(!asked[0].to_string().contains("hooks.example"), "the right to answer is not shown");
}

#[tokio::test]
async fn without_a_secret_or_the_role_nothing_is_taken() {
    let mut server = slack_server(SqliteOptions::default()).await;
    server.deps.slack = None;
    server.router = router(server.deps.clone());
    let reply = server.post("/slack/events", "{}").await;
    assert_eq!((reply.status.as_u16(), reply.json()["code"].clone()), (503, json!("slack_not_configured")));
    server.deps.roles = vec![agentry_core::worker::Role::Api];
    server.router = router(server.deps.clone());
    let reply = server.post("/slack/events", "{}").await;
    assert_eq!(reply.status, 404);
    assert!(reply.json()["detail"].as_str().unwrap().contains("role `slack`"), "{}", reply.text);
}

/// A question in the thread 1.1 of a channel, and a server to answer it through.
async fn asked(channel: &str, options: &[&str]) -> (Server, Clarification) {
    let server = Server::new().await;
    let place = SlackAddress {
        team: "T1".to_owned(),
        channel: channel.to_owned(),
        thread: Some("1.1".to_owned()),
        user: None,
        response_url: None,
    };
    let question = question_in(&server, options, Some(ReplyTo::Slack(place))).await;
    (with_slack(server), question)
}

fn reply(channel: &str, ts: &str, text: &str) -> Value {
    json!({"type": "message", "channel": channel, "user": "U1", "text": text, "ts": ts, "thread_ts": "1.1"})
}

async fn resolution(server: &Server, question: &Clarification) -> Option<Resolution> {
    server.store.clarification(question.id).await.unwrap().unwrap().resolution
}

/// The fleet of nobody, and what Slack is told then.
fn nobody_listens(server: &mut Server) -> Arc<RecordingSlack> {
    let recorded = Arc::new(RecordingSlack::default());
    server.set_fleet(Fleet::default());
    if let Some(slack) = &mut server.deps.slack {
        (slack.api, slack.routes) = (recorded.clone(), Vec::new());
    }
    server.router = router(server.deps.clone());
    recorded
}

/// The one thing that Slack is told.
async fn told_once(recorded: &RecordingSlack) -> String {
    loop {
        if let Some(text) = recorded.0.lock().unwrap().pop() {
            return text;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_reply_in_the_thread_answers_once_and_is_nobody_elses_message() {
    let (server, question) = asked("C9", &[]).await;
    let before = tasks(&server).await.len();
    // Another workspace has a channel and a thread of the same name.
    let elsewhere = event("Ev0", &reply("C9", "2.0", "the south")).replace("T1", "T2");
    assert_eq!(signed(&server, "/slack/events", &elsewhere).await.status, 200);
    assert_eq!(resolution(&server, &question).await, None);
    let of_others = tasks(&server).await.len();

    let answer = event("Ev1", &reply("C9", "2.1", "the far &amp; high north"));
    let mut twin = reply("C9", "2.1", "<@U0BOT> the far &amp; high north");
    twin["type"] = json!("app_mention");
    for copy in [&answer, &answer, &event("Ev2", &twin)] {
        assert_eq!(signed(&server, "/slack/events", copy).await.status, 200);
    }
    let Some(Resolution::Answered { answer, by, .. }) = resolution(&server, &question).await else { panic!("open") };
    assert_eq!((answer.as_str(), by.as_str()), ("the far & high north", "Slack U1"));
    assert_eq!(tasks(&server).await.len(), of_others, "an answer starts nothing");
    // The same words again are a message: Slack tells of another post.
    signed(&server, "/slack/events", &event("Ev3", &reply("C9", "2.2", "the far &amp; high north"))).await;
    assert_eq!(tasks(&server).await.len(), of_others + 1);
    assert!(of_others > before);
}

#[tokio::test]
async fn a_reply_may_name_an_option_and_any_other_is_told_the_options() {
    let (mut server, question) = asked("C1", &["EU", "US"]).await;
    let recorded = nobody_listens(&mut server);
    signed(&server, "/slack/events", &event("Ev1", &reply("C1", "2.1", "mars"))).await;
    let said = told_once(&recorded).await;
    assert!(said.starts_with("T1/C1/1.1 ") && said.contains("choose from EU, US"), "{said}");
    assert_eq!(resolution(&server, &question).await, None);
    signed(&server, "/slack/events", &event("Ev2", &reply("C1", "2.2", "eu"))).await;
    let Some(Resolution::Answered { answer, .. }) = resolution(&server, &question).await else { panic!("open") };
    assert_eq!(answer, "EU");
    // People go on talking there.
    signed(&server, "/slack/events", &event("Ev3", &reply("C1", "2.3", "thanks"))).await;
    assert!(recorded.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_reply_after_the_time_is_up_is_told_so_and_changes_nothing() {
    let (mut server, question) = asked("C1", &[]).await;
    let recorded = nobody_listens(&mut server);
    server.clock.advance(61);
    signed(&server, "/slack/events", &event("Ev1", &reply("C1", "2.1", "the north"))).await;
    let said = told_once(&recorded).await;
    assert!(said.contains("The question expired at"), "{said}");
    assert_eq!(resolution(&server, &question).await, None, "the sweep ends it");
    // A post outside of the thread has nothing to do with it.
    signed(&server, "/slack/events", &event("Ev2", &message("C1", "1.1", "hello"))).await;
    assert!(recorded.0.lock().unwrap().is_empty());
}
