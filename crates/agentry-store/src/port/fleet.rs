//! Workers, agent versions and how agents are doing.

use std::sync::Arc;

use agentry_core::agent::{AgentName, AgentSpec};
use agentry_core::fleet::AgentState;
use agentry_core::id::WorkerId;
use agentry_core::time::Timestamp;
use agentry_core::worker::WorkerRecord;
use async_trait::async_trait;

use crate::StoreError;

/// How an agent is doing, as the workers see it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AgentStatus {
    /// The agent.
    pub agent: AgentName,
    /// How it is.
    pub state: AgentState,
    /// The version that this is about.
    pub version: Option<Box<str>>,
    /// Restarts since it was last healthy.
    pub restarts: u32,
    /// Why it is not healthy.
    pub reason: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

/// An agent of the deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetRow {
    /// The agent.
    pub agent: AgentName,
    /// The version that the deployment runs, or ran last.
    pub version: Box<str>,
    /// Whether it was removed: it takes no more work.
    pub removed: bool,
}

/// What has changed in the fleet since a revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FleetChanges {
    /// The revision that these changes lead to.
    pub revision: u64,
    /// The agents that changed, by name.
    pub rows: Vec<FleetRow>,
}

/// A version of an agent that a process has.
#[derive(Debug, Clone)]
pub struct VersionOffer {
    /// The version.
    pub spec: Arc<AgentSpec>,
    /// Which version it may take the place of.
    pub replaces: Replaces,
}

/// Which version of an agent an offered one may take the place of. A version that nobody offered before, or of an agent
/// that the deployment does not have, is always taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replaces {
    /// None: an old version stays old.
    Nothing,
    /// This one.
    Version(Box<str>),
    /// Whichever is current.
    Any,
}

impl VersionOffer {
    /// Returns whether it takes the place of the current version, given with whether its agent was removed. `is_new`:
    /// nobody offered it before.
    pub(crate) fn takes_over(&self, current: Option<(&str, bool)>, is_new: bool) -> bool {
        let Some((current, removed)) = current else { return true };
        if *current == *self.spec.version && !removed {
            return false;
        }
        match &self.replaces {
            Replaces::Any => true,
            Replaces::Nothing => is_new,
            Replaces::Version(replaced) => is_new || **replaced == *current,
        }
    }
}

/// Workers, agent versions and states.
#[async_trait]
pub trait FleetStore: Send + Sync + 'static {
    /// Registers a worker, or records its heartbeat. One row for each worker process. A backend that several processes
    /// share stamps the heartbeat with its own clock when it executes it, so that neither the worker's clock nor the time
    /// that the heartbeat waited for the server counts.
    async fn heartbeat(&self, worker: &WorkerRecord) -> Result<(), StoreError>;

    /// A worker leaves in good order; what it still owns may be recovered at once.
    async fn deregister(&self, worker: WorkerId) -> Result<(), StoreError>;

    /// All workers that are registered. `heartbeat_at` of each is as far before `now` as its last heartbeat is old by the
    /// store's clock.
    async fn workers(&self, now: Timestamp) -> Result<Vec<WorkerRecord>, StoreError>;

    /// Keeps a version of an agent, so that work which began on it can end on it. Known versions are left alone.
    async fn keep_version(&self, spec: &AgentSpec) -> Result<(), StoreError>;

    /// A kept version.
    async fn version(&self, agent: &AgentName, version: &str) -> Result<Option<AgentSpec>, StoreError>;

    /// The revision of the deployment's fleet: it grows with every change. 0: nothing was ever offered.
    async fn fleet_revision(&self) -> Result<u64, StoreError>;

    /// The agents of the deployment that changed after a revision; all for 0.
    async fn fleet_since(&self, revision: u64) -> Result<FleetChanges, StoreError>;

    /// Keeps versions, and makes those current that may be (see [`Replaces`]), in one transaction. Offered again, they
    /// change nothing. Returns the revision afterwards.
    async fn offer_versions(&self, offers: Vec<VersionOffer>, now: Timestamp) -> Result<u64, StoreError>;

    /// Removes agents from the deployment; they keep their last version. Returns those that were there.
    async fn remove_agents(&self, agents: Vec<AgentName>, now: Timestamp) -> Result<Vec<AgentName>, StoreError>;

    /// Says how agents are doing; replaces what was said of them before.
    async fn put_agent_status(&self, statuses: Vec<AgentStatus>) -> Result<(), StoreError>;

    /// Forgets agents that are no longer in the fleet.
    async fn forget_agents(&self, agents: Vec<AgentName>) -> Result<(), StoreError>;

    /// How all agents are doing, by name.
    async fn agent_statuses(&self) -> Result<Vec<AgentStatus>, StoreError>;
}
