//! [`ScheduleStore`] on SQLite: a slot is decided once.

use agentry_core::id::TaskId;
use agentry_core::schedule::ScheduleRecord;
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use rusqlite::{Connection, Row};

use super::accept;
use super::db::Db;
use super::failure::Failure;
use super::rows::{collect, first, json_at, page_len, signed, sql_limit, to_json};
use super::{SqliteStore, advance, agents};
use crate::arrival::Arrival;
use crate::port::merged;
use crate::{Firing, FiringResult, Page, ScheduleChanges, ScheduleStore, SlotRecord, SlotState, StoreError};

const COLUMNS: &str = "name, agent, from_file, spec, paused, last_slot, missed, skipped, created_at";

fn record(row: &Row<'_>) -> Result<ScheduleRecord, Failure> {
    Ok(ScheduleRecord {
        name: row.get(0)?,
        agent: agents::name_at(row, 1)?,
        from_file: row.get(2)?,
        spec: json_at(row, 3)?,
        paused: row.get(4)?,
        last_slot: row.get::<_, Option<i64>>(5)?.map(Timestamp),
        missed: row.get(6)?,
        skipped: row.get(7)?,
        created_at: Timestamp(row.get(8)?),
    })
}

fn one(conn: &Connection, name: &str) -> Result<Option<ScheduleRecord>, Failure> {
    first(&mut *conn.prepare_cached(&format!("SELECT {COLUMNS} FROM schedules WHERE name = ?1"))?, [name], record)
}

fn page(conn: &Connection, after: &str, limit: usize) -> Result<Page<ScheduleRecord>, Failure> {
    let limit = page_len(limit);
    let mut statement =
        conn.prepare_cached(&format!("SELECT {COLUMNS} FROM schedules WHERE name > ?1 ORDER BY name LIMIT ?2"))?;
    let mut items = collect(&mut statement, (after, signed(limit as u64 + 1)), record)?;
    let more = items.len() > limit;
    items.truncate(limit);
    Ok(Page { items, more })
}

fn since(conn: &Connection, revision: u64) -> Result<ScheduleChanges, Failure> {
    let mut statement = conn.prepare_cached(&format!("SELECT {COLUMNS} FROM schedules WHERE revision > ?1"))?;
    let changed = collect(&mut statement, [signed(revision)], record)?;
    let total = conn.prepare_cached("SELECT count(*) FROM schedules")?.query_row([], |row| row.get(0))?;
    Ok(ScheduleChanges { changed, total })
}

/// The revision of a change that is about to be made.
fn next_revision(db: &Db) -> Result<i64, Failure> {
    let mut statement = db.sql("UPDATE schedule_revision SET revision = revision + 1 RETURNING revision")?;
    let revision = first(&mut statement, [], |row| Ok(row.get(0)?))?;
    revision.ok_or_else(|| Failure::Data("the revision of the schedules is gone".to_owned()))
}

fn put_all(db: &Db, records: &[ScheduleRecord]) -> Result<Vec<ScheduleRecord>, Failure> {
    let revision = next_revision(db)?;
    records.iter().map(|record| put(db, record.clone(), revision)).collect()
}

fn put(db: &Db, mut new: ScheduleRecord, revision: i64) -> Result<ScheduleRecord, Failure> {
    if let Some(old) = one(&db.conn, &new.name)? {
        new = merged(&old, new);
    }
    db.sql(&format!(
        "INSERT OR REPLACE INTO schedules ({COLUMNS}, revision) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
    ))?
    .execute((
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
    ))?;
    Ok(new)
}

fn set_paused(db: &Db, name: &str, paused: bool, now: Timestamp) -> Result<Option<ScheduleRecord>, Failure> {
    let revision = next_revision(db)?;
    let mut statement = db.sql(&format!(
        "UPDATE schedules SET last_slot = CASE WHEN paused AND NOT ?2 THEN max(?3, coalesce(last_slot, ?3)) ELSE last_slot END,
             paused = ?2, revision = ?4 WHERE name = ?1 RETURNING {COLUMNS}"
    ))?;
    first(&mut statement, (name, paused, now.0, revision), record)
}

fn delete(db: &Db, names: &[String]) -> Result<u64, Failure> {
    next_revision(db)?;
    let mut statement = db.sql("DELETE FROM schedules WHERE name = ?1")?;
    names.iter().try_fold(0, |sum, name| Ok(sum + statement.execute([name])? as u64))
}

/// A firing with its task's body.
struct Shot {
    schedule: String,
    slot: Timestamp,
    max_open: u32,
    buffer: bool,
    backfill: bool,
    task: Option<Arrival>,
}

impl Shot {
    fn new(firing: Firing) -> Result<Self, StoreError> {
        let Firing { schedule, slot, task, max_open, buffer, backfill } = firing;
        let task = task.map(Arrival::new).transpose()?;
        Ok(Self { schedule, slot, max_open, buffer, backfill, task })
    }
}

fn fire_all(db: &mut Db, shots: &[Shot], now: Timestamp) -> Result<Vec<FiringResult>, Failure> {
    // All or none: a slot whose task finds no room must stay undecided.
    if !accept::has_room(db, shots.iter().filter(|shot| shot.task.is_some()).count()) {
        return Err(accept::full(db).into());
    }
    shots.iter().map(|shot| fire(db, shot, now)).collect()
}

fn fire(db: &mut Db, shot: &Shot, now: Timestamp) -> Result<FiringResult, Failure> {
    let Some(paused) = first(&mut *db.sql("SELECT paused FROM schedules WHERE name = ?1")?, [&shot.schedule], |row| {
        Ok(row.get::<_, bool>(0)?)
    })?
    else {
        return Ok(FiringResult::NotActive);
    };
    if paused && !shot.backfill {
        return Ok(FiringResult::NotActive);
    }
    if let Some(state) = state_of(db, shot)?
        && !(shot.backfill && state == SlotState::Missed)
    {
        return Ok(FiringResult::AlreadyDecided);
    }
    let (state, result, task) = match &shot.task {
        None => (SlotState::Missed, FiringResult::Missed, None),
        Some(_) if too_many_open(db, &shot.schedule, shot.max_open)? => {
            if shot.buffer {
                return Ok(FiringResult::Deferred);
            }
            (SlotState::Skipped, FiringResult::Skipped, None)
        }
        Some(arrival) => {
            let accepted = accept::accept(db, arrival)?;
            let id = match accepted {
                Ok(crate::Accepted::New) => arrival.task.id,
                Ok(crate::Accepted::Duplicate(id)) => id,
                Err(refused) => {
                    return Err(Failure::Data(format!("slot {} of {}: {refused}", shot.slot, shot.schedule)));
                }
            };
            (SlotState::Fired, FiringResult::Fired(id), Some(id))
        }
    };
    let watched = task.is_some() && shot.max_open < u32::MAX;
    db.sql(
        "INSERT OR REPLACE INTO slots (schedule, slot, state, task, open, decided_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute((&shot.schedule, shot.slot.0, state as u8, task.map(|id| *id.as_bytes()), watched, now.0))?;
    if !shot.backfill {
        db.sql(
            "UPDATE schedules SET last_slot = max(?2, coalesce(last_slot, ?2)), missed = missed + ?3,
                 skipped = skipped + ?4 WHERE name = ?1",
        )?
        .execute((&shot.schedule, shot.slot.0, state == SlotState::Missed, state == SlotState::Skipped))?;
    }
    Ok(result)
}

/// What became of a slot before.
fn state_of(db: &Db, shot: &Shot) -> Result<Option<SlotState>, Failure> {
    let mut statement = db.sql("SELECT state FROM slots WHERE schedule = ?1 AND slot = ?2")?;
    first(&mut statement, (&shot.schedule, shot.slot.0), |row| state_at(row, 0))
}

/// Whether more than `max` earlier tasks of a schedule are open. Slots whose task has ended are passed over from then on.
fn too_many_open(db: &Db, schedule: &str, max: u32) -> Result<bool, Failure> {
    if max == u32::MAX {
        return Ok(false);
    }
    let mut statement = db.sql("SELECT slot, task FROM slots WHERE schedule = ?1 AND open = 1 ORDER BY slot")?;
    let slots: Vec<(i64, [u8; 16])> = collect(&mut statement, [schedule], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut open = 0;
    for (slot, task) in slots {
        if advance::find(db, &task)?.is_some_and(|(_, status)| !status.is_terminal()) {
            open += 1;
        } else {
            db.sql("UPDATE slots SET open = 0 WHERE schedule = ?1 AND slot = ?2")?.execute((schedule, slot))?;
        }
    }
    Ok(open > max)
}

fn state_at(row: &Row<'_>, column: usize) -> Result<SlotState, Failure> {
    match row.get::<_, u8>(column)? {
        0 => Ok(SlotState::Fired),
        1 => Ok(SlotState::Skipped),
        2 => Ok(SlotState::Missed),
        other => Err(Failure::Data(format!("there is no slot state {other}"))),
    }
}

fn slot(row: &Row<'_>) -> Result<SlotRecord, Failure> {
    Ok(SlotRecord {
        slot: Timestamp(row.get(0)?),
        state: state_at(row, 1)?,
        task: row.get::<_, Option<[u8; 16]>>(2)?.map(TaskId::from_bytes),
        decided_at: Timestamp(row.get(3)?),
    })
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
        // No name is empty, and every name is greater.
        let after = after.unwrap_or_default().to_owned();
        self.read(move |conn| page(conn, &after, limit)).await
    }

    async fn schedule_revision(&self) -> Result<u64, StoreError> {
        self.read(|conn| {
            Ok(conn.prepare_cached("SELECT revision FROM schedule_revision")?.query_row([], |row| row.get(0))?)
        })
        .await
    }

    async fn schedules_since(&self, revision: u64) -> Result<ScheduleChanges, StoreError> {
        self.read(move |conn| since(conn, revision)).await
    }

    async fn fire(&self, firings: Vec<Firing>, now: Timestamp) -> Result<Vec<FiringResult>, StoreError> {
        let shots = firings.into_iter().map(Shot::new).collect::<Result<Vec<_>, _>>()?;
        self.write(shots.len() * 3, move |db| fire_all(db, &shots, now)).await
    }

    async fn slots(&self, name: &str, limit: usize) -> Result<Vec<SlotRecord>, StoreError> {
        let name = name.to_owned();
        self.read(move |conn| {
            let mut statement = conn.prepare_cached(
                "SELECT slot, state, task, decided_at FROM slots WHERE schedule = ?1 ORDER BY slot DESC LIMIT ?2",
            )?;
            collect(&mut statement, (name, sql_limit(limit)), slot)
        })
        .await
    }

    async fn slots_at(&self, name: &str, slots: &[Timestamp]) -> Result<Vec<SlotRecord>, StoreError> {
        let (name, slots) = (name.to_owned(), slots.to_vec());
        self.read(move |conn| {
            let mut statement = conn
                .prepare_cached("SELECT slot, state, task, decided_at FROM slots WHERE schedule = ?1 AND slot = ?2")?;
            let rows = slots.iter().map(|at| first(&mut statement, (&name, at.0), slot));
            rows.filter_map(Result::transpose).collect()
        })
        .await
    }
}
