//! A message, as the simulator keeps it and as Slack shows it.

use serde::Serialize;
use serde_json::{Value, json};

use super::options::Team;

/// The app that the simulator has installed.
pub(super) const APP_ID: &str = "A0SIM";

/// Who wrote a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum By {
    /// A person.
    User,
    /// The app's bot.
    Bot,
}

/// A message.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Message {
    /// Its id within the channel: seconds and microseconds.
    pub(super) ts: String,
    /// The workspace.
    pub(super) team: String,
    /// The channel.
    pub(super) channel: String,
    /// The first message of its thread.
    pub(super) thread_ts: Option<String>,
    /// Who wrote it.
    pub(super) user: String,
    /// The same as a kind.
    pub(super) by: By,
    /// Its text.
    pub(super) text: String,
    /// Its blocks.
    pub(super) blocks: Option<Value>,
    /// `event_type` and `event_payload`.
    pub(super) metadata: Option<Value>,
    /// The only one who sees it.
    pub(super) ephemeral_to: Option<String>,
    /// The method that made it.
    pub(super) via: &'static str,
    /// How often it was changed.
    pub(super) edits: u32,
    /// When it was posted, in microseconds since the Unix epoch.
    pub(super) posted_us: u64,
    /// When it was last changed.
    pub(super) updated_us: u64,
}

impl Message {
    /// As the Web API and callbacks show it.
    pub(super) fn shown(&self, team: &Team, with_metadata: bool) -> Value {
        let mut shown = json!({
            "type": "message",
            "ts": self.ts,
            "user": self.user,
            "text": self.text,
            "team": self.team,
        });
        if self.by == By::Bot {
            shown["bot_id"] = json!(team.bot_id());
            shown["app_id"] = json!(APP_ID);
            shown["bot_profile"] = json!({"id": team.bot_id(), "app_id": APP_ID, "name": "agentry", "deleted": false,
                "team_id": self.team});
        }
        if let Some(thread) = &self.thread_ts {
            shown["thread_ts"] = json!(thread);
        }
        if let Some(blocks) = &self.blocks {
            shown["blocks"] = blocks.clone();
        }
        if let (true, Some(metadata)) = (with_metadata, &self.metadata) {
            shown["metadata"] = metadata.clone();
        }
        if self.edits > 0 {
            let ts = format!("{}.000000", self.updated_us / 1_000_000);
            shown["edited"] = json!({"user": self.user, "ts": ts});
        }
        shown
    }
}
