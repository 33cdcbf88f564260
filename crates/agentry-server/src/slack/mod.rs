//! Ingress for Slack: events, slash commands and interactions.
//!
//! The signature of every request is verified over its raw bytes before anything is parsed. A task is durable before
//! Slack gets its 200; the work happens later, and the answer is delivered through the outbox.

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
use agentry_slack::{Post, ResponseMode, Slack, SlackError, escape};
use axum::body::Bytes;
use axum::extract::Request;
use secrecy::SecretString;
use tokio::sync::Semaphore;

use crate::extract::read_bytes;
use crate::problem::{ApiProblem, ApiResult, Code};
use crate::state::AppState;

pub(crate) use counts::SlackCounts;
use counts::{RequestOutcome, SlackRequestKind};

/// The largest accepted request body, in bytes; Slack stays far below it.
const MAX_BODY_BYTES: usize = 1 << 20;
/// The most background calls to Slack in flight; more are dropped.
const MAX_BACKGROUND: usize = 256;

/// The configuration of the ingress for Slack.
#[derive(Clone)]
pub struct SlackIngress {
    /// Signing secrets of the apps whose requests are accepted.
    pub secrets: Vec<SecretString>,
    /// Routes to agents; they take precedence over subscriptions.
    pub routes: Vec<SlackRoute>,
    /// A client of Slack's Web API, for dialogs and responses to interactions.
    pub api: Arc<dyn Slack>,
}

/// Returns the permits for background calls, shared by all requests of a server.
pub(crate) fn background() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_BACKGROUND))
}

/// Reads the body of a request and verifies its signature.
async fn read_verified(state: &AppState, kind: SlackRequestKind, request: Request) -> ApiResult<(SlackIngress, Bytes)> {
    let Some(slack) = state.deps.slack.clone().filter(|slack| !slack.secrets.is_empty()) else {
        let detail = "this server has no signing secret of a Slack app: set AGENTRY_SLACK_SIGNING_SECRET";
        return Err(ApiProblem::new(Code::SlackNotConfigured, detail).retry_after(Duration::from_secs(60)));
    };
    let headers = request.headers().clone();
    let limit = MAX_BODY_BYTES.min(state.deps.limits.max_body_bytes);
    let body = read_bytes(request, limit).await.inspect_err(|_| state.slack.note(kind, RequestOutcome::Malformed))?;
    if let Err(why) = verify::verify(&slack.secrets, &headers, &body, state.now()) {
        state.slack.note(kind, RequestOutcome::SignatureError);
        return Err(ApiProblem::new(Code::SlackUnverified, why.to_string()));
    }
    Ok((slack, body))
}

/// The fields of a form. If a name repeats, the last value wins.
struct SlackForm(Vec<(String, String)>);

impl SlackForm {
    fn read(state: &AppState, kind: SlackRequestKind, body: &Bytes) -> ApiResult<Self> {
        let malformed = |detail: &str| {
            state.slack.note(kind, RequestOutcome::Malformed);
            ApiProblem::new(Code::MalformedForm, detail.to_owned())
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

    fn need(&self, state: &AppState, kind: SlackRequestKind, name: &str) -> ApiResult<&str> {
        match self.get(name) {
            "" => {
                state.slack.note(kind, RequestOutcome::Malformed);
                Err(ApiProblem::new(Code::MalformedForm, format!("the form has no field `{name}`")))
            }
            value => Ok(value),
        }
    }
}

/// Calls Slack in the background, because it must get its response within 3 s; drops the call when too many are in
/// flight.
fn call_in_background(
    state: &AppState,
    call: &'static str,
    work: impl Future<Output = Result<(), SlackError>> + Send + 'static,
) {
    let Ok(permit) = Arc::clone(&state.slack_background).try_acquire_owned() else {
        return tracing::warn!(call, "call to Slack dropped: too many are in flight");
    };
    tokio::spawn(async move {
        let _permit = permit;
        if let Err(error) = work.await {
            tracing::warn!(call, %error, "call to Slack failed");
        }
    });
}

/// Sends a message that only the user who clicked sees.
fn send_ephemeral(state: &AppState, slack: &SlackIngress, url: &str, text: String) {
    let (api, url, post) = (Arc::clone(&slack.api), url.to_owned(), Post { text, ..Post::default() });
    let work = async move { api.respond(&url, &post, ResponseMode::New).await };
    call_in_background(state, "ephemeral message", work);
}

/// Returns a text as an escaped sentence.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    escape(&format!("{first}{}.", letters.as_str()))
}
