//! Payloads that Slack sends: callbacks of the Events API, slash commands, clicks and submissions.

use serde_json::{Value, json};

use super::api;
use super::message::{APP_ID, Message};
use super::options::Team;
use super::workspaces::View;

/// Token from the time before signatures, which every payload still has.
const VERIFICATION_TOKEN: &str = "sim-verification-token";

/// Wraps an event in a callback of the Events API.
pub(super) fn callback(team: &Team, event: &Value, event_id: &str, event_time: u64) -> Value {
    json!({
        "token": VERIFICATION_TOKEN,
        "team_id": team.id,
        "context_team_id": team.id,
        "context_enterprise_id": null,
        "api_app_id": APP_ID,
        "event": event,
        "type": "event_callback",
        "event_id": event_id,
        "event_time": event_time,
        "authorizations": [{"enterprise_id": null, "team_id": team.id, "user_id": team.bot_user(), "is_bot": true,
            "is_enterprise_install": false}],
        "is_ext_shared_channel": false,
        "event_context": format!("4-{event_id}"),
    })
}

/// Returns the event of a message that a person posted.
pub(super) fn message(message: &Message, is_mention: bool) -> Value {
    let mut event = json!({
        "user": message.user,
        "type": if is_mention { "app_mention" } else { "message" },
        "ts": message.ts,
        "client_msg_id": format!("sim-{}", message.ts),
        "text": message.text,
        "team": message.team,
        "channel": message.channel,
        "event_ts": message.ts,
    });
    if !is_mention {
        event["channel_type"] = json!(match message.channel.chars().next() {
            Some('D') => "im",
            Some('G') => "group",
            _ => "channel",
        });
    }
    if let Some(thread) = &message.thread_ts {
        event["thread_ts"] = json!(thread);
    }
    event
}

pub(super) fn challenge(challenge: &str) -> Value {
    json!({"token": VERIFICATION_TOKEN, "challenge": challenge, "type": "url_verification"})
}

pub(super) struct Origin<'a> {
    pub(super) team: &'a Team,
    pub(super) channel: &'a str,
    pub(super) user: &'a str,
    /// Allows the app to open one view.
    pub(super) trigger_id: &'a str,
    pub(super) response_url: &'a str,
}

impl Origin<'_> {
    fn user_name(&self) -> String {
        self.user.trim_start_matches("U0").to_ascii_lowercase()
    }

    fn interaction(&self, kind: &str) -> Value {
        json!({
            "type": kind,
            "user": {"id": self.user, "username": self.user_name(), "name": self.user_name(), "team_id": self.team.id},
            "api_app_id": APP_ID,
            "token": VERIFICATION_TOKEN,
            "trigger_id": self.trigger_id,
            "team": {"id": self.team.id, "domain": self.team.domain()},
            "enterprise": null,
            "is_enterprise_install": false,
        })
    }
}

pub(super) fn command(origin: &Origin<'_>, command: &str, text: &str) -> String {
    let channel_name = api::channel_name(origin.channel);
    form_urlencoded::Serializer::new(String::new())
        .append_pair("token", VERIFICATION_TOKEN)
        .append_pair("team_id", &origin.team.id)
        .append_pair("team_domain", &origin.team.domain())
        .append_pair("channel_id", origin.channel)
        .append_pair("channel_name", &channel_name)
        .append_pair("user_id", origin.user)
        .append_pair("user_name", &origin.user_name())
        .append_pair("command", command)
        .append_pair("text", text)
        .append_pair("api_app_id", APP_ID)
        .append_pair("is_enterprise_install", "false")
        .append_pair("response_url", origin.response_url)
        .append_pair("trigger_id", origin.trigger_id)
        .finish()
}

pub(super) fn click(origin: &Origin<'_>, message: &Message, action: &Value) -> Value {
    let is_ephemeral = message.ephemeral_to.is_some();
    let mut payload = origin.interaction("block_actions");
    payload["container"] = json!({"type": "message", "message_ts": message.ts, "channel_id": message.channel,
        "is_ephemeral": is_ephemeral});
    if let Some(thread) = &message.thread_ts {
        payload["container"]["thread_ts"] = json!(thread);
    }
    payload["channel"] = json!({"id": origin.channel, "name": api::channel_name(origin.channel)});
    // Slack does not send the content of an ephemeral message.
    if !is_ephemeral {
        payload["message"] = message.to_value(origin.team, true);
    }
    payload["state"] = json!({"values": {}});
    payload["response_url"] = json!(origin.response_url);
    payload["actions"] = json!([action]);
    payload
}

pub(super) fn submission(origin: &Origin<'_>, view: &View, values: &Value) -> Value {
    let mut payload = origin.interaction("view_submission");
    payload["view"] = api::view_to_value(view, origin.team);
    payload["view"]["state"] = json!({"values": values});
    payload["response_urls"] = json!([]);
    payload
}

/// Encodes the payload of an interaction: JSON within a form.
pub(super) fn form(payload: &Value) -> String {
    form_urlencoded::Serializer::new(String::new()).append_pair("payload", &payload.to_string()).finish()
}
