//! The fleet of the deployment on SQLite: offers are decided in the order of the one writer.

use agentry_core::agent::AgentName;
use agentry_core::time::Timestamp;
use rusqlite::Connection;

use super::agents;
use super::db::Db;
use super::failure::Failure;
use super::rows::{collect, first, signed, to_json};
use crate::{FleetChanges, FleetRow, Replaces, StoreError, VersionOffer};

/// An offer with its version as it is kept; serialised by the caller, not by the writer.
pub(super) struct Offered {
    offer: VersionOffer,
    body: String,
}

impl Offered {
    /// Writes the bodies of offers.
    pub(super) fn all(offers: Vec<VersionOffer>) -> Result<Vec<Self>, StoreError> {
        let body = |offer: VersionOffer| Ok(Self { body: to_json(&*offer.spec)?, offer });
        offers.into_iter().map(body).collect::<Result<_, Failure>>().map_err(|failure| failure.to_store_error())
    }
}

/// The revision of the fleet.
pub(super) fn revision(conn: &Connection) -> Result<u64, Failure> {
    let sql = "SELECT coalesce(max(revision), 0) FROM fleet";
    Ok(conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// The agents that changed after a revision.
pub(super) fn since(conn: &Connection, after: u64) -> Result<FleetChanges, Failure> {
    let sql = "SELECT agent, version, removed, revision FROM fleet WHERE revision > ?1 ORDER BY agent";
    let found = collect(&mut *conn.prepare_cached(sql)?, [signed(after)], |row| {
        let (version, removed) = (row.get::<_, Box<str>>(1)?, row.get(2)?);
        Ok((FleetRow { agent: agents::name_at(row, 0)?, version, removed }, row.get::<_, u64>(3)?))
    })?;
    let revision = found.iter().map(|(_, revision)| *revision).max().unwrap_or(after);
    Ok(FleetChanges { revision, rows: found.into_iter().map(|(row, _)| row).collect() })
}

/// Keeps versions, and makes those current that may be.
pub(super) fn offer(db: &Db, offers: &[Offered], now: Timestamp) -> Result<u64, Failure> {
    let before = revision(&db.conn)?;
    let next = before + 1;
    let mut changed = false;
    for Offered { offer, body } in offers {
        let (agent, version) = (offer.spec.name.as_str(), &*offer.spec.version);
        let sql = "INSERT OR IGNORE INTO versions (agent, version, spec) VALUES (?1, ?2, ?3)";
        let is_new = db.sql(sql)?.execute((agent, version, body))? > 0;
        let mut statement = db.sql("SELECT version, removed FROM fleet WHERE agent = ?1")?;
        let current = first(&mut statement, [agent], |row| Ok((row.get::<_, Box<str>>(0)?, row.get::<_, bool>(1)?)))?;
        drop(statement);
        let is_current = |(current, removed): &(Box<str>, bool)| **current == *version && !removed;
        if current.as_ref().is_some_and(is_current) || !takes(offer, current.as_ref(), is_new) {
            continue;
        }
        changed = true;
        db.sql(
            "INSERT OR REPLACE INTO fleet (agent, version, revision, removed, changed_at) VALUES (?1, ?2, ?3, 0, ?4)",
        )?
        .execute((agent, version, signed(next), now.0))?;
    }
    Ok(if changed { next } else { before })
}

/// Whether a version takes the place of the current one.
fn takes(offer: &VersionOffer, current: Option<&(Box<str>, bool)>, is_new: bool) -> bool {
    match (&offer.replaces, current) {
        (_, None) | (Replaces::Any, _) => true,
        (Replaces::Nothing, _) => is_new,
        (Replaces::Version(replaced), Some((current, _))) => is_new || replaced == current,
    }
}

/// Removes agents; those that were there.
pub(super) fn remove(db: &Db, agents: &[AgentName], now: Timestamp) -> Result<Vec<AgentName>, Failure> {
    let next = revision(&db.conn)? + 1;
    let mut removed = Vec::new();
    for agent in agents {
        let sql = "UPDATE fleet SET removed = 1, revision = ?2, changed_at = ?3 WHERE agent = ?1 AND removed = 0";
        if db.sql(sql)?.execute((agent.as_str(), signed(next), now.0))? > 0 {
            removed.push(agent.clone());
        }
    }
    Ok(removed)
}
