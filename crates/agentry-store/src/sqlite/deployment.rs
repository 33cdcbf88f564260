//! The fleet of the deployment on SQLite: offers are decided in the order of the one writer.

use agentry_core::agent::AgentName;
use agentry_core::time::Timestamp;
use rusqlite::Connection;

use super::db::Db;
use super::failure::Failure;
use super::rows::{row, rows, value};
use crate::sql::columns::{Columns, Unreadable, to_json};
use crate::sql::decode::{fleet_changes, fleet_row};
use crate::sql::limits::signed;
use crate::{FleetChanges, VersionOffer};

/// An offer with its encoded version, so that the writer thread need not serialise it.
pub(super) struct EncodedOffer {
    offer: VersionOffer,
    body: String,
}

impl EncodedOffer {
    /// Encodes the versions of offers.
    pub(super) fn all(offers: Vec<VersionOffer>) -> Result<Vec<Self>, Unreadable> {
        offers.into_iter().map(|offer| Ok(Self { body: to_json(&*offer.spec)?, offer })).collect()
    }
}

pub(super) fn revision(conn: &Connection) -> Result<u64, Failure> {
    value(conn, "SELECT coalesce(max(revision), 0) FROM fleet", [])
}

/// Returns the agents that changed after a revision.
pub(super) fn since(conn: &Connection, after: u64) -> Result<FleetChanges, Failure> {
    let sql = "SELECT agent, version, removed, revision FROM fleet WHERE revision > ?1 ORDER BY agent";
    Ok(fleet_changes(after, rows(conn, sql, [signed(after)], |row| fleet_row(row))?))
}

/// Stores versions and makes those current that may be.
pub(super) fn offer(db: &Db, offers: &[EncodedOffer], now: Timestamp) -> Result<u64, Failure> {
    let before = revision(&db.conn)?;
    let next = before + 1;
    let mut changed = false;
    for EncodedOffer { offer, body } in offers {
        let (agent, version) = (offer.spec.name.as_str(), &*offer.spec.version);
        let sql = "INSERT OR IGNORE INTO versions (agent, version, spec) VALUES (?1, ?2, ?3)";
        let is_new = db.execute(sql, (agent, version, body))? > 0;
        let sql = "SELECT version, removed FROM fleet WHERE agent = ?1";
        let current = row(&db.conn, sql, [agent], |row| Ok((row.plain(0)?.to_owned(), row.flag(1)?)))?;
        if !offer.takes_over(current.as_ref().map(|(version, removed)| (version.as_str(), *removed)), is_new) {
            continue;
        }
        changed = true;
        db.execute(
            "INSERT OR REPLACE INTO fleet (agent, version, revision, removed, changed_at) VALUES (?1, ?2, ?3, 0, ?4)",
            (agent, version, signed(next), now.0),
        )?;
    }
    Ok(if changed { next } else { before })
}

/// Removes agents; returns those that were in the deployment.
pub(super) fn remove(db: &Db, agents: &[AgentName], now: Timestamp) -> Result<Vec<AgentName>, Failure> {
    let next = revision(&db.conn)? + 1;
    let mut removed = Vec::new();
    for agent in agents {
        let sql = "UPDATE fleet SET removed = 1, revision = ?2, changed_at = ?3 WHERE agent = ?1 AND removed = 0";
        if db.execute(sql, (agent.as_str(), signed(next), now.0))? > 0 {
            removed.push(agent.clone());
        }
    }
    Ok(removed)
}
