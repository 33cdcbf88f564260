//! [`ScheduleStore`] on SQLite: a slot is decided once.

use agentry_core::id::TaskId;
use agentry_core::schedule::ScheduleRecord;
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use rusqlite::Connection;

use super::accept;
use super::db::Db;
use super::failure::Failure;
use super::rows::{row, rows, value};
use super::{SqliteStore, advance};
use crate::port::merge;
use crate::sql::columns::{Columns, to_json};
use crate::sql::decode::{schedule, slot, slot_state};
use crate::sql::encode::EncodedFiring;
use crate::sql::limits::{one_more, signed, sql_limit};
use crate::{
    Acceptance, Firing, FiringResult, Page, ScheduleChanges, ScheduleStore, SlotRecord, SlotState, StoreError,
};

const COLUMNS: &str = "name, agent, from_file, spec, paused, last_slot, missed, skipped, created_at";

fn one(conn: &Connection, name: &str) -> Result<Option<ScheduleRecord>, Failure> {
    row(conn, &format!("SELECT {COLUMNS} FROM schedules WHERE name = ?1"), [name], |row| schedule(row))
}

fn since(conn: &Connection, revision: u64) -> Result<ScheduleChanges, Failure> {
    let sql = format!("SELECT {COLUMNS} FROM schedules WHERE revision > ?1");
    let changed = rows(conn, &sql, [signed(revision)], |row| schedule(row))?;
    Ok(ScheduleChanges { changed, total: value(conn, "SELECT count(*) FROM schedules", [])? })
}

/// Returns the revision of a change that is about to be made.
fn next_revision(db: &Db) -> Result<i64, Failure> {
    value(&db.conn, "UPDATE schedule_revision SET revision = revision + 1 RETURNING revision", [])
}

fn put_all(db: &Db, records: &[ScheduleRecord]) -> Result<Vec<ScheduleRecord>, Failure> {
    let revision = next_revision(db)?;
    records.iter().map(|record| put(db, record.clone(), revision)).collect()
}

fn put(db: &Db, mut new: ScheduleRecord, revision: i64) -> Result<ScheduleRecord, Failure> {
    if let Some(old) = one(&db.conn, &new.name)? {
        new = merge(&old, new);
    }
    db.execute(
        &format!(
            "INSERT OR REPLACE INTO schedules ({COLUMNS}, revision) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
        ),
        (
            &new.name,
            new.agent.as_str(),
            new.from_file,
            to_json(&new.spec)?,
            new.paused,
            new.last_slot.map(|slot| slot.0),
            signed(new.missed),
            signed(new.skipped),
            new.created_at.0,
            revision,
        ),
    )?;
    Ok(new)
}

fn set_paused(db: &Db, name: &str, paused: bool, now: Timestamp) -> Result<Option<ScheduleRecord>, Failure> {
    let sql = format!(
        "UPDATE schedules SET last_slot = CASE WHEN paused AND NOT ?2 THEN max(?3, coalesce(last_slot, ?3)) ELSE last_slot END,
             paused = ?2, revision = ?4 WHERE name = ?1 RETURNING {COLUMNS}"
    );
    row(&db.conn, &sql, (name, paused, now.0, next_revision(db)?), |row| schedule(row))
}

fn delete(db: &Db, names: &[String]) -> Result<u64, Failure> {
    next_revision(db)?;
    let delete = |name| db.execute("DELETE FROM schedules WHERE name = ?1", [name]);
    names.iter().try_fold(0, |sum, name| Ok(sum + delete(name)? as u64))
}

fn fire_all(db: &mut Db, firings: &[EncodedFiring], now: Timestamp) -> Result<Vec<FiringResult>, Failure> {
    // All or none: a slot whose task finds no room must stay undecided.
    if !accept::has_room(db, firings.iter().filter(|firing| firing.task.is_some()).count()) {
        return Err(accept::full(db).into());
    }
    firings.iter().map(|firing| fire(db, firing, now)).collect()
}

fn fire(db: &mut Db, firing: &EncodedFiring, now: Timestamp) -> Result<FiringResult, Failure> {
    let sql = "SELECT paused FROM schedules WHERE name = ?1";
    let Some(paused) = row(&db.conn, sql, [&firing.schedule], |row| row.flag(0))? else {
        return Ok(FiringResult::NotActive);
    };
    if paused && !firing.backfill {
        return Ok(FiringResult::NotActive);
    }
    if let Some(state) = state_of(db, firing)?
        && !(firing.backfill && state == SlotState::Missed)
    {
        return Ok(FiringResult::AlreadyDecided);
    }
    let (state, result, task) = match &firing.task {
        None => (SlotState::Missed, FiringResult::Missed, None),
        Some(_) if too_many_open(db, firing)? => {
            if firing.buffer {
                return Ok(FiringResult::Deferred);
            }
            (SlotState::Skipped, FiringResult::Skipped, None)
        }
        Some(submission) => {
            let id = match firing.fired_before(accept::accept(db, submission)?)? {
                Acceptance::New => submission.task.id,
                Acceptance::Duplicate(id) => id,
            };
            (SlotState::Fired, FiringResult::Fired(id), Some(id))
        }
    };
    let watched = task.is_some() && firing.is_watched();
    db.execute(
        "INSERT OR REPLACE INTO slots (schedule, slot, state, task, open, decided_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        (&firing.schedule, firing.slot.0, state as u8, task.map(|id| *id.as_bytes()), watched, now.0),
    )?;
    if !firing.backfill {
        db.execute(
            "UPDATE schedules SET last_slot = max(?2, coalesce(last_slot, ?2)), missed = missed + ?3,
                 skipped = skipped + ?4 WHERE name = ?1",
            (&firing.schedule, firing.slot.0, state == SlotState::Missed, state == SlotState::Skipped),
        )?;
    }
    Ok(result)
}

/// Returns the earlier decision about a slot.
fn state_of(db: &Db, firing: &EncodedFiring) -> Result<Option<SlotState>, Failure> {
    let sql = "SELECT state FROM slots WHERE schedule = ?1 AND slot = ?2";
    row(&db.conn, sql, (&firing.schedule, firing.slot.0), |row| slot_state(row, 0))
}

/// Returns whether too many earlier tasks of a schedule are open. Slots whose task has ended are skipped from then on.
fn too_many_open(db: &Db, firing: &EncodedFiring) -> Result<bool, Failure> {
    if !firing.is_watched() {
        return Ok(false);
    }
    let sql = "SELECT slot, task FROM slots WHERE schedule = ?1 AND open = 1 ORDER BY slot";
    let slots = rows(&db.conn, sql, [&firing.schedule], |row| Ok((row.number(0)?, row.id::<TaskId>(1)?)))?;
    let mut open = 0;
    for (slot, task) in slots {
        if advance::find(db, task.as_bytes())?.is_some_and(|(_, status)| !status.is_terminal()) {
            open += 1;
        } else {
            db.execute("UPDATE slots SET open = 0 WHERE schedule = ?1 AND slot = ?2", (&firing.schedule, slot))?;
        }
    }
    Ok(open > firing.max_open)
}

#[async_trait]
impl ScheduleStore for SqliteStore {
    async fn put_schedules(&self, records: Vec<ScheduleRecord>) -> Result<Vec<ScheduleRecord>, StoreError> {
        self.write(records.len(), move |db| put_all(db, &records)).await
    }

    async fn set_paused(&self, name: &str, paused: bool, now: Timestamp) -> Result<Option<ScheduleRecord>, StoreError> {
        let name = name.to_owned();
        self.write(1, move |db| set_paused(db, &name, paused, now)).await
    }

    async fn delete_schedules(&self, names: &[String]) -> Result<u64, StoreError> {
        let names = names.to_vec();
        self.write(names.len(), move |db| delete(db, &names)).await
    }

    async fn schedule(&self, name: &str) -> Result<Option<ScheduleRecord>, StoreError> {
        let name = name.to_owned();
        self.read(move |conn| one(conn, &name)).await
    }

    async fn schedules(&self, after: Option<&str>, limit: usize) -> Result<Page<ScheduleRecord>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM schedules WHERE name > ?1 ORDER BY name LIMIT ?2");
        // No name is empty, and every name is greater.
        let params = (after.unwrap_or_default().to_owned(), one_more(limit));
        Ok(Page::cut(self.rows(sql, params, |row| schedule(row)).await?, limit))
    }

    async fn schedule_revision(&self) -> Result<u64, StoreError> {
        self.read(|conn| value(conn, "SELECT revision FROM schedule_revision", [])).await
    }

    async fn schedules_since(&self, revision: u64) -> Result<ScheduleChanges, StoreError> {
        self.read(move |conn| since(conn, revision)).await
    }

    async fn fire(&self, firings: Vec<Firing>, now: Timestamp) -> Result<Vec<FiringResult>, StoreError> {
        let firings = EncodedFiring::all(firings, str::to_owned)?;
        self.write(firings.len() * 3, move |db| fire_all(db, &firings, now)).await
    }

    async fn slots(&self, name: &str, limit: usize) -> Result<Vec<SlotRecord>, StoreError> {
        let sql = "SELECT slot, state, task, decided_at FROM slots WHERE schedule = ?1 ORDER BY slot DESC LIMIT ?2";
        self.rows(sql, (name.to_owned(), sql_limit(limit)), |row| slot(row)).await
    }

    async fn slots_at(&self, name: &str, slots: &[Timestamp]) -> Result<Vec<SlotRecord>, StoreError> {
        let (name, slots) = (name.to_owned(), slots.to_vec());
        self.read(move |conn| {
            let sql = "SELECT slot, state, task, decided_at FROM slots WHERE schedule = ?1 AND slot = ?2";
            let found = slots.iter().map(|at| row(conn, sql, (&name, at.0), |row| slot(row)));
            found.filter_map(Result::transpose).collect()
        })
        .await
    }
}
