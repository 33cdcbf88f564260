//! The client of Slack's Web API.
//!
//! A failed call must tell whether it may have been carried out, because only then must the caller look for its result
//! before a retry.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::time::Timestamp;
use agentry_http::{Clients, read_bounded, with_causes};
use async_trait::async_trait;
use reqwest::{Response, StatusCode, header};
use serde_json::{Value, json};

use crate::{BotTokens, Counters, MarkedPost, Post, ResponseMode, Slack, SlackError};

/// Timeout of a call; Slack itself gives up after about as long.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of opening a dialog: its trigger expires after 3 s.
const DIALOG_TIMEOUT: Duration = Duration::from_millis(2_500);
/// Idle connections: as many as channels are busy at once.
const MAX_IDLE_CONNECTIONS: usize = 32;
/// Delay after a rate limit without `Retry-After`.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(5);
/// Longest `Retry-After` that is accepted.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);
/// Largest response that is read, in bytes: a page of posts with their blocks.
const MAX_ANSWER_BYTES: usize = 8 << 20;
/// Posts per page; Slack recommends at most 200.
const PAGE: u32 = 200;
/// Largest number of pages in a search for a post.
const MAX_PAGES: usize = 10;
/// Event type of our metadata.
const EVENT_TYPE: &str = "agentry_post";
/// Largest difference between Slack's clock and ours, in microseconds.
const SKEW_US: i64 = 120_000_000;

/// Errors of Slack itself, and not of the request.
const SERVER_ERRORS: [&str; 5] =
    ["internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org"];

/// Name of response URLs in errors.
const RESPONSE_URL: &str = "response_url";

/// Slack over HTTP.
#[derive(Debug)]
pub struct WebApi {
    clients: Clients,
    base: String,
    tokens: BotTokens,
    counters: Arc<Counters>,
}

impl WebApi {
    /// Creates a client of the API under `base`, such as `https://slack.com/api`.
    #[must_use]
    pub fn new(base: &str, tokens: BotTokens, counters: Arc<Counters>) -> Self {
        let base = base.trim_end_matches('/').to_owned();
        Self { clients: Clients::new(MAX_IDLE_CONNECTIONS), base, tokens, counters }
    }

    async fn call(&self, team: &str, method: &str, body: &Value, timeout: Duration) -> Result<Value, SlackError> {
        let token = self.tokens.of(team).ok_or_else(|| {
            SlackError::Refused(format!(
                "there is no bot token for workspace {team}: add it to AGENTRY_SLACK_BOT_TOKEN"
            ))
        })?;
        let url = format!("{}/{method}", self.base);
        let client = self.clients.client(&url).map_err(|error| SlackError::Unreachable(error.to_string()))?;
        let request = client
            .post(&url)
            .timeout(timeout)
            .bearer_auth(token)
            .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
            .body(body.to_string());
        let response = request.send().await.map_err(|error| send_error(method, &error))?;
        let answer = read(method, response).await?;
        if answer["ok"] == true {
            return Ok(answer);
        }
        let error = answer["error"].as_str().unwrap_or("no reason given");
        Err(match error {
            "ratelimited" | "rate_limited" => SlackError::RateLimited(DEFAULT_RETRY_AFTER),
            error if SERVER_ERRORS.contains(&error) => {
                SlackError::Unknown(format!("{method}: Slack answered `{error}`"))
            }
            error => SlackError::Refused(format!("{method}: Slack answered `{error}`{}", advice(error))),
        })
    }

    async fn call_and_count(
        &self,
        team: &str,
        method: &str,
        body: &Value,
        timeout: Duration,
    ) -> Result<Value, SlackError> {
        let result = self.call(team, method, body, timeout).await;
        self.counters.record(&result, method);
        result
    }

    async fn respond_once(&self, url: &str, body: &Value) -> Result<(), SlackError> {
        let client = self.clients.client(url).map_err(|error| SlackError::Unreachable(error.to_string()))?;
        let request =
            client.post(url).timeout(TIMEOUT).header(header::CONTENT_TYPE, "application/json").body(body.to_string());
        let response = request.send().await.map_err(|error| send_error(RESPONSE_URL, &error.without_url()))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        check_status(RESPONSE_URL, &response)?;
        Err(SlackError::Refused(format!("{RESPONSE_URL}: Slack answered {status}")))
    }
}

/// Converts a failed request: without a connection nothing was done.
fn send_error(method: &str, error: &reqwest::Error) -> SlackError {
    let text = format!("{method}: {}", with_causes(error));
    if error.is_connect() || error.is_builder() { SlackError::Unreachable(text) } else { SlackError::Unknown(text) }
}

/// Checks the statuses that mean the same for every method.
fn check_status(method: &str, response: &Response) -> Result<(), SlackError> {
    let status = response.status();
    if status == StatusCode::TOO_MANY_REQUESTS {
        let seconds = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let wait = seconds.map_or(DEFAULT_RETRY_AFTER, Duration::from_secs);
        return Err(SlackError::RateLimited(wait.min(MAX_RETRY_AFTER)));
    }
    if status.is_server_error() {
        return Err(SlackError::Unknown(format!("{method}: Slack answered {status}")));
    }
    Ok(())
}

async fn read(method: &str, response: Response) -> Result<Value, SlackError> {
    check_status(method, &response)?;
    let status = response.status();
    let (bytes, has_more) =
        read_bounded(response, MAX_ANSWER_BYTES).await.map_err(|error| send_error(method, &error))?;
    if has_more {
        return Err(SlackError::Unknown(format!("{method}: the answer has more than {MAX_ANSWER_BYTES} bytes")));
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| SlackError::Unknown(format!("{method}: the answer ({status}) is not JSON: {error}")))
}

fn advice(error: &str) -> &'static str {
    match error {
        "not_in_channel" | "channel_not_found" => ": invite the app to the channel",
        "invalid_auth" | "token_revoked" | "account_inactive" | "not_authed" | "token_expired" => {
            ": check the workspace's bot token in AGENTRY_SLACK_BOT_TOKEN"
        }
        "missing_scope" => ": add the scope to the app and install it again (docs/slack.md lists them)",
        _ => "",
    }
}

fn body(post: &Post) -> Value {
    let mut body = json!({"text": post.text, "unfurl_links": false});
    if let Some(blocks) = &post.blocks {
        body["blocks"] = blocks.clone();
    }
    if let Some(mark) = &post.mark {
        body["metadata"] = json!({"event_type": EVENT_TYPE, "event_payload": {"mark": mark}});
    }
    body
}

fn marks(answer: &Value) -> impl Iterator<Item = MarkedPost> {
    answer["messages"].as_array().into_iter().flatten().filter_map(|message| {
        let metadata = message.get("metadata").filter(|metadata| metadata["event_type"] == EVENT_TYPE)?;
        let mark = metadata["event_payload"]["mark"].as_str()?.to_owned();
        Some(MarkedPost { mark, ts: message["ts"].as_str()?.to_owned() })
    })
}

/// Formats a time as Slack does: seconds with six digits.
fn slack_time(at: Timestamp) -> String {
    format!("{}.{:06}", at.0.div_euclid(1_000_000), at.0.rem_euclid(1_000_000))
}

#[async_trait]
impl Slack for WebApi {
    async fn post(&self, team: &str, channel: &str, thread: Option<&str>, post: &Post) -> Result<String, SlackError> {
        let mut body = body(post);
        body["channel"] = json!(channel);
        if let Some(thread) = thread {
            body["thread_ts"] = json!(thread);
        }
        let answer = self.call_and_count(team, "chat.postMessage", &body, TIMEOUT).await?;
        let ts = answer["ts"].as_str().map(str::to_owned);
        ts.ok_or_else(|| SlackError::Unknown("chat.postMessage: the answer has no `ts`".to_owned()))
    }

    async fn update(&self, team: &str, channel: &str, ts: &str, post: &Post) -> Result<(), SlackError> {
        let mut body = body(post);
        body["channel"] = json!(channel);
        body["ts"] = json!(ts);
        // Without this the blocks of the earlier post would stay.
        if post.blocks.is_none() {
            body["blocks"] = json!([]);
        }
        self.call_and_count(team, "chat.update", &body, TIMEOUT).await.map(drop)
    }

    async fn find_marked(
        &self,
        team: &str,
        channel: &str,
        thread: Option<&str>,
        since: Timestamp,
    ) -> Result<Vec<MarkedPost>, SlackError> {
        let method = if thread.is_some() { "conversations.replies" } else { "conversations.history" };
        let oldest = slack_time(Timestamp(since.0.saturating_sub(SKEW_US)));
        let mut body = json!({"channel": channel, "include_all_metadata": true, "limit": PAGE, "oldest": oldest});
        if let Some(thread) = thread {
            body["ts"] = json!(thread);
        }
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let answer = self.call_and_count(team, method, &body, TIMEOUT).await?;
            found.extend(marks(&answer));
            match answer["response_metadata"]["next_cursor"].as_str() {
                Some(cursor) if !cursor.is_empty() => body["cursor"] = json!(cursor),
                _ => return Ok(found),
            }
        }
        Ok(found)
    }

    async fn respond(&self, url: &str, post: &Post, mode: ResponseMode) -> Result<(), SlackError> {
        let mut body = body(post);
        body["response_type"] = json!("ephemeral");
        body["replace_original"] = json!(mode == ResponseMode::ReplaceOriginal);
        let result = self.respond_once(url, &body).await;
        self.counters.record(&result, RESPONSE_URL);
        result
    }

    async fn open_dialog(&self, team: &str, trigger: &str, view: &Value) -> Result<(), SlackError> {
        let body = json!({"trigger_id": trigger, "view": view});
        self.call_and_count(team, "views.open", &body, DIALOG_TIMEOUT).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_from_our_metadata_only() {
        let of = |event: &str, mark: &str, ts: &str| json!({"ts": ts, "metadata": {"event_type": event, "event_payload": {"mark": mark}}});
        let page = json!({"messages": [of(EVENT_TYPE, "a", "1.0"), of("theirs", "b", "2.0"), {"ts": "3.0"}]});
        assert_eq!(marks(&page).collect::<Vec<_>>(), [MarkedPost { mark: "a".to_owned(), ts: "1.0".to_owned() }]);
    }

    #[test]
    fn times_have_slacks_format() {
        assert_eq!(slack_time(Timestamp(1_700_000_000_000_042)), "1700000000.000042");
    }

    #[test]
    fn operator_errors_come_with_advice() {
        for error in ["not_in_channel", "invalid_auth", "missing_scope"] {
            assert!(!advice(error).is_empty(), "{error}");
        }
    }
}
