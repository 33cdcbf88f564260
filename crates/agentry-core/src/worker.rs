//! Workers: who executes, and whether it lives.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::agent::ModeSet;
use crate::id::WorkerId;
use crate::time::Timestamp;

/// How often a worker says that it lives.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// Heartbeats missed before a worker counts as dead (DESIGN: "a paused one within 3 heartbeats").
pub const MISSED_HEARTBEATS: u32 = 3;

/// A worker process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// Its name; new with every start of a process.
    pub id: WorkerId,
    /// Where it runs: host and process id.
    pub host: String,
    /// Which modes it executes.
    pub modes: ModeSet,
    /// Tasks it executes at most at once.
    pub slots: u32,
    /// Tasks it executes now.
    pub busy: u32,
    /// When it started.
    pub started_at: Timestamp,
    /// When it last said that it lives.
    pub heartbeat_at: Timestamp,
}

impl WorkerRecord {
    /// Whether it counts as alive at `now`.
    #[must_use]
    pub fn is_alive(&self, now: Timestamp) -> bool {
        now.since(self.heartbeat_at) < HEARTBEAT * MISSED_HEARTBEATS
    }
}
