//! [`FleetStore`] on SQLite: workers, versions and agent statuses.

use agentry_core::agent::{AgentName, AgentSpec};
use agentry_core::id::WorkerId;
use agentry_core::time::Timestamp;
use agentry_core::worker::WorkerRecord;
use async_trait::async_trait;

use super::deployment::{self, EncodedOffer};
use super::{SqliteStore, recover};
use crate::liveness::Heartbeats;
use crate::sql::columns::{Columns, to_json};
use crate::sql::decode::agent_status;
use crate::{AgentStatus, FleetChanges, FleetStore, StoreError, VersionOffer};

#[async_trait]
impl FleetStore for SqliteStore {
    async fn heartbeat(&self, worker: &WorkerRecord) -> Result<(), StoreError> {
        let (id, at, record) = (worker.id, worker.heartbeat_at, to_json(worker)?);
        self.write_relaxed(1, move |db| {
            let sql = "INSERT OR REPLACE INTO workers (id, heartbeat_at, record) VALUES (?1, ?2, ?3)";
            db.execute(sql, (id.as_bytes(), at.0, &record))?;
            let before = db.heartbeats.get(&id).copied();
            db.heartbeats.insert(id, Heartbeats::with(before, at.0));
            Ok(())
        })
        .await
    }

    async fn deregister(&self, worker: WorkerId) -> Result<(), StoreError> {
        self.write(1, move |db| recover::forget(db, worker)).await
    }

    /// The one process that uses the folder has one clock.
    async fn workers(&self, _now: Timestamp) -> Result<Vec<WorkerRecord>, StoreError> {
        self.rows("SELECT record FROM workers ORDER BY id", [], |row| row.json(0)).await
    }

    async fn store_version(&self, spec: &AgentSpec) -> Result<(), StoreError> {
        let params = (spec.name.to_string(), spec.version.clone(), to_json(spec)?);
        let sql = "INSERT OR IGNORE INTO versions (agent, version, spec) VALUES (?1, ?2, ?3)";
        self.execute(sql, params).await.map(drop)
    }

    async fn version(&self, agent: &AgentName, version: &str) -> Result<Option<AgentSpec>, StoreError> {
        let params = (agent.to_string(), version.to_owned());
        self.row("SELECT spec FROM versions WHERE agent = ?1 AND version = ?2", params, |row| row.json(0)).await
    }

    async fn fleet_revision(&self) -> Result<u64, StoreError> {
        self.read(deployment::revision).await
    }

    async fn fleet_since(&self, revision: u64) -> Result<FleetChanges, StoreError> {
        self.read(move |conn| deployment::since(conn, revision)).await
    }

    async fn offer_versions(&self, offers: Vec<VersionOffer>, now: Timestamp) -> Result<u64, StoreError> {
        let offers = EncodedOffer::all(offers)?;
        self.write(2 * offers.len(), move |db| deployment::offer(db, &offers, now)).await
    }

    async fn remove_agents(&self, agents: Vec<AgentName>, now: Timestamp) -> Result<Vec<AgentName>, StoreError> {
        self.write(agents.len(), move |db| deployment::remove(db, &agents, now)).await
    }

    async fn put_agent_status(&self, statuses: Vec<AgentStatus>) -> Result<(), StoreError> {
        self.write(statuses.len(), move |db| {
            let sql = "INSERT OR REPLACE INTO agent_status (agent, state, version, restarts, reason, since)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            for AgentStatus { agent, state, version, restarts, reason, since } in &statuses {
                db.execute(sql, (agent.as_str(), state.as_str(), version, restarts, reason, since.0))?;
            }
            Ok(())
        })
        .await
    }

    async fn remove_agent_statuses(&self, agents: Vec<AgentName>) -> Result<(), StoreError> {
        self.write(agents.len(), move |db| {
            let forget = |agent: &AgentName| db.execute("DELETE FROM agent_status WHERE agent = ?1", [agent.as_str()]);
            agents.iter().try_for_each(|agent| forget(agent).map(drop))
        })
        .await
    }

    async fn agent_statuses(&self) -> Result<Vec<AgentStatus>, StoreError> {
        let sql = "SELECT agent, state, version, restarts, reason, since FROM agent_status ORDER BY agent";
        self.rows(sql, [], |row| agent_status(row)).await
    }
}
