//! Sending: signed, with a time limit, and again as Slack does when it is not taken.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use serde::Serialize;
use serde_json::json;

use super::server::App;
use super::sign::{Forge, signed};
use crate::clock::{now_us, since_epoch};

/// The waits before the retries of an event.
const RETRIES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(60), Duration::from_secs(300)];
/// Bytes of an answer that are read.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// A callback of the Events API.
    Event,
    /// A slash command.
    Command,
    /// A click.
    Click,
    /// A submission of a modal.
    Submission,
    /// A challenge.
    Challenge,
}

impl Kind {
    fn path(self) -> &'static str {
        match self {
            Self::Event | Self::Challenge => "/slack/events",
            Self::Command => "/slack/commands",
            Self::Click | Self::Submission => "/slack/interactive",
        }
    }

    fn media(self) -> &'static str {
        match self {
            Self::Event | Self::Challenge => "application/json",
            _ => "application/x-www-form-urlencoded",
        }
    }
}

/// Something to send.
#[derive(Debug, Clone)]
pub(super) struct Parcel {
    /// Its id in the ledger.
    pub(super) id: String,
    /// What.
    pub(super) kind: Kind,
    /// `event_id`, of events.
    pub(super) event_id: Option<String>,
    /// The address of the target.
    pub(super) target: String,
    /// The body.
    pub(super) body: String,
    /// How it is to be wrong.
    pub(super) forge: Option<Forge>,
}

/// One attempt and what came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Attempt {
    /// `X-Slack-Retry-Num`; 0 for the first.
    pub(super) retry: usize,
    /// `X-Slack-Retry-Reason`.
    pub(super) reason: Option<&'static str>,
    /// The HTTP status of the answer.
    pub(super) status: Option<u16>,
    /// Why there was none.
    pub(super) error: Option<String>,
    /// When it left, in microseconds since the Unix epoch.
    pub(super) t_us: u64,
    /// When it was answered or given up.
    pub(super) end_us: u64,
}

/// How far a delivery is.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Progress {
    /// Its id.
    pub(super) delivery: String,
    /// What is delivered.
    pub(super) kind: Kind,
    /// Of events.
    pub(super) event_id: Option<String>,
    /// Whether it is over.
    pub(super) done: bool,
    /// Whether it was taken.
    pub(super) delivered: bool,
    /// Every attempt.
    pub(super) attempts: Vec<Attempt>,
    /// The status of the last answer.
    pub(super) status: Option<u16>,
    /// Its body.
    pub(super) body: String,
    /// What the control API was told, and what it has made of it.
    #[serde(flatten)]
    pub(super) about: BTreeMap<&'static str, String>,
}

/// What came back.
enum Outcome {
    Answer { status: u16, body: String, no_retry: bool },
    None { reason: &'static str, error: String },
}

/// Sends until it is taken or given up; returns the body of the answer that took it.
pub(super) async fn deliver(app: &App, parcel: &Parcel) -> Option<String> {
    let waits: &[Duration] = if parcel.kind == Kind::Event { &RETRIES } else { &[] };
    let mut reason = None;
    for retry in 0..=waits.len() {
        if let Some(wait) = retry.checked_sub(1).map(|before| waits[before].mul_f64(app.sim.options.time_scale)) {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = app.shutdown.cancelled() => return None,
            }
        }
        let mut attempt = Attempt { retry, reason, t_us: now_us(), ..Attempt::default() };
        let outcome = send(app, parcel, retry, reason).await;
        attempt.end_us = now_us();
        let (taken, last) = match outcome {
            Outcome::Answer { status, body, no_retry } => {
                (attempt.status, reason) = (Some(status), Some("http_error"));
                let taken = (200..300).contains(&status);
                (taken.then_some(body.clone()), Some((body, no_retry)))
            }
            Outcome::None { reason: why, error } => {
                (attempt.error, reason) = (Some(error), Some(why));
                (None, None)
            }
        };
        let no_retry = last.as_ref().is_some_and(|(_, no_retry)| *no_retry);
        let is_last = taken.is_some() || no_retry || retry == waits.len();
        note(app, parcel, attempt, last.map(|(body, _)| body), taken.is_some(), is_last);
        if is_last {
            return taken;
        }
    }
    None
}

async fn send(app: &App, parcel: &Parcel, retry: usize, reason: Option<&'static str>) -> Outcome {
    let url = format!("{}{}", parcel.target.trim_end_matches('/'), parcel.kind.path());
    let (headers, body) = signed(&app.sim.options.signing_secret, since_epoch(), &parcel.body, parcel.forge);
    let mut request = app.sim.http.post(url).header(CONTENT_TYPE, parcel.kind.media()).body(body);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    if let (1.., Some(reason)) = (retry, reason) {
        request = request.header("x-slack-retry-num", retry).header("x-slack-retry-reason", reason);
    }
    let answer = async {
        let mut response = request.send().await?;
        let no_retry = response.headers().get("x-slack-no-retry").is_some_and(|value| value == "1");
        let (status, mut body) = (response.status().as_u16(), Vec::new());
        while let Some(chunk) = response.chunk().await? {
            let room = MAX_ANSWER_BYTES - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
        Ok::<_, reqwest::Error>(Outcome::Answer { status, body: String::from_utf8_lossy(&body).into_owned(), no_retry })
    };
    let timeout = app.sim.options.ack_timeout;
    match tokio::time::timeout(timeout, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Outcome::None { reason: "connection_failed", error: error.to_string() },
        Err(_) => Outcome::None { reason: "http_timeout", error: format!("no answer within {timeout:?}") },
    }
}

/// Into the ledger, and into what is told of the delivery.
fn note(app: &App, parcel: &Parcel, attempt: Attempt, body: Option<String>, taken: bool, is_last: bool) {
    let line = json!({
        "kind": "attempt",
        "what": parcel.kind,
        "delivery": parcel.id,
        "event_id": parcel.event_id,
        "forged": parcel.forge.is_some(),
        "retry": attempt.retry,
        "reason": attempt.reason,
        "status": attempt.status,
        "error": attempt.error,
        "t_us": attempt.t_us,
        "end_us": attempt.end_us,
    });
    app.sim.ledger.write(line, |stats| {
        stats.attempts += 1;
        stats.delivered += u64::from(taken);
        stats.given_up += u64::from(is_last && !taken);
    });
    {
        let mut deliveries = app.sim.deliveries();
        if let Some(progress) = deliveries.get_mut(&parcel.id) {
            progress.status = attempt.status;
            progress.body = body.unwrap_or_default();
            progress.attempts.push(attempt);
            (progress.done, progress.delivered) = (is_last, taken);
        }
    }
    app.sim.changed();
}
