//! Workers, agent versions and agent statuses.

use std::sync::Arc;

use agentry_core::agent::{AgentName, AgentSpec};
use agentry_core::fleet::AgentState;
use agentry_core::id::WorkerId;
use agentry_core::time::Timestamp;
use agentry_core::worker::WorkerRecord;
use async_trait::async_trait;

use crate::StoreError;

/// Status of an agent, as reported by the workers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AgentStatus {
    /// Name of the agent.
    pub agent: AgentName,
    /// Health of the agent.
    pub state: AgentState,
    /// Version that the status is about.
    pub version: Option<Box<str>>,
    /// Number of restarts since it was last healthy.
    pub restarts: u32,
    /// Reason for not being healthy.
    pub reason: Option<String>,
    /// Time of the last change of state.
    pub since: Timestamp,
}

/// An agent of the deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetRow {
    /// Name of the agent.
    pub agent: AgentName,
    /// Version that the deployment runs, or ran last.
    pub version: Box<str>,
    /// True when the agent was removed and takes no more work.
    pub removed: bool,
}

/// Changes of the fleet since a revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FleetChanges {
    /// Revision after these changes.
    pub revision: u64,
    /// Changed agents, by name.
    pub rows: Vec<FleetRow>,
}

/// A version of an agent that a process offers to the deployment.
#[derive(Debug, Clone)]
pub struct VersionOffer {
    /// The version.
    pub spec: Arc<AgentSpec>,
    /// Current versions that it may replace.
    pub replaces: ReplacePolicy,
}

/// Versions that an offered version may replace. A version that was never offered before, or whose agent is not in the
/// deployment, always becomes current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplacePolicy {
    /// None, so that an old version does not become current again.
    Nothing,
    /// This version only.
    Version(Box<str>),
    /// Any version.
    Any,
}

impl VersionOffer {
    /// Returns whether the offered version replaces the current one, which is given as version and removed flag.
    /// `is_new`: it was never offered before.
    pub(crate) fn takes_over(&self, current: Option<(&str, bool)>, is_new: bool) -> bool {
        let Some((current, removed)) = current else { return true };
        if *current == *self.spec.version && !removed {
            return false;
        }
        match &self.replaces {
            ReplacePolicy::Any => true,
            ReplacePolicy::Nothing => is_new,
            ReplacePolicy::Version(replaced) => is_new || **replaced == *current,
        }
    }
}

/// Stores workers, agent versions and agent statuses.
#[async_trait]
pub trait FleetStore: Send + Sync + 'static {
    /// Registers a worker, or records its heartbeat; every worker process has one row. A backend that several processes
    /// share stamps the heartbeat with its own clock on execution, so that neither the worker's clock nor the time that
    /// the heartbeat waited for the server counts.
    async fn heartbeat(&self, worker: &WorkerRecord) -> Result<(), StoreError>;

    /// Deregisters a worker that shuts down; what it still owns may be recovered at once.
    async fn deregister(&self, worker: WorkerId) -> Result<(), StoreError>;

    /// Returns all registered workers. `heartbeat_at` of each is as far before `now` as its last heartbeat is old by
    /// the store's clock.
    async fn workers(&self, now: Timestamp) -> Result<Vec<WorkerRecord>, StoreError>;

    /// Stores a version of an agent, so that work that started on it can finish on it. A known version stays unchanged.
    async fn store_version(&self, spec: &AgentSpec) -> Result<(), StoreError>;

    /// Returns a stored version.
    async fn version(&self, agent: &AgentName, version: &str) -> Result<Option<AgentSpec>, StoreError>;

    /// Returns the revision of the deployment's fleet, which grows with every change; 0 before the first offer.
    async fn fleet_revision(&self) -> Result<u64, StoreError>;

    /// Returns the agents of the deployment that changed after a revision; all for 0.
    async fn fleet_since(&self, revision: u64) -> Result<FleetChanges, StoreError>;

    /// Stores versions and makes those current that may be (see [`ReplacePolicy`]), in one transaction. Offering them
    /// again changes nothing. Returns the resulting revision.
    async fn offer_versions(&self, offers: Vec<VersionOffer>, now: Timestamp) -> Result<u64, StoreError>;

    /// Removes agents from the deployment; they keep their last version. Returns those that were in it.
    async fn remove_agents(&self, agents: Vec<AgentName>, now: Timestamp) -> Result<Vec<AgentName>, StoreError>;

    /// Replaces the statuses of these agents.
    async fn put_agent_status(&self, statuses: Vec<AgentStatus>) -> Result<(), StoreError>;

    /// Deletes the statuses of agents that are no longer in the fleet.
    async fn remove_agent_statuses(&self, agents: Vec<AgentName>) -> Result<(), StoreError>;

    /// Returns the statuses of all agents, by name.
    async fn agent_statuses(&self) -> Result<Vec<AgentStatus>, StoreError>;
}
