//! The control API's read half: messages, views, deliveries, the ledger.

use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::message::Author;
use super::server::App;

/// Upper bound of `wait`, in seconds.
const MAX_WAIT_SECONDS: f64 = 600.0;

#[derive(Debug, Deserialize)]
pub(super) struct MessageQuery {
    team: Option<String>,
    channel: Option<String>,
    thread_ts: Option<String>,
    contains: Option<String>,
    by: Option<String>,
    count: Option<usize>,
    wait: Option<f64>,
}

/// `GET /sim/messages`: answers as soon as there are `count` matching messages.
pub(super) async fn messages(State(app): State<App>, Query(query): Query<MessageQuery>) -> Response {
    let mut changes = app.sim.changes();
    let wait = query.wait.unwrap_or(0.0).clamp(0.0, MAX_WAIT_SECONDS);
    let until = Instant::now() + Duration::from_secs_f64(wait);
    loop {
        changes.borrow_and_update();
        let found = found(&app, &query);
        let enough = found.len() >= query.count.unwrap_or(usize::from(wait > 0.0));
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

fn found(app: &App, query: &MessageQuery) -> Vec<Value> {
    let workspaces = app.sim.workspaces();
    let same = |query: &Option<String>, value: &str| query.as_deref().is_none_or(|query| query == value);
    let mut found: Vec<_> = workspaces
        .messages()
        .filter(|message| {
            let thread = message.thread_ts.as_deref().unwrap_or(&message.ts);
            same(&query.team, &message.team)
                && same(&query.channel, &message.channel)
                && same(&query.thread_ts, thread)
                && same(&query.by, if message.by == Author::Bot { "bot" } else { "user" })
                && query.contains.as_ref().is_none_or(|text| message.text.contains(text.as_str()))
        })
        .collect();
    found.sort_by(|one, other| (one.posted_us, &one.ts).cmp(&(other.posted_us, &other.ts)));
    found.into_iter().map(|message| json!(message)).collect()
}

pub(super) async fn views(State(app): State<App>) -> Response {
    let workspaces = app.sim.workspaces();
    let views: Vec<_> = workspaces.views.all().collect();
    axum::Json(json!({"views": views})).into_response()
}

pub(super) async fn delivery(State(app): State<App>, Path(id): Path<String>) -> Response {
    match app.sim.deliveries().get(&id) {
        Some(progress) => axum::Json(progress).into_response(),
        None => (StatusCode::NOT_FOUND, axum::Json(json!({"error": format!("no delivery {id}")}))).into_response(),
    }
}

pub(super) async fn ledger(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, "application/jsonl")], app.sim.ledger.recent()).into_response()
}

pub(super) async fn stats(State(app): State<App>) -> Response {
    axum::Json(app.sim.ledger.stats()).into_response()
}
