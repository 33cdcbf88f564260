//! [`FleetStore`] behind the cache: versions of agents never change.

use std::sync::Arc;

use agentry_core::agent::{AgentName, AgentSpec};
use async_trait::async_trait;

use super::CachedStore;
use super::bounded::Bounded;
use super::stats::{Answer, Kind};
use crate::StoreError;
use crate::layer::FleetLayer;

/// Versions that are kept in this process; at about 4 KiB each they take 4 MiB.
const MAX_VERSIONS: usize = 1_000;

/// Versions of agents that the store has shown to this process.
pub(super) type Versions = Bounded<(AgentName, Box<str>), Arc<AgentSpec>>;

pub(super) fn versions() -> Versions {
    Bounded::new(MAX_VERSIONS)
}

#[async_trait]
impl FleetLayer for CachedStore {
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
}
