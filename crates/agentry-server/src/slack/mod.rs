//! Slack's door: events, slash commands and clicks.
//!
//! Every request is verified on its raw bytes before anything of it is parsed. What starts a task is durable before
//! Slack is told yes; the work and its answer come afterwards, through the outbox.

pub(crate) mod commands;
mod counts;
pub(crate) mod events;
pub(crate) mod interactive;
mod reply;
mod routing;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use agentry_config::SlackRoute;
use agentry_slack::{Post, Slack};
use axum::body::Bytes;
use axum::extract::Request;
use secrecy::SecretString;
use tokio::sync::Semaphore;

use crate::extract::read_bytes;
use crate::problem::{Answer, Code, Problem};
use crate::state::AppState;

pub(crate) use counts::SlackCounts;
use counts::{Door, Outcome};

/// The largest request of Slack that is taken, in bytes; theirs stay far below.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Answers to clicks under way at most; beyond, they are left out.
const MAX_BACKGROUND: usize = 256;

/// What the door needs.
#[derive(Clone)]
pub struct SlackDoor {
    /// Signing secrets of the apps whose requests are taken.
    pub secrets: Vec<SecretString>,
    /// Who answers where, before subscriptions.
    pub routes: Vec<SlackRoute>,
    /// Opens dialogs, answers clicks.
    pub api: Arc<dyn Slack>,
}

/// The right of background calls, for all requests of a server.
pub(crate) fn background() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_BACKGROUND))
}

/// The body of a request that Slack signed.
async fn verified(state: &AppState, door: Door, request: Request) -> Answer<(SlackDoor, Bytes)> {
    let Some(slack) = state.deps.slack.clone().filter(|slack| !slack.secrets.is_empty()) else {
        let detail = "this server has no signing secret of a Slack app: set AGENTRY_SLACK_SIGNING_SECRET";
        return Err(Problem::new(Code::SlackNotConfigured, detail).retry_after(Duration::from_secs(60)));
    };
    let headers = request.headers().clone();
    let limit = MAX_BODY_BYTES.min(state.deps.limits.max_body_bytes);
    let body = read_bytes(request, limit).await.inspect_err(|_| state.slack.note(door, Outcome::Malformed))?;
    if let Err(why) = verify::verify(&slack.secrets, &headers, &body, state.now()) {
        state.slack.note(door, Outcome::Unverified);
        return Err(Problem::new(Code::SlackUnverified, why.to_string()));
    }
    Ok((slack, body))
}

/// The fields of a form; the last of several of one name.
struct Form(Vec<(String, String)>);

impl Form {
    fn read(state: &AppState, door: Door, body: &Bytes) -> Answer<Self> {
        let malformed = |detail: &str| {
            state.slack.note(door, Outcome::Malformed);
            Problem::new(Code::MalformedForm, detail.to_owned())
        };
        let text = std::str::from_utf8(body).map_err(|_| malformed("the form is not UTF-8"))?;
        let fields: Vec<(String, String)> = form_urlencoded::parse(text.as_bytes())
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        if fields.is_empty() {
            return Err(malformed("the form has no fields"));
        }
        Ok(Self(fields))
    }

    fn get(&self, name: &str) -> &str {
        self.0.iter().rev().find(|(field, _)| field == name).map_or("", |(_, value)| value)
    }

    fn need(&self, state: &AppState, door: Door, name: &str) -> Answer<&str> {
        match self.get(name) {
            "" => {
                state.slack.note(door, Outcome::Malformed);
                Err(Problem::new(Code::MalformedForm, format!("the form has no field `{name}`")))
            }
            value => Ok(value),
        }
    }
}

/// Tells who clicked, and nobody else, without keeping Slack waiting.
fn whisper(state: &AppState, slack: &SlackDoor, url: &str, text: String) {
    let Ok(permit) = Arc::clone(&state.slack_background).try_acquire_owned() else {
        tracing::warn!("too many answers to clicks are under way; one is left out");
        return;
    };
    let (api, url) = (Arc::clone(&slack.api), url.to_owned());
    tokio::spawn(async move {
        let _permit = permit;
        let post = Post { text, ..Post::default() };
        if let Err(error) = api.respond(&url, &post, false).await {
            tracing::warn!(%error, "who clicked in Slack could not be told");
        }
    });
}
