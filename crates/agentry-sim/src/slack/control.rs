//! The control API's write half: the actions of people in the simulated workspaces.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::blocks;
use super::delivery::{Callback, DeliveryKind, DeliveryStatus};
use super::follow_up::{FollowUp, run};
use super::message::{Author, Message};
use super::options::Team;
use super::payload::{self, Origin};
use super::server::App;
use super::sign::SignatureFault;
use super::workspaces::View;
use crate::clock::now_us;

const USER: &str = "U0ALICE";
const CHANNEL: &str = "C0GENERAL";
/// Largest number of parallel copies of one event.
const MAX_COPIES: u32 = 100;

/// Query of requests that may wait for the end of their delivery.
#[derive(Debug, Deserialize)]
pub(super) struct WaitQuery {
    #[serde(default)]
    wait: bool,
}

/// Error of a request to the control API.
pub(super) type ControlError = (StatusCode, String);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    text: Option<String>,
    channel: Option<String>,
    user: Option<String>,
    team: Option<String>,
    #[serde(default)]
    mention: bool,
    thread_ts: Option<String>,
    event_id: Option<String>,
    event: Option<Map<String, Value>>,
    copies: Option<u32>,
    forge: Option<SignatureFault>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Command {
    command: String,
    #[serde(default)]
    text: String,
    channel: Option<String>,
    user: Option<String>,
    team: Option<String>,
    forge: Option<SignatureFault>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Click {
    channel: Option<String>,
    ts: String,
    action_id: String,
    value: Option<String>,
    user: Option<String>,
    team: Option<String>,
    forge: Option<SignatureFault>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Submission {
    view_id: String,
    user: Option<String>,
    #[serde(default)]
    values: Map<String, Value>,
    forge: Option<SignatureFault>,
}

#[derive(Debug, Deserialize)]
struct Challenge {
    forge: Option<SignatureFault>,
}

/// `POST /sim/events`: a person posts a message.
pub(super) async fn events(State(app): State<App>, Query(waiting): Query<WaitQuery>, body: Bytes) -> Response {
    let callbacks = (|| {
        let event: Event = read(&body)?;
        let team = team(&app, event.team.as_deref())?;
        let (now, mut workspaces) = (now_us(), app.sim.workspaces());
        let mention = if event.mention { format!("<@{}> ", team.bot_user()) } else { String::new() };
        let channel = event.channel.as_deref().unwrap_or(CHANNEL);
        let user = event.user.unwrap_or_else(|| USER.into());
        let message = workspaces.post(
            Message {
                thread_ts: event.thread_ts,
                text: format!("{mention}{}", event.text.unwrap_or_default()),
                ..Message::new(&team.id, channel, user, Author::User, "event")
            },
            now,
        );
        let mut inner = payload::message(&message, event.mention);
        for (name, value) in event.event.unwrap_or_default() {
            inner[name] = value;
        }
        let event_id = event.event_id.unwrap_or_else(|| format!("Ev{:x}{:06}", now, workspaces.next_serial()));
        let body = payload::callback(team, &inner, &event_id, now / 1_000_000).to_string();
        let about = BTreeMap::from([("channel", message.channel), ("ts", message.ts)]);
        let copies = event.copies.unwrap_or(1).clamp(1, MAX_COPIES);
        drop(workspaces);
        let prepare =
            |_| prepare(&app, DeliveryKind::Event, Some(event_id.clone()), body.clone(), event.forge, about.clone());
        (0..copies).map(prepare).collect::<Result<Vec<_>, ControlError>>()
    })();
    match callbacks {
        Ok(mut callbacks) => {
            let Some(last) = callbacks.pop() else {
                return refuse((StatusCode::BAD_REQUEST, "nothing to send".into()));
            };
            for callback in callbacks {
                tokio::spawn(run(app.clone(), callback, FollowUp::Nothing));
            }
            dispatch(app, last, FollowUp::Nothing, &waiting).await
        }
        Err(bad) => refuse(bad),
    }
}

/// `POST /sim/commands`: a person uses a slash command.
pub(super) async fn commands(State(app): State<App>, Query(waiting): Query<WaitQuery>, body: Bytes) -> Response {
    let prepared = (|| {
        let request: Command = read(&body)?;
        let team = team(&app, request.team.as_deref())?;
        let channel = request.channel.as_deref().unwrap_or(CHANNEL);
        let user = request.user.as_deref().unwrap_or(USER);
        let (trigger_id, response_id) = grant(&app, (&team.id, channel, user), None);
        let response_url = format!("{}/response/{response_id}", app.base);
        let origin = Origin { team, channel, user, trigger_id: &trigger_id, response_url: &response_url };
        let form = payload::command(&origin, &request.command, &request.text);
        let callback = prepare(&app, DeliveryKind::Command, None, form, request.forge, about(&origin))?;
        Ok((callback, FollowUp::Show { response_id, team: team.clone() }))
    })();
    finish(app, prepared, &waiting).await
}

/// `POST /sim/clicks`: a person clicks on an element.
pub(super) async fn clicks(State(app): State<App>, Query(waiting): Query<WaitQuery>, body: Bytes) -> Response {
    let prepared = (|| {
        let request: Click = read(&body)?;
        let team = team(&app, request.team.as_deref())?;
        let channel = request.channel.as_deref().unwrap_or(CHANNEL);
        let user = request.user.as_deref().unwrap_or(USER);
        let missing = |what: String| (StatusCode::NOT_FOUND, what);
        let found = app.sim.workspaces().message(&team.id, channel, &request.ts).cloned();
        let message = found.ok_or_else(|| missing(format!("there is no message {} in {channel}", request.ts)))?;
        let none = Value::Null;
        let blocks = message.blocks.as_ref().unwrap_or(&none);
        let (block, element) = blocks::find(blocks, &request.action_id, request.value.as_deref())
            .ok_or_else(|| missing(format!("the message has no `{}` to click on: {blocks}", request.action_id)))?;
        let action_ts = app.sim.workspaces().next_timestamp(now_us());
        let action = blocks::action(block, element, request.value.as_deref(), &action_ts);
        let (trigger_id, response_id) = grant(&app, (&team.id, channel, user), Some(&request.ts));
        let response_url = format!("{}/response/{response_id}", app.base);
        let origin = Origin { team, channel, user, trigger_id: &trigger_id, response_url: &response_url };
        let form = payload::form(&payload::click(&origin, &message, &action));
        let mut about = about(&origin);
        about.insert("ts", request.ts.clone());
        Ok((prepare(&app, DeliveryKind::Click, None, form, request.forge, about)?, FollowUp::Nothing))
    })();
    finish(app, prepared, &waiting).await
}

/// `POST /sim/submissions`: a person submits a modal.
pub(super) async fn submissions(State(app): State<App>, Query(waiting): Query<WaitQuery>, body: Bytes) -> Response {
    let prepared = (|| {
        let request: Submission = read(&body)?;
        let found = app.sim.workspaces().views.get(&request.view_id).filter(|view| view.open).cloned();
        let view =
            found.ok_or_else(|| (StatusCode::NOT_FOUND, format!("there is no open view {}", request.view_id)))?;
        let team = team(&app, Some(&view.team))?;
        let user = request.user.as_deref().unwrap_or(&view.user);
        let (trigger_id, _) = grant(&app, (&team.id, CHANNEL, user), None);
        let origin = Origin { team, channel: CHANNEL, user, trigger_id: &trigger_id, response_url: "" };
        let form = payload::form(&payload::submission(&origin, &view, &values(&view, &request.values)));
        let about = BTreeMap::from([("view_id", view.id.clone()), ("trigger_id", trigger_id.clone())]);
        let callback = prepare(&app, DeliveryKind::Submission, None, form, request.forge, about)?;
        Ok((callback, FollowUp::Apply { view_id: view.id }))
    })();
    finish(app, prepared, &waiting).await
}

/// `POST /sim/challenge`: Slack verifies the app's address.
pub(super) async fn challenge(State(app): State<App>, Query(waiting): Query<WaitQuery>, body: Bytes) -> Response {
    let prepared = (|| {
        let request: Challenge = read(if body.is_empty() { b"{}" } else { &body })?;
        let challenge = format!("sim-{:x}", now_us());
        let body = payload::challenge(&challenge).to_string();
        let about = BTreeMap::from([("challenge", challenge)]);
        Ok((prepare(&app, DeliveryKind::Challenge, None, body, request.forge, about)?, FollowUp::Nothing))
    })();
    finish(app, prepared, &waiting).await
}

async fn finish(app: App, prepared: Result<(Callback, FollowUp), ControlError>, waiting: &WaitQuery) -> Response {
    match prepared {
        Ok((callback, then)) => dispatch(app, callback, then, waiting).await,
        Err(bad) => refuse(bad),
    }
}

/// Delivers in the background and returns the delivery's status, at once or after its end.
async fn dispatch(app: App, callback: Callback, then: FollowUp, waiting: &WaitQuery) -> Response {
    let id = callback.id.clone();
    let running = tokio::spawn(run(app.clone(), callback, then));
    if waiting.wait {
        // The delivery ends by its own timeouts.
        let _ = running.await;
    }
    let progress = app.sim.deliveries().get(&id).cloned();
    let status = if waiting.wait { StatusCode::OK } else { StatusCode::ACCEPTED };
    (status, axum::Json(progress)).into_response()
}

/// Returns the values of a view in Slack's shape. Texts become values of their element; objects are taken as they are.
fn values(view: &View, given: &Map<String, Value>) -> Value {
    let mut values = json!({});
    for (block_id, fields) in given {
        for (action_id, value) in fields.as_object().into_iter().flatten() {
            let blocks = view.view["blocks"].as_array().into_iter().flatten();
            let element = blocks.filter(|block| block["block_id"] == *block_id).map(|block| &block["element"]).next();
            values[block_id][action_id] = match value.as_str() {
                Some(text) => blocks::filled(element.unwrap_or(&Value::Null), text),
                None => value.clone(),
            };
        }
    }
    values
}

/// Returns the ids of an action that the control API reports.
fn about(origin: &Origin<'_>) -> BTreeMap<&'static str, String> {
    let Origin { channel, trigger_id, response_url, .. } = origin;
    let ids = [("channel", channel), ("trigger_id", trigger_id), ("response_url", response_url)];
    ids.map(|(name, id)| (name, (*id).to_owned())).into()
}

/// Creates a trigger and a response address for an action.
fn grant(app: &App, to: (&str, &str, &str), message_ts: Option<&str>) -> (String, String) {
    let (now, scale, mut workspaces) = (now_us(), app.sim.options.time_scale, app.sim.workspaces());
    (workspaces.trigger(to.0, to.2, now), workspaces.response(to, message_ts, now, scale))
}

/// Creates a delivery and enters it among the deliveries.
fn prepare(
    app: &App,
    kind: DeliveryKind,
    event_id: Option<String>,
    body: String,
    forge: Option<SignatureFault>,
    about: BTreeMap<&'static str, String>,
) -> Result<Callback, ControlError> {
    let (target, id) = {
        let mut workspaces = app.sim.workspaces();
        let target = workspaces.target.clone();
        (target, format!("D{:06}", workspaces.next_serial()))
    };
    let target = target.ok_or_else(|| {
        (StatusCode::CONFLICT, "nothing to send to: start with --target URL, or POST /sim/target".to_owned())
    })?;
    if !app.sim.reserve_delivery() {
        return Err((StatusCode::SERVICE_UNAVAILABLE, "too many deliveries are in flight".into()));
    }
    let progress = DeliveryStatus {
        delivery: id.clone(),
        kind,
        event_id: event_id.clone(),
        done: false,
        delivered: false,
        attempts: Vec::new(),
        status: None,
        body: String::new(),
        about,
    };
    app.sim.deliveries().insert(id.clone(), progress);
    app.sim.ledger.count(|stats| stats.deliveries += 1);
    Ok(Callback { id, kind, event_id, target, body, forge })
}

fn team<'a>(app: &'a App, id: Option<&str>) -> Result<&'a Team, ControlError> {
    let found = id.map_or(app.sim.options.teams.first(), |id| app.sim.team(id));
    found.ok_or_else(|| (StatusCode::NOT_FOUND, format!("there is no team {}", id.unwrap_or_default())))
}

pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ControlError> {
    serde_json::from_slice(body).map_err(|problem| (StatusCode::BAD_REQUEST, problem.to_string()))
}

pub(super) fn refuse((status, error): ControlError) -> Response {
    // Clients of Agentry's own API read `detail`.
    (status, axum::Json(json!({"error": error, "detail": error}))).into_response()
}
