//! The control API's reading half: messages, views, deliveries, the ledger.

use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::message::By;
use super::server::App;

/// The longest that a reader may wait, in seconds.
const MAX_WAIT_SECONDS: f64 = 600.0;

/// Which messages.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    team: Option<String>,
    channel: Option<String>,
    thread_ts: Option<String>,
    contains: Option<String>,
    by: Option<String>,
    count: Option<usize>,
    wait: Option<f64>,
}

/// `GET /sim/messages`: at once, or as soon as there are as many as asked for.
pub(super) async fn messages(State(app): State<App>, Query(wanted): Query<Wanted>) -> Response {
    let mut changes = app.sim.changes();
    let wait = wanted.wait.unwrap_or(0.0).clamp(0.0, MAX_WAIT_SECONDS);
    let until = Instant::now() + Duration::from_secs_f64(wait);
    loop {
        changes.borrow_and_update();
        let found = found(&app, &wanted);
        let enough = found.len() >= wanted.count.unwrap_or(usize::from(wait > 0.0));
        let body = json!({"messages": found});
        if enough {
            return axum::Json(body).into_response();
        }
        let changed = tokio::select! {
            changed = timeout_at(until, changes.changed()) => changed.is_ok(),
            () = app.shutdown.cancelled() => false,
        };
        if !changed {
            return (StatusCode::REQUEST_TIMEOUT, axum::Json(body)).into_response();
        }
    }
}

fn found(app: &App, wanted: &Wanted) -> Vec<Value> {
    let world = app.sim.world();
    let same = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
    let mut found: Vec<_> = world
        .messages()
        .filter(|message| {
            let thread = message.thread_ts.as_deref().unwrap_or(&message.ts);
            same(&wanted.team, &message.team)
                && same(&wanted.channel, &message.channel)
                && same(&wanted.thread_ts, thread)
                && same(&wanted.by, if message.by == By::Bot { "bot" } else { "user" })
                && wanted.contains.as_ref().is_none_or(|text| message.text.contains(text.as_str()))
        })
        .collect();
    found.sort_by(|one, other| (one.posted_us, &one.ts).cmp(&(other.posted_us, &other.ts)));
    found.into_iter().map(|message| json!(message)).collect()
}

/// `GET /sim/views`.
pub(super) async fn views(State(app): State<App>) -> Response {
    let world = app.sim.world();
    let views: Vec<_> = world.views.all().collect();
    axum::Json(json!({"views": views})).into_response()
}

/// `GET /sim/deliveries/{id}`.
pub(super) async fn delivery(State(app): State<App>, Path(id): Path<String>) -> Response {
    match app.sim.deliveries().get(&id) {
        Some(progress) => axum::Json(progress).into_response(),
        None => (StatusCode::NOT_FOUND, axum::Json(json!({"error": format!("no delivery {id}")}))).into_response(),
    }
}

/// `GET /sim/ledger`.
pub(super) async fn ledger(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, "application/jsonl")], app.sim.ledger.recent()).into_response()
}

/// `GET /sim/stats`.
pub(super) async fn stats(State(app): State<App>) -> Response {
    axum::Json(app.sim.ledger.stats()).into_response()
}
