//! [`FleetStore`] on PostgreSQL: versions and agent statuses. Heartbeats are in `liveness`.

use std::collections::BTreeMap;

use agentry_core::agent::{AgentName, AgentSpec};
use agentry_core::id::WorkerId;
use agentry_core::time::Timestamp;
use agentry_core::worker::WorkerRecord;
use async_trait::async_trait;

use super::{PostgresStore, deployment, liveness, text};
use crate::sql::columns::{Columns, to_json};
use crate::sql::decode;
use crate::{AgentStatus, FleetChanges, FleetStore, StoreError, VersionOffer};

#[async_trait]
impl FleetStore for PostgresStore {
    async fn heartbeat(&self, worker: &WorkerRecord) -> Result<(), StoreError> {
        liveness::heartbeat(self, worker).await
    }

    async fn deregister(&self, worker: WorkerId) -> Result<(), StoreError> {
        liveness::deregister(self, worker).await
    }

    async fn workers(&self, now: Timestamp) -> Result<Vec<WorkerRecord>, StoreError> {
        liveness::workers(self, now).await
    }

    async fn store_version(&self, spec: &AgentSpec) -> Result<(), StoreError> {
        let sql = "INSERT INTO versions (agent, version, spec) VALUES ($1, $2, $3)
                   ON CONFLICT (agent, version) DO NOTHING";
        let (agent, version) = (spec.name.as_str(), text::escape(&spec.version));
        self.db.execute(sql, &[&agent, &version, &to_json(spec)?]).await.map(drop)
    }

    async fn version(&self, agent: &AgentName, version: &str) -> Result<Option<AgentSpec>, StoreError> {
        let sql = "SELECT spec FROM versions WHERE agent = $1 AND version = $2";
        self.db.row(sql, &[&agent.as_str(), &text::escape(version)], |row| row.json(0)).await
    }

    async fn fleet_revision(&self) -> Result<u64, StoreError> {
        self.db.retrying(|_| deployment::revision(&self.db)).await
    }

    async fn fleet_since(&self, revision: u64) -> Result<FleetChanges, StoreError> {
        self.db.retrying(|_| deployment::since(&self.db, revision)).await
    }

    async fn offer_versions(&self, offers: Vec<VersionOffer>, now: Timestamp) -> Result<u64, StoreError> {
        self.db.retrying(|_| deployment::offer(&self.db, &offers, now)).await
    }

    async fn remove_agents(&self, agents: Vec<AgentName>, now: Timestamp) -> Result<Vec<AgentName>, StoreError> {
        self.db.retrying(|_| deployment::remove(&self.db, &agents, now)).await
    }

    /// One statement. Names are sorted, so that concurrent processes do not deadlock; of an agent named twice the last
    /// status counts.
    async fn put_agent_status(&self, statuses: Vec<AgentStatus>) -> Result<(), StoreError> {
        if statuses.is_empty() {
            return Ok(());
        }
        let by_name: BTreeMap<&str, &AgentStatus> =
            statuses.iter().map(|status| (status.agent.as_str(), status)).collect();
        let agents: Vec<&str> = by_name.keys().copied().collect();
        let states: Vec<&str> = by_name.values().map(|status| status.state.as_str()).collect();
        let versions: Vec<_> = by_name.values().map(|status| status.version.as_deref().map(text::escape)).collect();
        let restarts: Vec<i64> = by_name.values().map(|status| i64::from(status.restarts)).collect();
        let reasons: Vec<_> = by_name.values().map(|status| status.reason.as_deref().map(text::escape)).collect();
        let since: Vec<i64> = by_name.values().map(|status| status.since.0).collect();
        let sql = "INSERT INTO agent_status (agent, state, version, restarts, reason, since)
                   SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[])
                   ON CONFLICT (agent) DO UPDATE SET state = excluded.state, version = excluded.version,
                       restarts = excluded.restarts, reason = excluded.reason, since = excluded.since";
        self.db.execute(sql, &[&agents, &states, &versions, &restarts, &reasons, &since]).await.map(drop)
    }

    async fn remove_agent_statuses(&self, agents: Vec<AgentName>) -> Result<(), StoreError> {
        let names: Vec<&str> = agents.iter().map(AgentName::as_str).collect();
        let sql = "DELETE FROM agent_status WHERE agent IN (
                       SELECT agent FROM agent_status WHERE agent = ANY($1) ORDER BY agent FOR UPDATE)";
        self.db.execute(sql, &[&names]).await.map(drop)
    }

    async fn agent_statuses(&self) -> Result<Vec<AgentStatus>, StoreError> {
        let sql = "SELECT agent, state, version, restarts, reason, since FROM agent_status ORDER BY agent";
        self.db.rows(sql, &[], decode::agent_status).await
    }
}
