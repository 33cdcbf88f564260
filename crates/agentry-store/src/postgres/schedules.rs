//! [`ScheduleStore`] on PostgreSQL: a slot is decided once, whichever process is first.

mod fire;

use agentry_core::id::TaskId;
use agentry_core::schedule::ScheduleRecord;
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use tokio_postgres::Row;

use super::failure::Failure;
use super::pool::{Db, Tx};
use super::rows::{
    agent_at, collect, execute, first, id_or_none, json_at, query, signed, sql_limit, time_at, to_json, u64_at,
};
use super::{PostgresStore, text};
use crate::{Firing, FiringResult, ScheduleStore, SlotRecord, SlotState, StoreError};

const COLUMNS: &str = "name, agent, from_file, spec, paused, last_slot, missed, skipped, created_at";

/// Rounds of "made by another, removed by another" before giving up: nobody makes and removes a schedule that often.
const MAX_ROUNDS: usize = 8;

fn record(row: &Row) -> Result<ScheduleRecord, Failure> {
    Ok(ScheduleRecord {
        name: text::unescape(row.try_get(0)?).into_owned(),
        agent: agent_at(row, 1)?,
        from_file: row.try_get(2)?,
        spec: json_at(row, 3)?,
        paused: row.try_get(4)?,
        last_slot: row.try_get::<_, Option<i64>>(5)?.map(Timestamp),
        missed: u64_at(row, 6)?,
        skipped: u64_at(row, 7)?,
        created_at: time_at(row, 8)?,
    })
}

/// What the record becomes when one of this name is kept already.
fn merge(old: &ScheduleRecord, mut new: ScheduleRecord) -> ScheduleRecord {
    if new.from_file {
        (new.paused, new.missed, new.skipped) = (old.paused, old.missed, old.skipped);
    }
    if new.spec.timing != old.spec.timing {
        new.last_slot = None;
    } else {
        new.created_at = old.created_at;
        // What was decided stays decided, whatever the caller had read before.
        new.last_slot = if new.from_file { old.last_slot } else { new.last_slot.max(old.last_slot) };
    }
    new
}

/// Writes a record by `sql`, whose parameters are the columns. Returns whether it wrote.
async fn write(tx: &Tx<'_>, sql: &str, record: &ScheduleRecord) -> Result<bool, Failure> {
    let params: super::rows::Params<'_> = &[
        &text::escape(&record.name),
        &record.agent.as_str(),
        &record.from_file,
        &to_json(&record.spec)?,
        &record.paused,
        &record.last_slot.map(|slot| slot.0),
        &signed(record.missed),
        &signed(record.skipped),
        &record.created_at.0,
    ];
    Ok(execute(tx, sql, params).await? > 0)
}

async fn put(db: &Db, new: ScheduleRecord) -> Result<ScheduleRecord, Failure> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let name = text::escape(&new.name);
    let insert = format!(
        "INSERT INTO schedules ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (name) DO NOTHING"
    );
    let lock = format!("SELECT {COLUMNS} FROM schedules WHERE name = $1 FOR UPDATE");
    let update = "UPDATE schedules SET agent = $2, from_file = $3, spec = $4, paused = $5, last_slot = $6, missed = $7,
                      skipped = $8, created_at = $9 WHERE name = $1";
    for _ in 0..MAX_ROUNDS {
        if write(&tx, &insert, &new).await? {
            tx.commit().await?;
            return Ok(new);
        }
        // Made by another, perhaps a moment ago; or removed since.
        let Some(row) = first(&tx, &lock, &[&name]).await? else { continue };
        let merged = merge(&record(&row)?, new);
        write(&tx, update, &merged).await?;
        tx.commit().await?;
        return Ok(merged);
    }
    Err(StoreError::Unavailable(format!("schedule {} comes and goes; try again", new.name)).into())
}

fn state_at(row: &Row, column: usize) -> Result<SlotState, Failure> {
    match row.try_get::<_, i16>(column)? {
        0 => Ok(SlotState::Fired),
        1 => Ok(SlotState::Skipped),
        2 => Ok(SlotState::Missed),
        other => Err(Failure::Data(format!("there is no slot state {other}"))),
    }
}

fn slot(row: &Row) -> Result<SlotRecord, Failure> {
    Ok(SlotRecord {
        slot: time_at(row, 0)?,
        state: state_at(row, 1)?,
        task: id_or_none(row, 2)?.map(TaskId::from_bytes),
        decided_at: time_at(row, 3)?,
    })
}

#[async_trait]
impl ScheduleStore for PostgresStore {
    async fn put_schedule(&self, record: ScheduleRecord) -> Result<ScheduleRecord, StoreError> {
        self.db.retrying(|_| put(&self.db, record.clone())).await
    }

    async fn set_paused(&self, name: &str, paused: bool, now: Timestamp) -> Result<Option<ScheduleRecord>, StoreError> {
        let name = &text::escape(name);
        let sql = &format!(
            "UPDATE schedules SET last_slot = CASE WHEN paused AND NOT $2 THEN greatest($3, last_slot) ELSE last_slot END,
                 paused = $2 WHERE name = $1 RETURNING {COLUMNS}"
        );
        self.db
            .retrying(|_| async move {
                let conn = self.db.conn().await?;
                first(&conn, sql, &[name, &paused, &now.0]).await?.map(|row| record(&row)).transpose()
            })
            .await
    }

    async fn delete_schedule(&self, name: &str) -> Result<bool, StoreError> {
        let name = &text::escape(name);
        self.db
            .retrying(|tries| async move {
                let conn = self.db.conn().await?;
                let deleted = execute(&conn, "DELETE FROM schedules WHERE name = $1", &[name]).await? > 0;
                Ok(deleted || tries.maybe_done)
            })
            .await
    }

    async fn schedules(&self) -> Result<Vec<ScheduleRecord>, StoreError> {
        let sql = &format!("SELECT {COLUMNS} FROM schedules ORDER BY name");
        self.db.retrying(|_| async move { collect(&query(&self.db.conn().await?, sql, &[]).await?, record) }).await
    }

    async fn fire(&self, firings: Vec<Firing>, now: Timestamp) -> Result<Vec<FiringResult>, StoreError> {
        let shots = &fire::Shot::all(firings)?;
        self.db.retrying(|tries| fire::fire(&self.db, shots, now, tries)).await
    }

    async fn slots(&self, name: &str, limit: usize) -> Result<Vec<SlotRecord>, StoreError> {
        let name = &text::escape(name);
        self.db
            .retrying(|_| async move {
                let sql = "SELECT slot, state, task, decided_at FROM slots WHERE schedule = $1
                           ORDER BY slot DESC LIMIT $2";
                collect(&query(&self.db.conn().await?, sql, &[name, &sql_limit(limit)]).await?, slot)
            })
            .await
    }

    async fn slots_at(&self, name: &str, slots: &[Timestamp]) -> Result<Vec<SlotRecord>, StoreError> {
        let (name, slots) = (&text::escape(name), &slots.iter().map(|slot| slot.0).collect::<Vec<i64>>());
        let sql = "SELECT slot, state, task, decided_at FROM slots WHERE schedule = $1 AND slot = ANY($2)";
        self.db
            .retrying(|_| async move { collect(&query(&self.db.conn().await?, sql, &[name, slots]).await?, slot) })
            .await
    }
}
