//! Workers: who executes, in which roles, and whether it lives.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::agent::{AgentName, ModeSet};
use crate::id::WorkerId;
use crate::time::Timestamp;

/// How often a worker sends a heartbeat.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// Heartbeats missed before a worker counts as dead (DESIGN: "a paused one within 3 heartbeats").
pub const MISSED_HEARTBEATS: u32 = 3;

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The HTTP API and the dashboard.
    Api,
    /// Slack's webhooks and answers.
    Slack,
    /// Fires schedules.
    Scheduler,
    /// Executes tasks.
    Worker,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Api, Self::Slack, Self::Scheduler, Self::Worker];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Slack => "slack",
            Self::Scheduler => "scheduler",
            Self::Worker => "worker",
        }
    }
}

/// A process that claims: a worker, or a scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// Its name; new with every start of a process.
    pub id: WorkerId,
    /// Where it runs: host and process id.
    pub host: String,
    /// What it does; empty in records of versions that did not say.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// Which modes it executes; none when it is no worker.
    pub modes: ModeSet,
    /// Tasks it executes at most at once.
    pub slots: u32,
    /// Tasks it executes now.
    pub busy: u32,
    /// When it started.
    pub started_at: Timestamp,
    /// Time of its last heartbeat. As sent it is the worker's own clock; as read from a store its distance from the
    /// reader's `now` is the age by the store's clock.
    pub heartbeat_at: Timestamp,
    /// Where its agent files differ from what the deployment runs, by agent; at most a hundred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileReport>,
}

/// The file of an agent on one process, where it is not what the deployment runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReport {
    /// The agent.
    pub agent: AgentName,
    /// The version that the file has; `None`: there is no file, or it has no good version.
    pub version: Option<Box<str>>,
    /// Why the file cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl WorkerRecord {
    /// Whether it is shown as alive at `now`: its last heartbeat is recent. Who is dead, so that its work is taken over, is
    /// decided by the store alone.
    #[must_use]
    pub fn is_alive(&self, now: Timestamp) -> bool {
        now.since(self.heartbeat_at) < HEARTBEAT * MISSED_HEARTBEATS
    }
}
