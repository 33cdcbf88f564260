//! Messages as the simulator stores them and as Slack shows them.

use serde::Serialize;
use serde_json::{Value, json};

use super::options::Team;

pub(super) const APP_ID: &str = "A0SIM";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Author {
    User,
    Bot,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Message {
    /// Id within the channel: seconds and microseconds.
    pub(super) ts: String,
    pub(super) team: String,
    pub(super) channel: String,
    /// Id of the first message of the thread.
    pub(super) thread_ts: Option<String>,
    pub(super) user: String,
    pub(super) by: Author,
    pub(super) text: String,
    pub(super) blocks: Option<Value>,
    /// `event_type` and `event_payload`.
    pub(super) metadata: Option<Value>,
    pub(super) ephemeral_to: Option<String>,
    pub(super) via: &'static str,
    pub(super) edits: u32,
    /// Time of the post, in microseconds since the Unix epoch.
    pub(super) posted_us: u64,
    /// Time of the last change, in microseconds since the Unix epoch.
    pub(super) updated_us: u64,
}

impl Message {
    pub(super) fn new(team: &str, channel: &str, user: String, by: Author, via: &'static str) -> Self {
        Self {
            ts: String::new(),
            team: team.to_owned(),
            channel: channel.to_owned(),
            thread_ts: None,
            user,
            by,
            text: String::new(),
            blocks: None,
            metadata: None,
            ephemeral_to: None,
            via,
            edits: 0,
            posted_us: 0,
            updated_us: 0,
        }
    }

    /// Returns the message as the Web API and callbacks show it.
    pub(super) fn to_value(&self, team: &Team, with_metadata: bool) -> Value {
        let mut value = json!({
            "type": "message",
            "ts": self.ts,
            "user": self.user,
            "text": self.text,
            "team": self.team,
        });
        if self.by == Author::Bot {
            value["bot_id"] = json!(team.bot_id());
            value["app_id"] = json!(APP_ID);
            value["bot_profile"] = json!({"id": team.bot_id(), "app_id": APP_ID, "name": "agentry", "deleted": false,
                "team_id": self.team});
        }
        if let Some(thread) = &self.thread_ts {
            value["thread_ts"] = json!(thread);
        }
        if let Some(blocks) = &self.blocks {
            value["blocks"] = blocks.clone();
        }
        if let (true, Some(metadata)) = (with_metadata, &self.metadata) {
            value["metadata"] = metadata.clone();
        }
        if self.edits > 0 {
            let ts = format!("{}.000000", self.updated_us / 1_000_000);
            value["edited"] = json!({"user": self.user, "ts": ts});
        }
        value
    }
}
