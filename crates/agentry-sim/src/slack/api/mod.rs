//! The Web API: authentication, rate limits, and dispatch to the methods.

mod chat;
mod conversations;
mod views;

pub(super) use conversations::name as channel_name;
pub(super) use views::to_value as view_to_value;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::args::Args;
use super::fault::{SlackFault, hit};
use super::options::Team;
use super::server::App;
use super::workspaces::Workspaces;
use crate::clock::now_us;
use crate::server::aborted_response;

/// The fields of a response beside `ok`, or Slack's error.
pub(super) type Answer = Result<Value, ApiError>;

#[derive(Debug)]
pub(super) struct ApiError {
    pub(super) error: String,
    pub(super) messages: Vec<String>,
}

impl From<&str> for ApiError {
    fn from(error: &str) -> Self {
        Self { error: error.to_owned(), messages: Vec::new() }
    }
}

pub(super) struct Call<'a> {
    pub(super) team: &'a Team,
    pub(super) args: &'a Args,
    pub(super) now_us: u64,
}

impl Call<'_> {
    pub(super) fn channel(&self) -> Result<String, ApiError> {
        match self.args.text("channel") {
            None | Some("C0MISSING") => Err("channel_not_found".into()),
            Some("C0ARCHIVED") => Err("is_archived".into()),
            Some(id) if id.starts_with(['C', 'G', 'D']) => Ok(id.to_owned()),
            // A user's id stands for the direct conversation with that user.
            Some(id) if id.starts_with('U') => Ok(format!("D{}", &id[1..])),
            Some(_) => Err("channel_not_found".into()),
        }
    }
}

/// `/api/{method}`.
pub(super) async fn call(
    State(app): State<App>,
    Path(method): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut exchange = Exchange { app: &app, method: &method, args: Args::default(), team: None, began: now_us() };
    match Args::read(&headers, query.as_deref(), &body) {
        Ok(args) => exchange.args = args,
        Err(error) => return exchange.finish(Err(error.into())),
    }
    let team = match team(&app, &exchange.args) {
        Ok(team) => exchange.team.insert(team).clone(),
        Err(error) => return exchange.finish(Err(error.into())),
    };
    let (fault, over) = {
        let mut workspaces = app.sim.workspaces();
        let channel = exchange.args.text("channel").unwrap_or_default();
        let taken = || workspaces.rates.take(&team.id, &method, channel, exchange.began).err();
        let over = app.sim.options.rate_limits.then(taken).flatten();
        (hit(&mut workspaces.faults, &method), over)
    };
    let call = Call { team: &team, args: &exchange.args, now_us: exchange.began };
    match fault {
        Some((SlackFault::Hang, _)) => {
            exchange.log(0, &json!({"fault": "hang"}));
            app.shutdown.cancelled().await;
            aborted_response()
        }
        Some((SlackFault::Status(status), _)) => {
            exchange.log(status, &json!({"fault": "status"}));
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, "upstream error").into_response()
        }
        Some((SlackFault::Ratelimit, _)) => exchange.limited(1),
        Some((SlackFault::Fail, error)) => exchange.finish(Err(error.as_str().into())),
        Some((SlackFault::Lose, _)) => {
            drop(exchange.finish(answer(&app, &method, &call)));
            aborted_response()
        }
        None => match over {
            Some(seconds) => exchange.limited(seconds),
            None => exchange.finish(answer(&app, &method, &call)),
        },
    }
}

fn team(app: &App, args: &Args) -> Result<Team, &'static str> {
    let token = args.token().ok_or("not_authed")?;
    let found = app.sim.options.teams.iter().find(|team| team.bot_token.expose_secret() == token);
    found.cloned().ok_or("invalid_auth")
}

fn answer(app: &App, method: &str, call: &Call<'_>) -> Answer {
    let workspaces: &mut Workspaces = &mut app.sim.workspaces();
    match method {
        "auth.test" => Ok(json!({
            "url": format!("https://{}.slack.com/", call.team.domain()),
            "team": call.team.domain(),
            "user": "agentry",
            "team_id": call.team.id,
            "user_id": call.team.bot_user(),
            "bot_id": call.team.bot_id(),
            "is_enterprise_install": false,
        })),
        "api.test" => Ok(json!({})),
        "chat.postMessage" => chat::post(workspaces, call),
        "chat.postEphemeral" => chat::post_ephemeral(workspaces, call),
        "chat.update" => chat::update(workspaces, call),
        "chat.delete" => chat::delete(workspaces, call),
        "conversations.history" => conversations::history(workspaces, call),
        "conversations.replies" => conversations::replies(workspaces, call),
        "conversations.info" => conversations::info(call),
        "views.open" => views::open(workspaces, call),
        "views.update" => views::update(workspaces, call),
        _ => Err("unknown_method".into()),
    }
}

/// A request and its response, for the ledger.
struct Exchange<'a> {
    app: &'a App,
    method: &'a str,
    args: Args,
    team: Option<Team>,
    began: u64,
}

impl Exchange<'_> {
    /// Records the response in the ledger and returns it.
    fn finish(&self, answer: Answer) -> Response {
        let body = match answer {
            Ok(mut fields) => {
                fields["ok"] = json!(true);
                fields
            }
            Err(wrong) if wrong.messages.is_empty() => json!({"ok": false, "error": wrong.error}),
            Err(wrong) => {
                let messages = json!({"messages": wrong.messages});
                json!({"ok": false, "error": wrong.error, "errors": wrong.messages, "response_metadata": messages})
            }
        };
        self.log(StatusCode::OK.as_u16(), &body);
        self.app.sim.changed();
        axum::Json(body).into_response()
    }

    fn limited(&self, seconds: u64) -> Response {
        let body = json!({"ok": false, "error": "ratelimited"});
        self.log(StatusCode::TOO_MANY_REQUESTS.as_u16(), &body);
        let headers = [(header::RETRY_AFTER, seconds.to_string())];
        (StatusCode::TOO_MANY_REQUESTS, headers, axum::Json(body)).into_response()
    }

    fn log(&self, status: u16, body: &Value) {
        let (args, ok) = (&self.args, body["ok"] == true);
        let ts = [&body["ts"], &body["message_ts"]].into_iter().find_map(Value::as_str).or_else(|| args.text("ts"));
        let line = json!({
            "kind": "call",
            "method": self.method,
            "team": self.team.as_ref().map(|team| team.id.as_str()),
            "channel": body["channel"].as_str().or_else(|| args.text("channel")),
            "ts": ts,
            "thread_ts": args.text("thread_ts"),
            "user": args.text("user"),
            "text": args.text("text"),
            "metadata": args.json("metadata").ok().flatten(),
            "status": status,
            "ok": ok,
            "error": body["error"],
            "fault": body["fault"],
            "t_us": self.began,
            "end_us": now_us(),
        });
        let is_post = ok && matches!(self.method, "chat.postMessage" | "chat.postEphemeral");
        self.app.sim.ledger.write(line, |stats| {
            stats.calls += 1;
            stats.ok += u64::from(ok);
            stats.rate_limited += u64::from(status == StatusCode::TOO_MANY_REQUESTS.as_u16());
            stats.posts += u64::from(is_post);
        });
    }
}
