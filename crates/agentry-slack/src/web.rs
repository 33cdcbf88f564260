//! The client of Slack's Web API.
//!
//! What matters of a failed call is whether it may have been done: only then must somebody look before it is made again.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::time::Timestamp;
use agentry_http::{Clients, with_causes};
use async_trait::async_trait;
use reqwest::{Response, StatusCode, header};
use serde_json::{Value, json};

use crate::{BotTokens, Counters, Marked, Post, Slack, SlackError};

/// Time for one call; Slack itself gives up after about as long.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time to open a dialog: the right to do so ends after 3 s.
const DIALOG_TIMEOUT: Duration = Duration::from_millis(2_500);
/// Idle connections kept: as many channels as are busy side by side.
const MAX_IDLE_CONNECTIONS: usize = 32;
/// The wait when Slack limits the rate without saying for how long.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(5);
/// The longest wait that is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);
/// The largest answer that is read, in bytes: a page of posts with their blocks.
const MAX_ANSWER_BYTES: usize = 8 << 20;
/// Posts of a page; Slack's own advice is at most 200.
const PAGE: u32 = 200;
/// Pages looked through at most for a post.
const MAX_PAGES: usize = 10;
/// The type of our metadata.
const EVENT_TYPE: &str = "agentry_post";
/// How far Slack's clock and ours may be apart, in microseconds.
const SKEW_US: i64 = 120_000_000;

/// Errors that say that Slack is ill, not that the request is wrong.
const ILL: [&str; 5] = ["internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org"];

/// Slack over HTTP.
#[derive(Debug)]
pub struct WebApi {
    clients: Clients,
    base: String,
    tokens: BotTokens,
    counters: Arc<Counters>,
}

impl WebApi {
    /// A client of the API under `base`, such as `https://slack.com/api`.
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
        let client = self.clients.client(&url).map_err(SlackError::Away)?;
        let request = client
            .post(&url)
            .timeout(timeout)
            .bearer_auth(token)
            .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
            .body(body.to_string());
        let response = request.send().await.map_err(|error| of_send(method, &error))?;
        let answer = read(method, response).await?;
        if answer["ok"] == true {
            return Ok(answer);
        }
        let error = answer["error"].as_str().unwrap_or("no reason given");
        Err(match error {
            "ratelimited" | "rate_limited" => SlackError::RateLimited(DEFAULT_RETRY_AFTER),
            error if ILL.contains(&error) => SlackError::Unknown(format!("{method}: Slack answered `{error}`")),
            error => SlackError::Refused(format!("{method}: Slack answered `{error}`{}", advice(error))),
        })
    }

    async fn counted(&self, team: &str, method: &str, body: &Value, timeout: Duration) -> Result<Value, SlackError> {
        let result = self.call(team, method, body, timeout).await;
        self.counters.note(&result, method.starts_with("conversations."));
        result
    }

    async fn respond_once(&self, url: &str, body: &Value) -> Result<(), SlackError> {
        const WHAT: &str = "response_url";
        let client = self.clients.client(url).map_err(SlackError::Away)?;
        let request =
            client.post(url).timeout(TIMEOUT).header(header::CONTENT_TYPE, "application/json").body(body.to_string());
        let response = request.send().await.map_err(|error| of_send(WHAT, &error.without_url()))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        check_status(WHAT, &response)?;
        Err(SlackError::Refused(format!("{WHAT}: Slack answered {status}")))
    }
}

/// What a failed request means: one that found nobody was not done.
fn of_send(method: &str, error: &reqwest::Error) -> SlackError {
    let text = format!("{method}: {}", with_causes(error));
    if error.is_connect() || error.is_builder() { SlackError::Away(text) } else { SlackError::Unknown(text) }
}

/// The statuses that say the same for every method.
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

async fn read(method: &str, mut response: Response) -> Result<Value, SlackError> {
    check_status(method, &response)?;
    let status = response.status();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| of_send(method, &error))? {
        if bytes.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(SlackError::Unknown(format!("{method}: the answer has more than {MAX_ANSWER_BYTES} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| SlackError::Unknown(format!("{method}: the answer ({status}) is not JSON: {error}")))
}

/// The way out of errors that operators meet.
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

/// The marks of a page of posts.
fn marks(answer: &Value) -> impl Iterator<Item = Marked> {
    answer["messages"].as_array().into_iter().flatten().filter_map(|message| {
        let metadata = message.get("metadata").filter(|metadata| metadata["event_type"] == EVENT_TYPE)?;
        let mark = metadata["event_payload"]["mark"].as_str()?.to_owned();
        Some(Marked { mark, ts: message["ts"].as_str()?.to_owned() })
    })
}

/// A moment as Slack writes it: seconds with six digits.
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
        let answer = self.counted(team, "chat.postMessage", &body, TIMEOUT).await?;
        let ts = answer["ts"].as_str().map(str::to_owned);
        ts.ok_or_else(|| SlackError::Unknown("chat.postMessage: the answer has no `ts`".to_owned()))
    }

    async fn update(&self, team: &str, channel: &str, ts: &str, post: &Post) -> Result<(), SlackError> {
        let mut body = body(post);
        body["channel"] = json!(channel);
        body["ts"] = json!(ts);
        // Without blocks those of the post before would stay.
        if post.blocks.is_none() {
            body["blocks"] = json!([]);
        }
        self.counted(team, "chat.update", &body, TIMEOUT).await.map(drop)
    }

    async fn marked(
        &self,
        team: &str,
        channel: &str,
        thread: Option<&str>,
        since: Timestamp,
    ) -> Result<Vec<Marked>, SlackError> {
        let method = if thread.is_some() { "conversations.replies" } else { "conversations.history" };
        let oldest = slack_time(Timestamp(since.0.saturating_sub(SKEW_US)));
        let mut body = json!({"channel": channel, "include_all_metadata": true, "limit": PAGE, "oldest": oldest});
        if let Some(thread) = thread {
            body["ts"] = json!(thread);
        }
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let answer = self.counted(team, method, &body, TIMEOUT).await?;
            found.extend(marks(&answer));
            match answer["response_metadata"]["next_cursor"].as_str() {
                Some(cursor) if !cursor.is_empty() => body["cursor"] = json!(cursor),
                _ => return Ok(found),
            }
        }
        Ok(found)
    }

    async fn respond(&self, url: &str, post: &Post, replace: bool) -> Result<(), SlackError> {
        let mut body = body(post);
        body["response_type"] = json!("ephemeral");
        body["replace_original"] = json!(replace);
        let result = self.respond_once(url, &body).await;
        self.counters.note(&result, false);
        result
    }

    async fn open_dialog(&self, team: &str, trigger: &str, view: &Value) -> Result<(), SlackError> {
        let body = json!({"trigger_id": trigger, "view": view});
        self.counted(team, "views.open", &body, DIALOG_TIMEOUT).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_from_our_metadata_only() {
        let of = |event: &str, mark: &str, ts: &str| json!({"ts": ts, "metadata": {"event_type": event, "event_payload": {"mark": mark}}});
        let page = json!({"messages": [of(EVENT_TYPE, "a", "1.0"), of("theirs", "b", "2.0"), {"ts": "3.0"}]});
        assert_eq!(marks(&page).collect::<Vec<_>>(), [Marked { mark: "a".to_owned(), ts: "1.0".to_owned() }]);
    }

    #[test]
    fn moments_are_written_as_slack_writes_them() {
        assert_eq!(slack_time(Timestamp(1_700_000_000_000_042)), "1700000000.000042");
    }

    #[test]
    fn what_operators_can_mend_says_how() {
        for error in ["not_in_channel", "invalid_auth", "missing_scope"] {
            assert!(!advice(error).is_empty(), "{error}");
        }
    }
}
