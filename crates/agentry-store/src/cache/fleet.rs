//! [`FleetStore`] behind the cache: versions of agents never change.

use std::sync::Arc;

use agentry_core::agent::{AgentName, AgentSpec};
use agentry_core::id::WorkerId;
use agentry_core::time::Timestamp;
use agentry_core::worker::WorkerRecord;
use async_trait::async_trait;

use super::CachedStore;
use super::bounded::Bounded;
use super::stats::{Answer, Kind};
use crate::{AgentStatus, FleetChanges, FleetStore, StoreError, VersionOffer};

/// Versions that are kept in this process; at about 4 KiB each they take 4 MiB.
const MAX_VERSIONS: usize = 1_000;

/// Versions of agents that the store has shown to this process.
pub(super) type Versions = Bounded<(AgentName, Box<str>), Arc<AgentSpec>>;

pub(super) fn versions() -> Versions {
    Bounded::new(MAX_VERSIONS)
}

#[async_trait]
impl FleetStore for CachedStore {
    async fn heartbeat(&self, worker: &WorkerRecord) -> Result<(), StoreError> {
        self.inner.heartbeat(worker).await
    }

    async fn deregister(&self, worker: WorkerId) -> Result<(), StoreError> {
        self.inner.deregister(worker).await
    }

    async fn workers(&self, now: Timestamp) -> Result<Vec<WorkerRecord>, StoreError> {
        self.inner.workers(now).await
    }

    async fn keep_version(&self, spec: &AgentSpec) -> Result<(), StoreError> {
        self.inner.keep_version(spec).await
    }

    /// From this process, else from Redis, else from the store. That a version is unknown is not remembered.
    async fn version(&self, agent: &AgentName, version: &str) -> Result<Option<AgentSpec>, StoreError> {
        let name = (agent.clone(), Box::from(version));
        if let Some(spec) = self.versions.get(&name, Arc::clone) {
            self.counters.read(Kind::Version, Answer::Hit);
            return Ok(Some(AgentSpec::clone(&spec)));
        }
        let key = self.keys.version(agent, version);
        let fits = |spec: &AgentSpec| spec.name == *agent && *spec.version == *version;
        let mut found = self.lookup(Kind::Version, &key, fits).await;
        if found.is_none() {
            found = self.inner.version(agent, version).await?;
            if let Some(spec) = &found {
                self.fill(key, spec);
            }
        }
        if let Some(spec) = &found {
            self.versions.update(&name, |_| Some(Arc::new(spec.clone())));
        }
        Ok(found)
    }

    async fn fleet_revision(&self) -> Result<u64, StoreError> {
        self.inner.fleet_revision().await
    }

    async fn fleet_since(&self, revision: u64) -> Result<FleetChanges, StoreError> {
        self.inner.fleet_since(revision).await
    }

    async fn offer_versions(&self, offers: Vec<VersionOffer>, now: Timestamp) -> Result<u64, StoreError> {
        self.inner.offer_versions(offers, now).await
    }

    async fn remove_agents(&self, agents: Vec<AgentName>, now: Timestamp) -> Result<Vec<AgentName>, StoreError> {
        self.inner.remove_agents(agents, now).await
    }

    async fn put_agent_status(&self, statuses: Vec<AgentStatus>) -> Result<(), StoreError> {
        self.inner.put_agent_status(statuses).await
    }

    async fn forget_agents(&self, agents: Vec<AgentName>) -> Result<(), StoreError> {
        self.inner.forget_agents(agents).await
    }

    async fn agent_statuses(&self) -> Result<Vec<AgentStatus>, StoreError> {
        self.inner.agent_statuses().await
    }
}
