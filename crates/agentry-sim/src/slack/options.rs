//! Options of the Slack simulator and its workspaces.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::fault::FaultRule;

/// Time that Slack waits for an acknowledgement.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(3);

/// A workspace in which the app is installed.
#[derive(Debug, Clone)]
pub struct Team {
    /// Id, such as `T0SIM`.
    pub id: String,
    /// Token of the app's bot.
    pub bot_token: SecretString,
}

impl Team {
    /// Returns the user id of the bot.
    #[must_use]
    pub fn bot_user(&self) -> String {
        format!("U{}BOT", &self.id[self.id.len().min(1)..])
    }

    /// Returns the bot id.
    #[must_use]
    pub fn bot_id(&self) -> String {
        format!("B{}BOT", &self.id[self.id.len().min(1)..])
    }

    /// Returns the subdomain of the workspace.
    pub(super) fn domain(&self) -> String {
        self.id.to_ascii_lowercase()
    }
}

/// Options of the Slack simulator.
#[derive(Debug, Clone)]
pub struct SlackOptions {
    /// Base URL of `/slack/events`, `/slack/commands` and `/slack/interactive`; may be set later.
    pub target: Option<String>,
    /// Workspaces; the first is the default.
    pub teams: Vec<Team>,
    /// Secret that deliveries are signed with.
    pub signing_secret: SecretString,
    /// Factor for the delays between retries and the lifetime of a `response_url`.
    pub time_scale: f64,
    /// Time that the target has to acknowledge.
    pub ack_timeout: Duration,
    /// Enforces Slack's rate limits.
    pub rate_limits: bool,
    /// Accepts threads whose first message was not posted here, for events that another program sends.
    pub any_thread: bool,
    /// Faults that are active from the start.
    pub faults: Vec<FaultRule>,
    /// File that the ledger is appended to.
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
