//! `response_url`: the app's answers to a command or a click, five times in half an hour.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::blocks::{MAX_MESSAGE_BLOCKS, check};
use super::fault::{SlackFault, hit};
use super::message::{Author, Message};
use super::server::App;
use super::workspaces::{ResponseUrl, Workspaces};
use crate::clock::now_us;
use crate::server::aborted_response;

const METHOD: &str = "response_url";

/// Body of a post to a `response_url`, and of the immediate answer to a command.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ResponsePayload {
    text: Option<String>,
    blocks: Option<Value>,
    response_type: Option<String>,
    #[serde(default)]
    replace_original: bool,
    #[serde(default)]
    delete_original: bool,
    thread_ts: Option<String>,
    metadata: Option<Value>,
}

/// `POST /response/{team}/{id}`.
pub(super) async fn respond(State(app): State<App>, Path((team, id)): Path<(String, String)>, body: Bytes) -> Response {
    let began = now_us();
    let fault = hit(&mut app.sim.workspaces().faults, METHOD);
    match fault {
        Some((SlackFault::Hang, _)) => {
            app.shutdown.cancelled().await;
            return aborted_response();
        }
        Some((SlackFault::Status(status), _)) => return refuse(&app, began, status, "upstream_error"),
        Some((SlackFault::Ratelimit, _)) => return refuse(&app, began, 429, "ratelimited"),
        Some((SlackFault::Fail, error)) => return refuse(&app, began, 500, &error),
        Some((SlackFault::Lose, _)) | None => {}
    }
    let Ok(payload) = serde_json::from_slice::<ResponsePayload>(&body) else {
        return refuse(&app, began, 400, "invalid_payload");
    };
    let used = app.sim.workspaces().respond(&format!("{team}/{id}"), began);
    let used = match used {
        Ok(used) => used,
        Err(error) => return refuse(&app, began, 404, error),
    };
    let Some(team) = app.sim.team(&used.team) else { return refuse(&app, began, 404, "no_such_url") };
    let bot = team.bot_user();
    let done = apply(&mut app.sim.workspaces(), &used, payload, &bot, METHOD, began);
    let response = match done {
        Ok(line) => {
            log(&app, began, 200, line);
            "ok".into_response()
        }
        Err(error) => refuse(&app, began, 400, error),
    };
    app.sim.changed();
    if matches!(fault, Some((SlackFault::Lose, _))) { aborted_response() } else { response }
}

/// Applies the answer; returns the ledger line, or Slack's error code.
pub(super) fn apply(
    workspaces: &mut Workspaces,
    used: &ResponseUrl,
    payload: ResponsePayload,
    bot: &str,
    via: &'static str,
    now_us: u64,
) -> Result<Value, &'static str> {
    let original = used.message_ts.as_deref();
    let mut line = json!({"team": used.team, "channel": used.channel, "user": used.user, "text": payload.text});
    if let (true, Some(ts)) = (payload.delete_original, original) {
        workspaces.remove(&used.team, &used.channel, ts);
        line["ts"] = json!(ts);
        line["deleted"] = json!(true);
        return Ok(line);
    }
    let mut blocks = payload.blocks.filter(|blocks| !blocks.is_null());
    if let Some(blocks) = &mut blocks {
        check(blocks, MAX_MESSAGE_BLOCKS).map_err(|_| "invalid_blocks")?;
    }
    if payload.text.as_deref().is_none_or(str::is_empty) && blocks.is_none() {
        return Err("no_text");
    }
    if payload.replace_original
        && let Some(message) = original.and_then(|ts| workspaces.message_mut(&used.team, &used.channel, ts))
    {
        (message.text, message.blocks) = (payload.text.unwrap_or_default(), blocks);
        (message.edits, message.updated_us) = (message.edits + 1, now_us);
        line["ts"] = json!(message.ts);
        line["replaced"] = json!(true);
        return Ok(line);
    }
    let is_public = payload.response_type.as_deref() == Some("in_channel");
    let draft = Message {
        thread_ts: payload.thread_ts,
        text: payload.text.unwrap_or_default(),
        blocks,
        metadata: payload.metadata,
        ephemeral_to: (!is_public).then(|| used.user.clone()),
        ..Message::new(&used.team, &used.channel, bot.to_owned(), Author::Bot, via)
    };
    let message = workspaces.post(draft, now_us);
    (line["ts"], line["thread_ts"]) = (json!(message.ts), json!(message.thread_ts));
    line["ephemeral"] = json!(!is_public);
    Ok(line)
}

fn refuse(app: &App, began: u64, status: u16, error: &str) -> Response {
    log(app, began, status, json!({"error": error}));
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, axum::Json(json!({"ok": false, "error": error}))).into_response();
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(axum::http::header::RETRY_AFTER, axum::http::HeaderValue::from_static("1"));
    }
    response
}

fn log(app: &App, began: u64, status: u16, mut line: Value) {
    let ok = status == 200;
    for (name, value) in [
        ("kind", json!("call")),
        ("method", json!(METHOD)),
        ("status", json!(status)),
        ("ok", json!(ok)),
        ("t_us", json!(began)),
        ("end_us", json!(now_us())),
    ] {
        line[name] = value;
    }
    let is_post = ok && line.get("ephemeral").is_some();
    app.sim.ledger.write(line, |stats| {
        stats.calls += 1;
        stats.ok += u64::from(ok);
        stats.rate_limited += u64::from(status == 429);
        stats.posts += u64::from(is_post);
    });
}
