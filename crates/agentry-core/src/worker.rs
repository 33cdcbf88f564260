//! Workers: processes with roles, and their heartbeats.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::agent::{AgentName, ModeSet};
use crate::id::WorkerId;
use crate::time::Timestamp;
use crate::words::words;

/// Interval between heartbeats of a worker.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// Missed heartbeats after which a worker counts as dead (DESIGN: "a paused one within 3 heartbeats").
pub const MISSED_HEARTBEATS: u32 = 3;

words! {
    /// A function of a process.
    #[derive(PartialOrd, Ord)]
    pub enum Role: "role" {
        /// The HTTP API and the dashboard.
        Api = "api",
        /// Slack's webhooks and answers.
        Slack = "slack",
        /// Fires schedules.
        Scheduler = "scheduler",
        /// Executes tasks.
        Worker = "worker",
    }
}

/// The record of a process that claims work: a worker, or a scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// Unique id; new with every start of a process.
    pub id: WorkerId,
    /// Host and process id.
    pub host: String,
    /// Roles; empty in records of versions that did not report them.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// Modes that the process executes; none if it is not a worker.
    pub modes: ModeSet,
    /// Maximum number of concurrent tasks.
    pub slots: u32,
    /// Number of executing tasks.
    pub busy: u32,
    /// Time of the start of the process.
    pub started_at: Timestamp,
    /// Time of the last heartbeat. As sent it is the worker's own clock; as read from a store its distance from the
    /// reader's `now` is the age by the store's clock.
    pub heartbeat_at: Timestamp,
    /// Agent files that differ from the deployment's versions, by agent; at most a hundred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileReport>,
}

/// An agent file of a process that differs from the deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReport {
    /// The agent.
    pub agent: AgentName,
    /// Version of the file; `None` if there is no file or no good version.
    pub version: Option<Box<str>>,
    /// Reason why the file cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl WorkerRecord {
    /// Returns whether the worker is shown as alive at `now`: its last heartbeat is recent. The store alone decides
    /// which workers are dead, so that their tasks are recovered.
    #[must_use]
    pub fn is_alive(&self, now: Timestamp) -> bool {
        now.since(self.heartbeat_at) < HEARTBEAT * MISSED_HEARTBEATS
    }
}
