//! [`FleetStore`] on SQLite: workers, versions and how agents are doing.

use agentry_core::agent::{AgentName, AgentSpec};
use agentry_core::id::WorkerId;
use agentry_core::time::Timestamp;
use agentry_core::worker::WorkerRecord;
use async_trait::async_trait;
use rusqlite::Row;

use super::db::Db;
use super::deployment::{self, Offered};
use super::failure::Failure;
use super::rows::{collect, first, json_at, to_json};
use super::{SqliteStore, agents, recover};
use crate::liveness::Heartbeats;
use crate::{AgentStatus, FleetChanges, FleetStore, StoreError, VersionOffer};

fn put_status(db: &Db, statuses: &[AgentStatus]) -> Result<(), Failure> {
    let mut statement = db.sql(
        "INSERT OR REPLACE INTO agent_status (agent, state, version, restarts, reason, since)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for status in statuses {
        statement.execute((
            status.agent.as_str(),
            status.state.as_str(),
            &status.version,
            status.restarts,
            &status.reason,
            status.since.0,
        ))?;
    }
    Ok(())
}

fn agent_status(row: &Row<'_>) -> Result<AgentStatus, Failure> {
    Ok(AgentStatus {
        agent: agents::name_at(row, 0)?,
        state: serde_json::from_value(row.get::<_, String>(1)?.into())?,
        version: row.get::<_, Option<Box<str>>>(2)?,
        restarts: row.get(3)?,
        reason: row.get(4)?,
        since: Timestamp(row.get(5)?),
    })
}

#[async_trait]
impl FleetStore for SqliteStore {
    async fn heartbeat(&self, worker: &WorkerRecord) -> Result<(), StoreError> {
        let record = to_json(worker).map_err(|failure| failure.to_store_error())?;
        let (id, at) = (worker.id, worker.heartbeat_at);
        self.write_soon(1, move |db| {
            db.sql("INSERT OR REPLACE INTO workers (id, heartbeat_at, record) VALUES (?1, ?2, ?3)")?.execute((
                id.as_bytes(),
                at.0,
                &record,
            ))?;
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
        self.read(|conn| {
            collect(&mut *conn.prepare_cached("SELECT record FROM workers ORDER BY id")?, [], |row| json_at(row, 0))
        })
        .await
    }

    async fn keep_version(&self, spec: &AgentSpec) -> Result<(), StoreError> {
        let text = to_json(spec).map_err(|failure| failure.to_store_error())?;
        let (agent, version) = (spec.name.clone(), spec.version.clone());
        self.write(1, move |db| {
            db.sql("INSERT OR IGNORE INTO versions (agent, version, spec) VALUES (?1, ?2, ?3)")?.execute((
                agent.as_str(),
                &*version,
                &text,
            ))?;
            Ok(())
        })
        .await
    }

    async fn version(&self, agent: &AgentName, version: &str) -> Result<Option<AgentSpec>, StoreError> {
        let (agent, version) = (agent.clone(), version.to_owned());
        self.read(move |conn| {
            let mut statement = conn.prepare_cached("SELECT spec FROM versions WHERE agent = ?1 AND version = ?2")?;
            first(&mut statement, (agent.as_str(), version), |row| json_at(row, 0))
        })
        .await
    }

    async fn fleet_revision(&self) -> Result<u64, StoreError> {
        self.read(deployment::revision).await
    }

    async fn fleet_since(&self, revision: u64) -> Result<FleetChanges, StoreError> {
        self.read(move |conn| deployment::since(conn, revision)).await
    }

    async fn offer_versions(&self, offers: Vec<VersionOffer>, now: Timestamp) -> Result<u64, StoreError> {
        let offers = Offered::all(offers)?;
        self.write(2 * offers.len(), move |db| deployment::offer(db, &offers, now)).await
    }

    async fn remove_agents(&self, agents: Vec<AgentName>, now: Timestamp) -> Result<Vec<AgentName>, StoreError> {
        self.write(agents.len(), move |db| deployment::remove(db, &agents, now)).await
    }

    async fn put_agent_status(&self, statuses: Vec<AgentStatus>) -> Result<(), StoreError> {
        self.write(statuses.len(), move |db| put_status(db, &statuses)).await
    }

    async fn forget_agents(&self, agents: Vec<AgentName>) -> Result<(), StoreError> {
        self.write(agents.len(), move |db| {
            let mut statement = db.sql("DELETE FROM agent_status WHERE agent = ?1")?;
            agents.iter().try_for_each(|agent| Ok(statement.execute([agent.as_str()]).map(drop)?))
        })
        .await
    }

    async fn agent_statuses(&self) -> Result<Vec<AgentStatus>, StoreError> {
        self.read(|conn| {
            let sql = "SELECT agent, state, version, restarts, reason, since FROM agent_status ORDER BY agent";
            collect(&mut *conn.prepare_cached(sql)?, [], agent_status)
        })
        .await
    }
}
