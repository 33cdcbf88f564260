//! [`FleetStore`] behind the cache: agent versions never change.

use std::sync::Arc;

use agentry_core::agent::{AgentName, AgentSpec};
use async_trait::async_trait;

use super::CachedStore;
use super::bounded_map::BoundedMap;
use super::stats::{Answer, ReadKind};
use crate::StoreError;
use crate::layer::FleetLayer;

/// Versions that are kept in this process; at about 4 KiB each they take 4 MiB.
const MAX_VERSIONS: usize = 1_000;

/// Agent versions that this process has read from the store.
pub(super) type Versions = BoundedMap<(AgentName, Box<str>), Arc<AgentSpec>>;

pub(super) fn versions() -> Versions {
    BoundedMap::new(MAX_VERSIONS)
}

#[async_trait]
impl FleetLayer for CachedStore {
    /// Reads from this process, then from Redis, then from the store. An unknown version is not cached.
    async fn version(&self, agent: &AgentName, version: &str) -> Result<Option<AgentSpec>, StoreError> {
        let name = (agent.clone(), Box::from(version));
        if let Some(spec) = self.versions.get(&name, Arc::clone) {
            self.counters.read(ReadKind::Version, Answer::Hit);
            return Ok(Some(AgentSpec::clone(&spec)));
        }
        let key = self.keys.version(agent, version);
        let fits = |spec: &AgentSpec| spec.name == *agent && *spec.version == *version;
        let mut found = self.lookup(ReadKind::Version, &key, fits).await;
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
