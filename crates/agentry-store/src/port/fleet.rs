//! Workers, agent versions and how agents are doing.

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

/// Workers, agent versions and states.
#[async_trait]
pub trait FleetStore: Send + Sync + 'static {
    /// Registers a worker, or records its heartbeat. One row for each worker process. A backend that several processes
    /// share stamps the heartbeat with its own clock when it executes it, so that neither the worker's clock nor the time
    /// that the heartbeat waited for the server counts.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn heartbeat(&self, worker: &WorkerRecord) -> Result<(), StoreError>;

    /// A worker leaves in good order; what it still owns may be recovered at once.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn deregister(&self, worker: WorkerId) -> Result<(), StoreError>;

    /// All workers that are registered. `heartbeat_at` of each is as far before `now` as its last heartbeat is old by the
    /// store's clock.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn workers(&self, now: Timestamp) -> Result<Vec<WorkerRecord>, StoreError>;

    /// Keeps a version of an agent, so that work which began on it can end on it. Known versions are left alone.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn keep_version(&self, spec: &AgentSpec) -> Result<(), StoreError>;

    /// A kept version.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn version(&self, agent: &AgentName, version: &str) -> Result<Option<AgentSpec>, StoreError>;

    /// Says how agents are doing; replaces what was said of them before.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn put_agent_status(&self, statuses: Vec<AgentStatus>) -> Result<(), StoreError>;

    /// Forgets agents that are no longer in the fleet.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn forget_agents(&self, agents: Vec<AgentName>) -> Result<(), StoreError>;

    /// How all agents are doing, by name.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn agent_statuses(&self) -> Result<Vec<AgentStatus>, StoreError>;
}
