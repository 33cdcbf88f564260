//! How the Slack simulator behaves, and the workspaces that it plays.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::fault::FaultRule;

/// How long Slack waits for an answer.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(3);

/// A workspace in which the app is installed.
#[derive(Debug, Clone)]
pub struct Team {
    /// `T…`.
    pub id: String,
    /// The token of the app's bot.
    pub bot_token: SecretString,
}

impl Team {
    /// The user that the bot is.
    #[must_use]
    pub fn bot_user(&self) -> String {
        format!("U{}BOT", &self.id[self.id.len().min(1)..])
    }

    /// The bot's own id.
    #[must_use]
    pub fn bot_id(&self) -> String {
        format!("B{}BOT", &self.id[self.id.len().min(1)..])
    }

    /// The name in its address.
    pub(super) fn domain(&self) -> String {
        self.id.to_ascii_lowercase()
    }
}

/// How the simulator behaves.
#[derive(Debug, Clone)]
pub struct SlackOptions {
    /// Where `/slack/events`, `/slack/commands` and `/slack/interactive` are; may be set later.
    pub target: Option<String>,
    /// The workspaces; the first is meant when none is named.
    pub teams: Vec<Team>,
    /// Signs what is sent.
    pub signing_secret: SecretString,
    /// Multiplies the waits between retries and the life of a `response_url`.
    pub time_scale: f64,
    /// How long the target has to answer.
    pub ack_timeout: Duration,
    /// Whether callers are held to Slack's rates.
    pub rate_limits: bool,
    /// Whether a thread exists although nobody said its first message here: somebody else sends the events.
    pub any_thread: bool,
    /// What goes wrong from the beginning.
    pub faults: Vec<FaultRule>,
    /// The file that the ledger is appended to.
    pub ledger: Option<PathBuf>,
}

impl Default for SlackOptions {
    fn default() -> Self {
        let team = Team { id: "T0SIM".into(), bot_token: "xoxb-sim".into() };
        Self {
            target: None,
            teams: vec![team],
            signing_secret: "sim-signing-secret".into(),
            time_scale: 1.0,
            ack_timeout: ACK_TIMEOUT,
            rate_limits: true,
            any_thread: false,
            faults: Vec::new(),
            ledger: None,
        }
    }
}
