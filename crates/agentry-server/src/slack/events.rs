//! `/slack/events`: the Events API. A post that an agent answers is a task before Slack hears yes.

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

use super::reply::{self, Reply};
use super::routing::{self, Asked, MENTION, MESSAGE};
use super::{Door, Outcome, SlackDoor, verified};
use crate::api::events::unpublished;
use crate::extract::{parse, place_of};
use crate::problem::{Answer, Problem, ProblemBody};
use crate::state::AppState;

/// The type of events that come from Slack.
pub(super) const KIND: &str = "dev.agentry.slack.event.v1";
/// The longest id of Slack's that is believed, in bytes.
const MAX_ID_BYTES: usize = 128;
/// Subtypes of messages that people wrote; every other one tells of an edit, a deletion, or of who joined.
const WRITTEN: [&str; 4] = ["file_share", "thread_broadcast", "me_message", "reply_broadcast"];

/// What Slack wraps events in.
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

/// For whom the app sees the event.
#[derive(Debug, Deserialize)]
struct Authorization {
    /// The app's own user.
    user_id: Option<String>,
}

/// Takes an event of Slack
///
/// Signed by Slack. An event whose work an agent takes is durable when the answer arrives; sent again, it is known.
#[utoipa::path(
    post, path = "/slack/events", tag = "slack", request_body = Object,
    responses(
        (status = 200, description = "Durable, known, or of no interest", body = Object),
        (status = 400, description = "Not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "Not signed by Slack, or too old", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Not taken: Slack sends it again", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn events(State(state): State<AppState>, request: Request) -> Answer {
    let trace = place_of(request.extensions(), &state).propagate();
    let (slack, body) = verified(&state, Door::Event, request).await?;
    let envelope: Envelope = parse(&body).inspect_err(|_| state.slack.note(Door::Event, Outcome::Malformed))?;
    match envelope.kind.as_str() {
        "url_verification" => {
            let challenge = envelope.challenge.unwrap_or_default();
            Ok(axum::Json(json!({ "challenge": challenge })).into_response())
        }
        "event_callback" => {
            let outcome = take(&state, &slack, trace, &envelope).await;
            state.slack.note(Door::Event, outcome.as_ref().map_or_else(outcome_of, |outcome| *outcome));
            outcome.map(|_| axum::Json(json!({})).into_response())
        }
        other => {
            tracing::info!(kind = other, "Slack told something that nobody listens for");
            state.slack.note(Door::Event, Outcome::Ignored);
            Ok(axum::Json(json!({})).into_response())
        }
    }
}

fn outcome_of(problem: &Problem) -> Outcome {
    if problem.code.status().is_server_error() { Outcome::Refused } else { Outcome::Malformed }
}

/// Makes an event and what it starts durable.
async fn take(state: &AppState, slack: &SlackDoor, trace: Trace, envelope: &Envelope) -> Answer<Outcome> {
    let what = text(&envelope.event, "type");
    for (field, value) in
        [("team_id", envelope.team_id.as_str()), ("event_id", &envelope.event_id), ("event/type", what)]
    {
        if value.is_empty() || value.len() > MAX_ID_BYTES || value.chars().any(char::is_control) {
            return Err(Problem::field(format!("/{field}"), format!("has 1 to {MAX_ID_BYTES} bytes")));
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
        check_topic(&topic).map_err(|error| Problem::field("/event/type", error.to_string()))?;
        return accept(state, event(topic), Audience::Subscribers).await.map(|(outcome, _)| outcome);
    }
    let Some(post) = Post::read(envelope) else { return Ok(Outcome::Ignored) };
    let mut not_taken = None;
    if post.is_reply {
        match reply::take(state, &post.place, &post.text).await? {
            Reply::Answered => {
                // The answer stands, whether this is noted or not.
                drop(is_told_again(state, envelope, &post, trace).await);
                return Ok(Outcome::Accepted);
            }
            Reply::AnsweredBefore => {
                if is_told_again(state, envelope, &post, trace).await? {
                    return Ok(Outcome::Duplicate);
                }
            }
            Reply::NotTaken(why) => not_taken = Some(why),
            Reply::Other => {}
        }
    }
    let asked = Asked { text: &post.text, session: &post.session, place: &post.place, event_id: &envelope.event_id };
    let pick = |fleet: &Fleet| -> Vec<Order> {
        let agents = routing::of_post(fleet, &slack.routes, &post.place, post.mention);
        agents.iter().map(|spec| post.once(asked.order(spec, trace))).collect()
    };
    if let Some(why) = not_taken.filter(|_| pick(&state.fleet()).is_empty()) {
        reply::tell(state, slack, &post.place, &why);
    }
    let topic = if what == "message" { MESSAGE } else { MENTION };
    accept(state, event(topic.to_owned()), Audience::Picked(&pick)).await.map(|(outcome, _)| outcome)
}

/// Whether Slack has told of this post before, under whatever id. From now on it has.
async fn is_told_again(state: &AppState, envelope: &Envelope, post: &Post, trace: Trace) -> Answer<bool> {
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

/// Accepts an event, unless nobody gets it. Also returns the tasks that it started.
pub(super) async fn accept(
    state: &AppState,
    event: Event,
    audience: Audience<'_>,
) -> Answer<(Outcome, Vec<Arc<Task>>)> {
    let is_heard = match audience {
        Audience::Subscribers => state.fleet().has_subscribers(&event.topic),
        Audience::Picked(pick) => !pick(&state.fleet()).is_empty(),
    };
    if !is_heard && !state.bus().is_heard_outside(&event.topic) {
        tracing::info!(topic = %event.topic, "no agent listens to an event of Slack");
        return Ok((Outcome::Unheard, Vec::new()));
    }
    let published = state.intake().publish(&event, audience).await.map_err(unpublished)?;
    Ok((if published.duplicate { Outcome::Duplicate } else { Outcome::Accepted }, published.tasks))
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value.get(field).and_then(Value::as_str).unwrap_or("")
}

/// What somebody wrote.
struct Post {
    place: SlackAddress,
    ts: String,
    /// Without the app's own name.
    text: String,
    /// Whether it names the app.
    mention: bool,
    /// Workspace, channel and thread.
    session: String,
    /// Whether it stands in the thread of another post.
    is_reply: bool,
}

impl Post {
    /// `None`: our own post, another bot's, an edit, a deletion, or nobody's.
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

    /// Slack may tell of one post as a message and as a mention: each agent answers it once.
    fn once(&self, mut order: Order) -> Order {
        let SlackAddress { team, channel, .. } = &self.place;
        let key = format!("slack/{team}/{channel}/{}/{}", self.ts, order.agent);
        order.submission.idempotency = Some(IdempotencyKey { key, fingerprint: 0 });
        order
    }
}

/// Text as it was typed: without the app's name, and with Slack's escapes undone.
fn plain(written: &str, own: &[&str], mention: bool) -> String {
    let mut rest = written.trim();
    // The name that a mention begins with is the app's, whatever else is known of it.
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

    fn read(event: Value) -> Option<Post> {
        let wrapped = json!({
            "type": "event_callback", "team_id": "T1", "event_id": "Ev1",
            "authorizations": [{"user_id": "U0BOT", "is_bot": true}], "event": event,
        });
        Post::read(&serde_json::from_value(wrapped).unwrap())
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
