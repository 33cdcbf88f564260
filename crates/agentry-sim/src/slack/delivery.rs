//! Deliveries to the app: signed, with a timeout, and retried as Slack does.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use serde::Serialize;
use serde_json::json;

use super::server::App;
use super::sign::{SignatureFault, signed};
use crate::clock::{now_us, since_epoch};

const RETRIES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(60), Duration::from_secs(300)];
const MAX_ANSWER_BYTES: usize = 256 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DeliveryKind {
    Event,
    Command,
    Click,
    Submission,
    Challenge,
}

impl DeliveryKind {
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

#[derive(Debug, Clone)]
pub(super) struct Callback {
    pub(super) id: String,
    pub(super) kind: DeliveryKind,
    pub(super) event_id: Option<String>,
    pub(super) target: String,
    pub(super) body: String,
    /// Fault of the signature.
    pub(super) forge: Option<SignatureFault>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Attempt {
    pub(super) retry: usize,
    pub(super) reason: Option<&'static str>,
    pub(super) status: Option<u16>,
    pub(super) error: Option<String>,
    /// Start, in microseconds since the Unix epoch.
    pub(super) t_us: u64,
    /// End, in microseconds since the Unix epoch.
    pub(super) end_us: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct DeliveryStatus {
    pub(super) delivery: String,
    pub(super) kind: DeliveryKind,
    pub(super) event_id: Option<String>,
    /// The delivery has ended.
    pub(super) done: bool,
    /// The app acknowledged it with 2xx in time.
    pub(super) delivered: bool,
    pub(super) attempts: Vec<Attempt>,
    pub(super) status: Option<u16>,
    pub(super) body: String,
    /// Ids that the control API was given or has created.
    #[serde(flatten)]
    pub(super) about: BTreeMap<&'static str, String>,
}

enum Outcome {
    Answer { status: u16, body: String, no_retry: bool },
    None { reason: &'static str, error: String },
}

/// Delivers until the app acknowledges or all retries are used up. Returns the acknowledging response body.
pub(super) async fn deliver(app: &App, callback: &Callback) -> Option<String> {
    let waits: &[Duration] = if callback.kind == DeliveryKind::Event { &RETRIES } else { &[] };
    let mut reason = None;
    for retry in 0..=waits.len() {
        if let Some(wait) = retry.checked_sub(1).map(|before| waits[before].mul_f64(app.sim.options.time_scale)) {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = app.shutdown.cancelled() => return None,
            }
        }
        let mut attempt = Attempt { retry, reason, t_us: now_us(), ..Attempt::default() };
        let outcome = send(app, callback, retry, reason).await;
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
        record(app, callback, attempt, last.map(|(body, _)| body), taken.is_some(), is_last);
        if is_last {
            return taken;
        }
    }
    None
}

async fn send(app: &App, callback: &Callback, retry: usize, reason: Option<&'static str>) -> Outcome {
    let url = format!("{}{}", callback.target.trim_end_matches('/'), callback.kind.path());
    let (headers, body) = signed(&app.sim.options.signing_secret, since_epoch(), &callback.body, callback.forge);
    let mut request = app.sim.http.post(url).header(CONTENT_TYPE, callback.kind.media()).body(body);
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

/// Records an attempt in the ledger and in the delivery's status.
fn record(app: &App, callback: &Callback, attempt: Attempt, body: Option<String>, taken: bool, is_last: bool) {
    let line = json!({
        "kind": "attempt",
        "what": callback.kind,
        "delivery": callback.id,
        "event_id": callback.event_id,
        "forged": callback.forge.is_some(),
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
        if let Some(progress) = deliveries.get_mut(&callback.id) {
            progress.status = attempt.status;
            progress.body = body.unwrap_or_default();
            progress.attempts.push(attempt);
            (progress.done, progress.delivered) = (is_last, taken);
        }
    }
    app.sim.changed();
}
