//! The control API's writing half: what people in the simulated workspaces do, and how the simulator is set.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::aftermath::{Then, run};
use super::blocks;
use super::delivery::{Kind, Parcel, Progress};
use super::message::By;
use super::options::Team;
use super::payload::{self, Origin};
use super::server::App;
use super::sign::Forge;
use super::world::{Draft, View};
use crate::clock::now_us;

/// Who does things when nobody is named.
const USER: &str = "U0ALICE";
/// Where, when no channel is named.
const CHANNEL: &str = "C0GENERAL";
/// Times that one event may be sent side by side.
const MAX_COPIES: u32 = 100;

/// Whether to wait for the end of a delivery.
#[derive(Debug, Deserialize)]
pub(super) struct Waiting {
    #[serde(default)]
    wait: bool,
}

/// What a caller did wrong.
pub(super) type Bad = (StatusCode, String);

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
    forge: Option<Forge>,
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
    forge: Option<Forge>,
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
    forge: Option<Forge>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Submission {
    view_id: String,
    user: Option<String>,
    #[serde(default)]
    values: Map<String, Value>,
    forge: Option<Forge>,
}

#[derive(Debug, Deserialize)]
struct Challenge {
    forge: Option<Forge>,
}

/// `POST /sim/events`: somebody writes.
pub(super) async fn events(State(app): State<App>, Query(waiting): Query<Waiting>, body: Bytes) -> Response {
    let parcels = (|| {
        let event: Event = read(&body)?;
        let team = team(&app, event.team.as_deref())?;
        let (now, mut world) = (now_us(), app.sim.world());
        let mention = if event.mention { format!("<@{}> ", team.bot_user()) } else { String::new() };
        let message = world.post(
            Draft {
                team: team.id.clone(),
                channel: event.channel.unwrap_or_else(|| CHANNEL.into()),
                thread_ts: event.thread_ts,
                user: event.user.unwrap_or_else(|| USER.into()),
                by: By::User,
                text: format!("{mention}{}", event.text.unwrap_or_default()),
                blocks: None,
                metadata: None,
                ephemeral_to: None,
                via: "event",
            },
            now,
        );
        let mut inner = payload::message(&message, event.mention);
        for (name, value) in event.event.unwrap_or_default() {
            inner[name] = value;
        }
        let event_id = event.event_id.unwrap_or_else(|| format!("Ev{:x}{:06}", now, world.serial()));
        let body = payload::callback(team, &inner, &event_id, now / 1_000_000).to_string();
        let about = BTreeMap::from([("channel", message.channel), ("ts", message.ts)]);
        let copies = event.copies.unwrap_or(1).clamp(1, MAX_COPIES);
        drop(world);
        let prepare = |_| prepare(&app, Kind::Event, Some(event_id.clone()), body.clone(), event.forge, about.clone());
        (0..copies).map(prepare).collect::<Result<Vec<_>, Bad>>()
    })();
    match parcels {
        Ok(mut parcels) => {
            let Some(last) = parcels.pop() else { return refuse((StatusCode::BAD_REQUEST, "nothing to send".into())) };
            for parcel in parcels {
                tokio::spawn(run(app.clone(), parcel, Then::Nothing));
            }
            dispatch(app, last, Then::Nothing, &waiting).await
        }
        Err(bad) => refuse(bad),
    }
}

/// `POST /sim/commands`: somebody uses a slash command.
pub(super) async fn commands(State(app): State<App>, Query(waiting): Query<Waiting>, body: Bytes) -> Response {
    let prepared = (|| {
        let asked: Command = read(&body)?;
        let team = team(&app, asked.team.as_deref())?;
        let channel = asked.channel.as_deref().unwrap_or(CHANNEL);
        let user = asked.user.as_deref().unwrap_or(USER);
        let (trigger_id, response_id) = rights(&app, (&team.id, channel, user), None);
        let response_url = format!("{}/response/{response_id}", app.base);
        let origin = Origin { team, channel, user, trigger_id: &trigger_id, response_url: &response_url };
        let form = payload::command(&origin, &asked.command, &asked.text);
        let about = BTreeMap::from([
            ("channel", channel.to_owned()),
            ("trigger_id", trigger_id.clone()),
            ("response_url", response_url.clone()),
        ]);
        let parcel = prepare(&app, Kind::Command, None, form, asked.forge, about)?;
        Ok((parcel, Then::Show { response_id, team: team.clone() }))
    })();
    finish(app, prepared, &waiting).await
}

/// `POST /sim/clicks`: somebody clicks.
pub(super) async fn clicks(State(app): State<App>, Query(waiting): Query<Waiting>, body: Bytes) -> Response {
    let prepared = (|| {
        let asked: Click = read(&body)?;
        let team = team(&app, asked.team.as_deref())?;
        let channel = asked.channel.as_deref().unwrap_or(CHANNEL);
        let user = asked.user.as_deref().unwrap_or(USER);
        let missing = |what: String| (StatusCode::NOT_FOUND, what);
        let found = app.sim.world().message(&team.id, channel, &asked.ts).cloned();
        let message = found.ok_or_else(|| missing(format!("there is no message {} in {channel}", asked.ts)))?;
        let none = Value::Null;
        let blocks = message.blocks.as_ref().unwrap_or(&none);
        let (block, element) = blocks::find(blocks, &asked.action_id, asked.value.as_deref())
            .ok_or_else(|| missing(format!("the message has no `{}` to click on: {blocks}", asked.action_id)))?;
        let action_ts = app.sim.world().stamp(now_us());
        let action = blocks::action(block, element, asked.value.as_deref(), &action_ts);
        let (trigger_id, response_id) = rights(&app, (&team.id, channel, user), Some(&asked.ts));
        let response_url = format!("{}/response/{response_id}", app.base);
        let origin = Origin { team, channel, user, trigger_id: &trigger_id, response_url: &response_url };
        let form = payload::form(&payload::click(&origin, &message, &action));
        let about = BTreeMap::from([
            ("channel", channel.to_owned()),
            ("ts", asked.ts.clone()),
            ("trigger_id", trigger_id.clone()),
            ("response_url", response_url.clone()),
        ]);
        Ok((prepare(&app, Kind::Click, None, form, asked.forge, about)?, Then::Nothing))
    })();
    finish(app, prepared, &waiting).await
}

/// `POST /sim/submissions`: somebody submits a modal.
pub(super) async fn submissions(State(app): State<App>, Query(waiting): Query<Waiting>, body: Bytes) -> Response {
    let prepared = (|| {
        let asked: Submission = read(&body)?;
        let found = app.sim.world().views.get(&asked.view_id).filter(|view| view.open).cloned();
        let view = found.ok_or_else(|| (StatusCode::NOT_FOUND, format!("there is no open view {}", asked.view_id)))?;
        let team = team(&app, Some(&view.team))?;
        let user = asked.user.as_deref().unwrap_or(&view.user);
        let (trigger_id, _) = rights(&app, (&team.id, CHANNEL, user), None);
        let origin = Origin { team, channel: CHANNEL, user, trigger_id: &trigger_id, response_url: "" };
        let form = payload::form(&payload::submission(&origin, &view, &values(&view, &asked.values)));
        let about = BTreeMap::from([("view_id", view.id.clone()), ("trigger_id", trigger_id.clone())]);
        let parcel = prepare(&app, Kind::Submission, None, form, asked.forge, about)?;
        Ok((parcel, Then::Apply { view_id: view.id }))
    })();
    finish(app, prepared, &waiting).await
}

/// `POST /sim/challenge`: Slack asks whether the address is the app's.
pub(super) async fn challenge(State(app): State<App>, Query(waiting): Query<Waiting>, body: Bytes) -> Response {
    let prepared = (|| {
        let asked: Challenge = read(if body.is_empty() { b"{}" } else { &body })?;
        let challenge = format!("sim-{:x}", now_us());
        let body = payload::challenge(&challenge).to_string();
        let about = BTreeMap::from([("challenge", challenge)]);
        Ok((prepare(&app, Kind::Challenge, None, body, asked.forge, about)?, Then::Nothing))
    })();
    finish(app, prepared, &waiting).await
}

async fn finish(app: App, prepared: Result<(Parcel, Then), Bad>, waiting: &Waiting) -> Response {
    match prepared {
        Ok((parcel, then)) => dispatch(app, parcel, then, waiting).await,
        Err(bad) => refuse(bad),
    }
}

/// Sends in the background; tells what was sent at once, or all about it at its end.
async fn dispatch(app: App, parcel: Parcel, then: Then, waiting: &Waiting) -> Response {
    let id = parcel.id.clone();
    let running = tokio::spawn(run(app.clone(), parcel, then));
    if waiting.wait {
        // It ends by its own time limits.
        let _ = running.await;
    }
    let progress = app.sim.deliveries().get(&id).cloned();
    let status = if waiting.wait { StatusCode::OK } else { StatusCode::ACCEPTED };
    (status, axum::Json(progress)).into_response()
}

/// What was put into the fields of a view, in Slack's shape: `{block: {action: "text"}}`, or objects as they are.
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

/// A trigger and a response address of something that somebody does now.
fn rights(app: &App, to: (&str, &str, &str), message_ts: Option<&str>) -> (String, String) {
    let (now, scale, mut world) = (now_us(), app.sim.options.time_scale, app.sim.world());
    (world.trigger(to.0, to.2, now), world.response(to, message_ts, now, scale))
}

/// Something to send, entered among the deliveries.
fn prepare(
    app: &App,
    kind: Kind,
    event_id: Option<String>,
    body: String,
    forge: Option<Forge>,
    about: BTreeMap<&'static str, String>,
) -> Result<Parcel, Bad> {
    let (target, id) = {
        let mut world = app.sim.world();
        let target = world.target.clone();
        (target, format!("D{:06}", world.serial()))
    };
    let target = target.ok_or_else(|| {
        (StatusCode::CONFLICT, "nothing to send to: start with --target URL, or POST /sim/target".to_owned())
    })?;
    if !app.sim.depart() {
        return Err((StatusCode::SERVICE_UNAVAILABLE, "too many deliveries are under way".into()));
    }
    let progress = Progress {
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
    app.sim.deliveries().keep(id.clone(), progress);
    app.sim.ledger.count(|stats| stats.deliveries += 1);
    Ok(Parcel { id, kind, event_id, target, body, forge })
}

fn team<'a>(app: &'a App, id: Option<&str>) -> Result<&'a Team, Bad> {
    let found = id.map_or(app.sim.options.teams.first(), |id| app.sim.team(id));
    found.ok_or_else(|| (StatusCode::NOT_FOUND, format!("there is no team {}", id.unwrap_or_default())))
}

/// Reads a body.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Bad> {
    serde_json::from_slice(body).map_err(|problem| (StatusCode::BAD_REQUEST, problem.to_string()))
}

/// Says what a caller did wrong.
pub(super) fn refuse((status, error): Bad) -> Response {
    // `detail` is where clients of Agentry's own API look.
    (status, axum::Json(json!({"error": error, "detail": error}))).into_response()
}
