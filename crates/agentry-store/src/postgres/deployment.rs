//! The fleet of the deployment on PostgreSQL: every change locks the one row of `fleet_revision`, so that changes have
//! one order across all processes.

use std::collections::{HashMap, HashSet};

use agentry_core::agent::AgentName;
use agentry_core::time::Timestamp;
use tokio_postgres::Row;

use super::failure::Failure;
use super::pool::{Db, Tx};
use super::rows::{execute, row, rows};
use super::text;
use crate::sql::columns::{Columns, to_json};
use crate::sql::decode;
use crate::sql::limits::signed;
use crate::{FleetChanges, VersionOffer};

/// Versions per statement.
const BATCH_ROWS: usize = 1_000;

pub(super) async fn revision(db: &Db) -> Result<u64, Failure> {
    let found = row(&db.conn().await?, "SELECT revision FROM fleet_revision", &[], |row| row.count(0)).await?;
    Ok(found.unwrap_or(0))
}

/// Returns the agents that changed after a revision.
pub(super) async fn since(db: &Db, after: u64) -> Result<FleetChanges, Failure> {
    let sql = "SELECT agent, version, removed, revision FROM fleet WHERE revision > $1 ORDER BY agent";
    let found = rows(&db.conn().await?, sql, &[&signed(after)], decode::fleet_row).await?;
    Ok(decode::fleet_changes(after, found))
}

/// Stores versions and makes those current that may be.
pub(super) async fn offer(db: &Db, offers: &[VersionOffer], now: Timestamp) -> Result<u64, Failure> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let before = lock(&tx).await?;
    let mut taken: Vec<&VersionOffer> = Vec::new();
    for batch in offers.chunks(BATCH_ROWS) {
        let new = keep(&tx, batch).await?;
        let current = current(&tx, batch).await?;
        taken.extend(batch.iter().filter(|offer| {
            let agent = offer.spec.name.as_str();
            let kept = current.get(agent).map(|(version, removed)| (version.as_str(), *removed));
            offer.takes_over(kept, new.contains(agent))
        }));
    }
    if taken.is_empty() {
        tx.commit().await?;
        return Ok(before);
    }
    let next = before + 1;
    let agents: Vec<&str> = taken.iter().map(|offer| offer.spec.name.as_str()).collect();
    let versions: Vec<_> = taken.iter().map(|offer| text::escape(&offer.spec.version)).collect();
    let sql = "INSERT INTO fleet (agent, version, revision, removed, changed_at)
               SELECT agent, version, $3, false, $4 FROM unnest($1::text[], $2::text[]) AS i (agent, version)
               ON CONFLICT (agent) DO UPDATE SET version = excluded.version, revision = excluded.revision,
                   removed = false, changed_at = excluded.changed_at";
    execute(&tx, sql, &[&agents, &versions, &signed(next), &now.0]).await?;
    set(&tx, next).await?;
    tx.commit().await?;
    Ok(next)
}

/// Locks the order of changes until the transaction ends; returns the revision.
async fn lock(tx: &Tx<'_>) -> Result<u64, Failure> {
    let found = row(tx, "SELECT revision FROM fleet_revision FOR UPDATE", &[], |row| row.count(0)).await?;
    Ok(found.unwrap_or(0))
}

async fn set(tx: &Tx<'_>, revision: u64) -> Result<(), Failure> {
    execute(tx, "UPDATE fleet_revision SET revision = $1", &[&signed(revision)]).await.map(drop)
}

/// Stores versions. Returns the agents whose version is new.
async fn keep<'a>(tx: &Tx<'_>, offers: &'a [VersionOffer]) -> Result<HashSet<&'a str>, Failure> {
    let agents: Vec<&str> = offers.iter().map(|offer| offer.spec.name.as_str()).collect();
    let versions: Vec<_> = offers.iter().map(|offer| text::escape(&offer.spec.version)).collect();
    let specs: Vec<String> = offers.iter().map(|offer| to_json(&*offer.spec)).collect::<Result<_, _>>()?;
    let sql = "INSERT INTO versions (agent, version, spec)
               SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
               ON CONFLICT (agent, version) DO NOTHING RETURNING agent";
    let new = rows(tx, sql, &[&agents, &versions, &specs], |row| Ok(row.plain(0)?.to_owned())).await?;
    let new: HashSet<String> = new.into_iter().collect();
    Ok(agents.into_iter().filter(|agent| new.contains(*agent)).collect())
}

/// Returns the current version of these agents, and whether they were removed.
async fn current(tx: &Tx<'_>, offers: &[VersionOffer]) -> Result<HashMap<String, (String, bool)>, Failure> {
    let agents: Vec<&str> = offers.iter().map(|offer| offer.spec.name.as_str()).collect();
    let sql = "SELECT agent, version, removed FROM fleet WHERE agent = ANY($1)";
    let read = |row: &Row| Ok((row.plain(0)?.to_owned(), (row.text(1)?, row.flag(2)?)));
    Ok(rows(tx, sql, &[&agents], read).await?.into_iter().collect())
}

/// Removes agents; returns those that were in the deployment.
pub(super) async fn remove(db: &Db, agents: &[AgentName], now: Timestamp) -> Result<Vec<AgentName>, Failure> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let next = lock(&tx).await? + 1;
    let names: Vec<&str> = agents.iter().map(AgentName::as_str).collect();
    let sql = "UPDATE fleet SET removed = true, revision = $2, changed_at = $3
               WHERE agent = ANY($1) AND NOT removed RETURNING agent";
    let removed = rows(&tx, sql, &[&names, &signed(next), &now.0], |row| row.agent(0)).await?;
    if !removed.is_empty() {
        set(&tx, next).await?;
    }
    tx.commit().await?;
    Ok(removed)
}
