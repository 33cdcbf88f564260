//! [`FleetStore`] on PostgreSQL: versions and how agents are doing. Whether workers live is in `liveness`.

use std::collections::BTreeMap;

use agentry_core::agent::{AgentName, AgentSpec};
use agentry_core::id::WorkerId;
use agentry_core::time::Timestamp;
use agentry_core::worker::WorkerRecord;
use async_trait::async_trait;
use tokio_postgres::Row;

use super::failure::Failure;
use super::pool::Conn;
use super::rows::{agent_at, collect, execute, first, json_at, query, time_at, to_json};
use super::{PostgresStore, deployment, liveness, text};
use crate::{AgentStatus, FleetChanges, FleetStore, StoreError, VersionOffer};

/// One statement. Names are sorted, so that processes which say it at the same time do not wait for each other in a
/// circle; of an agent named twice the last status counts.
async fn put_statuses(conn: &Conn, statuses: &[AgentStatus]) -> Result<(), Failure> {
    let by_name: BTreeMap<&str, &AgentStatus> = statuses.iter().map(|status| (status.agent.as_str(), status)).collect();
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
    execute(conn, sql, &[&agents, &states, &versions, &restarts, &reasons, &since]).await.map(drop)
}

fn agent_status(row: &Row) -> Result<AgentStatus, Failure> {
    let restarts: i64 = row.try_get(3)?;
    Ok(AgentStatus {
        agent: agent_at(row, 0)?,
        state: serde_json::from_value(row.try_get::<_, String>(1)?.into())?,
        version: row.try_get::<_, Option<&str>>(2)?.map(|version| text::unescape(version).into()),
        restarts: u32::try_from(restarts)
            .map_err(|_| Failure::Data(format!("{restarts} is not a count of restarts")))?,
        reason: row.try_get::<_, Option<&str>>(4)?.map(|reason| text::unescape(reason).into_owned()),
        since: time_at(row, 5)?,
    })
}

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

    async fn keep_version(&self, spec: &AgentSpec) -> Result<(), StoreError> {
        let body = &to_json(spec).map_err(|failure| failure.to_store_error())?;
        let (agent, version) = (&spec.name.as_str(), &text::escape(&spec.version));
        self.db
            .retrying(|_| async move {
                let sql = "INSERT INTO versions (agent, version, spec) VALUES ($1, $2, $3)
                           ON CONFLICT (agent, version) DO NOTHING";
                execute(&self.db.conn().await?, sql, &[agent, version, body]).await.map(drop)
            })
            .await
    }

    async fn version(&self, agent: &AgentName, version: &str) -> Result<Option<AgentSpec>, StoreError> {
        let (agent, version) = (&agent.as_str(), &text::escape(version));
        self.db
            .retrying(|_| async move {
                let sql = "SELECT spec FROM versions WHERE agent = $1 AND version = $2";
                first(&self.db.conn().await?, sql, &[agent, version]).await?.map(|row| json_at(&row, 0)).transpose()
            })
            .await
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

    async fn put_agent_status(&self, statuses: Vec<AgentStatus>) -> Result<(), StoreError> {
        if statuses.is_empty() {
            return Ok(());
        }
        let statuses = &statuses;
        self.db.retrying(|_| async move { put_statuses(&self.db.conn().await?, statuses).await }).await
    }

    async fn forget_agents(&self, agents: Vec<AgentName>) -> Result<(), StoreError> {
        let names = &agents.iter().map(AgentName::as_str).collect::<Vec<_>>();
        self.db
            .retrying(|_| async move {
                let sql = "DELETE FROM agent_status WHERE agent IN (
                               SELECT agent FROM agent_status WHERE agent = ANY($1) ORDER BY agent FOR UPDATE)";
                execute(&self.db.conn().await?, sql, &[names]).await.map(drop)
            })
            .await
    }

    async fn agent_statuses(&self) -> Result<Vec<AgentStatus>, StoreError> {
        self.db
            .retrying(|_| async move {
                let sql = "SELECT agent, state, version, restarts, reason, since FROM agent_status ORDER BY agent";
                collect(&query(&self.db.conn().await?, sql, &[]).await?, agent_status)
            })
            .await
    }
}
