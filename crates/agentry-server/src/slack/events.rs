//! `/slack/events`: the Events API. The task for a post is durable before Slack gets its 200.

use std::sync::Arc;

use agentry_core::event::Event;
use agentry_core::fleet::Fleet;
use agentry_core::slack::SlackAddress;
use agentry_core::task::{IdempotencyKey, Task};
use agentry_core::topic::check_topic;
use agentry_core::trace::Trace;
use agentry_intake::{Audience, Order};
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::reply::{self, ThreadReply};
use super::routing::{self, MENTION, MESSAGE, SlackPrompt};
use super::{RequestOutcome, SlackIngress, SlackRequestKind, read_verified};
use crate::api::events::unpublished;
use crate::extract::{parse, span_context};
use crate::problem::{ApiProblem, ApiResult, ProblemBody};
use crate::state::AppState;

/// The CloudEvents type of events from Slack.
pub(super) const KIND: &str = "dev.agentry.slack.event.v1";
/// The longest accepted id of Slack, in bytes.
const MAX_ID_BYTES: usize = 128;
/// Subtypes of messages written by people; the others report edits, deletions and membership.
const WRITTEN: [&str; 4] = ["file_share", "thread_broadcast", "me_message", "reply_broadcast"];

/// The envelope of an event.
#[derive(Debug, Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    challenge: Option<String>,
    #[serde(default)]
    team_id: String,
    #[serde(default)]
    event_id: String,
    #[serde(default)]
    authorizations: Vec<Authorization>,
    #[serde(default)]
    event: Value,
}

/// The installation that receives the event.
#[derive(Debug, Deserialize)]
struct Authorization {
    /// The user id of the app.
    user_id: Option<String>,
}

/// Receives an event
///
/// Must be signed by Slack. An event that an agent handles is durable when the response arrives; a redelivery changes
/// nothing.
#[utoipa::path(
    post, path = "/slack/events", tag = "slack", request_body = Object,
    responses(
        (status = 200, description = "Stored, known or ignored", body = Object),
        (status = 400, description = "Not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "Not signed by Slack, or too old", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Not stored: Slack retries", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn events(State(state): State<AppState>, request: Request) -> ApiResult {
    let trace = span_context(request.extensions(), &state).propagate();
    let (slack, body) = read_verified(&state, SlackRequestKind::Event, request).await?;
    let envelope: Envelope =
        parse(&body).inspect_err(|_| state.slack.note(SlackRequestKind::Event, RequestOutcome::Malformed))?;
    match envelope.kind.as_str() {
        "url_verification" => {
            let challenge = envelope.challenge.unwrap_or_default();
            Ok(axum::Json(json!({ "challenge": challenge })).into_response())
        }
        "event_callback" => {
            let outcome = take(&state, &slack, trace, &envelope).await;
            state.slack.note(SlackRequestKind::Event, outcome.as_ref().map_or_else(outcome_of, |outcome| *outcome));
            outcome.map(|_| axum::Json(json!({})).into_response())
        }
        other => {
            tracing::info!(kind = other, "event of an unknown kind from Slack ignored");
            state.slack.note(SlackRequestKind::Event, RequestOutcome::Ignored);
            Ok(axum::Json(json!({})).into_response())
        }
    }
}

fn outcome_of(problem: &ApiProblem) -> RequestOutcome {
    if problem.code.status().is_server_error() { RequestOutcome::Refused } else { RequestOutcome::Malformed }
}

/// Stores an event and the tasks that it starts.
async fn take(state: &AppState, slack: &SlackIngress, trace: Trace, envelope: &Envelope) -> ApiResult<RequestOutcome> {
    let what = text(&envelope.event, "type");
    for (field, value) in
        [("team_id", envelope.team_id.as_str()), ("event_id", &envelope.event_id), ("event/type", what)]
    {
        if value.is_empty() || value.len() > MAX_ID_BYTES || value.chars().any(char::is_control) {
            return Err(ApiProblem::field(format!("/{field}"), format!("has 1 to {MAX_ID_BYTES} bytes")));
        }
    }
    let now = state.now();
    let event = |topic: String| Event {
        id: envelope.event_id.clone(),
        source: format!("slack/{}", envelope.team_id),
        kind: KIND.to_owned(),
        topic,
        time: now,
        trace_id: trace.id,
        parent: trace.parent,
        hops: 0,
        data: json!({"team": envelope.team_id, "event": envelope.event}),
    };
    if !matches!(what, "message" | "app_mention") {
        let topic = format!("slack.event.{what}");
        check_topic(&topic).map_err(|error| ApiProblem::field("/event/type", error.to_string()))?;
        return accept(state, event(topic), Audience::Subscribers).await.map(|(outcome, _)| outcome);
    }
    let Some(post) = IncomingPost::read(envelope) else { return Ok(RequestOutcome::Ignored) };
    let mut rejection = None;
    if post.is_reply {
        match reply::take(state, &post.place, &post.text).await? {
            ThreadReply::Answered => {
                // The answer stands even if this cannot be recorded.
                drop(is_redelivery(state, envelope, &post, trace).await);
                return Ok(RequestOutcome::Accepted);
            }
            ThreadReply::AlreadyAnswered => {
                if is_redelivery(state, envelope, &post, trace).await? {
                    return Ok(RequestOutcome::Duplicate);
                }
            }
            ThreadReply::Rejected(why) => rejection = Some(why),
            ThreadReply::Other => {}
        }
    }
    let asked =
        SlackPrompt { text: &post.text, session: &post.session, place: &post.place, event_id: &envelope.event_id };
    let pick = |fleet: &Fleet| -> Vec<Order> {
        let agents = routing::of_post(fleet, &slack.routes, &post.place, post.mention);
        agents.iter().map(|spec| post.with_idempotency_key(asked.order(spec, trace))).collect()
    };
    if let Some(why) = rejection.filter(|_| pick(&state.fleet()).is_empty()) {
        reply::post_rejection(state, slack, &post.place, &why);
    }
    let topic = if what == "message" { MESSAGE } else { MENTION };
    accept(state, event(topic.to_owned()), Audience::Picked(&pick)).await.map(|(outcome, _)| outcome)
}

/// Records a post and returns whether Slack delivered it before, under any event id.
async fn is_redelivery(state: &AppState, envelope: &Envelope, post: &IncomingPost, trace: Trace) -> ApiResult<bool> {
    let event = Event {
        id: format!("reply/{}/{}", post.place.channel, post.ts),
        source: format!("slack/{}", envelope.team_id),
        kind: KIND.to_owned(),
        topic: MESSAGE.to_owned(),
        time: state.now(),
        trace_id: trace.id,
        parent: trace.parent,
        hops: 0,
        data: json!({"team": envelope.team_id, "event": envelope.event}),
    };
    let noted = state.intake().record_event(&event).await.map_err(unpublished)?;
    Ok(noted.duplicate)
}

/// Publishes an event if anybody subscribes to it. Returns the outcome and the tasks that it started.
pub(super) async fn accept(
    state: &AppState,
    event: Event,
    audience: Audience<'_>,
) -> ApiResult<(RequestOutcome, Vec<Arc<Task>>)> {
    let is_heard = match audience {
        Audience::Subscribers => state.fleet().has_subscribers(&event.topic),
        Audience::Picked(pick) => !pick(&state.fleet()).is_empty(),
    };
    if !is_heard && !state.bus().is_heard_outside(&event.topic) {
        tracing::info!(topic = %event.topic, "no agent subscribes to an event from Slack");
        return Ok((RequestOutcome::Unheard, Vec::new()));
    }
    let published = state.intake().publish(&event, audience).await.map_err(unpublished)?;
    Ok((if published.duplicate { RequestOutcome::Duplicate } else { RequestOutcome::Accepted }, published.tasks))
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value.get(field).and_then(Value::as_str).unwrap_or("")
}

/// A message that a person wrote.
struct IncomingPost {
    place: SlackAddress,
    ts: String,
    /// The text without the mention of the app.
    text: String,
    /// True if it mentions the app.
    mention: bool,
    /// The session key: workspace, channel and thread.
    session: String,
    /// True if it is a reply in the thread of another post.
    is_reply: bool,
}

impl IncomingPost {
    /// Reads a message; `None` for posts of bots (ours included), edits, deletions and posts without an author.
    fn read(envelope: &Envelope) -> Option<Self> {
        let event = &envelope.event;
        let subtype = text(event, "subtype");
        let (channel, user, ts) = (text(event, "channel"), text(event, "user"), text(event, "ts"));
        let own: Vec<&str> = envelope.authorizations.iter().filter_map(|it| it.user_id.as_deref()).collect();
        let by_people = subtype.is_empty() || WRITTEN.contains(&subtype);
        let by_bot = event.get("bot_id").is_some_and(|id| !id.is_null()) || event["hidden"] == true;
        if !by_people || by_bot || user.is_empty() || channel.is_empty() || ts.is_empty() || own.contains(&user) {
            return None;
        }
        let written = text(event, "text");
        let names_app = own.iter().any(|user| written.contains(&format!("<@{user}")));
        // Direct messages are for the app whether they name it or not, and Slack sends them once.
        let mention = text(event, "type") == "app_mention" || (names_app && text(event, "channel_type") != "im");
        let thread = match text(event, "thread_ts") {
            "" => ts,
            thread => thread,
        };
        let is_reply = thread != ts;
        let place = SlackAddress {
            team: envelope.team_id.clone(),
            channel: channel.to_owned(),
            thread: Some(thread.to_owned()),
            user: Some(user.to_owned()),
            response_url: None,
        };
        let session = format!("{}/{channel}/{thread}", envelope.team_id);
        Some(Self { place, ts: ts.to_owned(), text: plain(written, &own, mention), mention, session, is_reply })
    }

    /// Adds an idempotency key: Slack may deliver one post as a message and as a mention, and each agent answers it once.
    fn with_idempotency_key(&self, mut order: Order) -> Order {
        let SlackAddress { team, channel, .. } = &self.place;
        let key = format!("slack/{team}/{channel}/{}/{}", self.ts, order.agent);
        order.submission.idempotency = Some(IdempotencyKey { key, fingerprint: 0 });
        order
    }
}

/// Returns the text as it was typed: without the mention of the app, and unescaped.
fn plain(written: &str, own: &[&str], mention: bool) -> String {
    let mut rest = written.trim();
    // A mention begins with the name of the app, even if its user id is unknown.
    if mention && rest.starts_with("<@") && (own.is_empty() || own.iter().any(|user| rest[2..].starts_with(user))) {
        rest = rest.split_once('>').map_or(rest, |(_, rest)| rest);
    }
    let mut text = rest.to_owned();
    for user in own {
        text = text.replace(&format!("<@{user}>"), "");
    }
    let text = text.trim().replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    if text.is_empty() { written.trim().to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(event: Value) -> Option<IncomingPost> {
        let wrapped = json!({
            "type": "event_callback", "team_id": "T1", "event_id": "Ev1",
            "authorizations": [{"user_id": "U0BOT", "is_bot": true}], "event": event,
        });
        IncomingPost::read(&serde_json::from_value(wrapped).unwrap())
    }

    #[test]
    fn what_people_write_is_read() {
        let post =
            read(json!({"type": "message", "channel": "C1", "user": "U1", "text": "a &lt; b", "ts": "5.1"})).unwrap();
        assert_eq!((post.text.as_str(), post.mention, post.session.as_str()), ("a < b", false, "T1/C1/5.1"));
        let reply = json!({"type": "app_mention", "channel": "C1", "user": "U1", "text": "<@U0BOT> go", "ts": "6.1",
                           "thread_ts": "5.1"});
        let post = read(reply).unwrap();
        assert_eq!((post.text.as_str(), post.mention, post.session.as_str()), ("go", true, "T1/C1/5.1"));
        assert_eq!(post.place.thread.as_deref(), Some("5.1"));
        let twin = json!({"type": "message", "channel": "C1", "user": "U1", "text": "<@U0BOT> go", "ts": "6.1"});
        assert!(read(twin.clone()).unwrap().mention, "the same post as a message");
        let mut direct = twin;
        direct["channel_type"] = json!("im");
        assert!(!read(direct).unwrap().mention);
    }

    #[test]
    fn bots_edits_and_deletions_are_not() {
        let base = json!({"type": "message", "channel": "C1", "user": "U1", "text": "x", "ts": "5.1"});
        for (field, value) in [
            ("bot_id", json!("B1")),
            ("subtype", json!("message_changed")),
            ("subtype", json!("message_deleted")),
            ("subtype", json!("bot_message")),
            ("subtype", json!("channel_join")),
            ("user", json!("U0BOT")),
            ("user", Value::Null),
            ("hidden", json!(true)),
            ("ts", json!("")),
        ] {
            let mut event = base.clone();
            event[field] = value.clone();
            assert!(read(event).is_none(), "{field}: {value}");
        }
        assert!(read(base).is_some());
    }

    #[test]
    fn the_apps_name_is_no_part_of_the_question() {
        for (written, own, mention, expected) in [
            ("<@U0BOT> hello", &["U0BOT"][..], true, "hello"),
            ("hey <@U0BOT>, hello", &["U0BOT"], true, "hey , hello"),
            ("<@U0OTHER> hello", &["U0BOT"], false, "<@U0OTHER> hello"),
            ("<@U0UNKNOWN> hello", &[], true, "hello"),
            ("<@U0BOT>", &["U0BOT"], true, "<@U0BOT>"),
            ("1 &amp;lt; 2", &[], false, "1 &lt; 2"),
        ] {
            assert_eq!(plain(written, own, mention), expected, "{written}");
        }
    }
}
