//! [`ScheduleStore`] on PostgreSQL: a slot is decided once, whichever process is first.

mod fire;

use std::collections::HashMap;

use agentry_core::id::TaskId;
use agentry_core::schedule::ScheduleRecord;
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use tokio_postgres::Row;

use super::failure::Failure;
use super::pool::{Conn, Db, Tries, Tx};
use super::rows::{
    agent_at, collect, execute, first, id_or_none, json_at, page_len, query, signed, sql_limit, time_at, to_json,
    u64_at,
};
use super::{PostgresStore, text};
use crate::port::merged;
use crate::{Firing, FiringResult, Page, ScheduleChanges, ScheduleStore, SlotRecord, SlotState, StoreError};

const COLUMNS: &str = "name, agent, from_file, spec, paused, last_slot, missed, skipped, created_at";

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

/// The revision of a change that is about to be made. Whoever makes another one waits until this one is committed.
async fn next_revision(tx: &Tx<'_>) -> Result<i64, Failure> {
    let row = first(tx, "UPDATE schedule_revision SET revision = revision + 1 RETURNING revision", &[]).await?;
    Ok(row.ok_or_else(|| Failure::Data("the revision of the schedules is gone".to_owned()))?.try_get(0)?)
}

async fn put(db: &Db, mut records: Vec<ScheduleRecord>) -> Result<Vec<ScheduleRecord>, Failure> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let revision = next_revision(&tx).await?;
    let names: Vec<_> = records.iter().map(|record| text::escape(&record.name)).collect();
    // Nobody else makes or removes schedules now; slots are decided, and that moves counters and `last_slot`.
    let sql = format!("SELECT {COLUMNS} FROM schedules WHERE name = ANY($1) ORDER BY name FOR UPDATE");
    let old = collect(&query(&tx, &sql, &[&names]).await?, record)?;
    drop(names);
    let mut kept: HashMap<String, ScheduleRecord> = old.into_iter().map(|old| (old.name.clone(), old)).collect();
    for new in &mut records {
        if let Some(old) = kept.get(&new.name) {
            *new = merged(old, new.clone());
        }
        kept.insert(new.name.clone(), new.clone());
    }
    // One row for each name: the last of several.
    let last: HashMap<&str, &ScheduleRecord> = records.iter().map(|record| (record.name.as_str(), record)).collect();
    write(&tx, &last.into_values().collect::<Vec<_>>(), revision).await?;
    tx.commit().await?;
    Ok(records)
}

/// Writes records of different names, whether they are there or not.
async fn write(tx: &Tx<'_>, records: &[&ScheduleRecord], revision: i64) -> Result<(), Failure> {
    let column = |of: fn(&ScheduleRecord) -> i64| records.iter().map(|record| of(record)).collect::<Vec<i64>>();
    let names: Vec<_> = records.iter().map(|record| text::escape(&record.name)).collect();
    let agents: Vec<&str> = records.iter().map(|record| record.agent.as_str()).collect();
    let specs = records.iter().map(|record| to_json(&record.spec)).collect::<Result<Vec<_>, _>>()?;
    let from_file: Vec<bool> = records.iter().map(|record| record.from_file).collect();
    let paused: Vec<bool> = records.iter().map(|record| record.paused).collect();
    let last: Vec<Option<i64>> = records.iter().map(|record| record.last_slot.map(|slot| slot.0)).collect();
    let (missed, skipped) = (column(|record| signed(record.missed)), column(|record| signed(record.skipped)));
    let created = column(|record| record.created_at.0);
    let sql = format!(
        "INSERT INTO schedules ({COLUMNS}, revision)
         SELECT {COLUMNS}, $10
         FROM UNNEST($1::text[], $2::text[], $3::boolean[], $4::text[], $5::boolean[], $6::bigint[], $7::bigint[],
                     $8::bigint[], $9::bigint[]) AS f ({COLUMNS})
         ON CONFLICT (name) DO UPDATE SET
             agent = excluded.agent, from_file = excluded.from_file, spec = excluded.spec, paused = excluded.paused,
             last_slot = excluded.last_slot, missed = excluded.missed, skipped = excluded.skipped,
             created_at = excluded.created_at, revision = excluded.revision"
    );
    let params: super::rows::Params<'_> =
        &[&names, &agents, &from_file, &specs, &paused, &last, &missed, &skipped, &created, &revision];
    execute(tx, &sql, params).await.map(drop)
}

async fn set_paused(db: &Db, name: &str, paused: bool, now: Timestamp) -> Result<Option<ScheduleRecord>, Failure> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let revision = next_revision(&tx).await?;
    let sql = format!(
        "UPDATE schedules SET last_slot = CASE WHEN paused AND NOT $2 THEN greatest($3, last_slot) ELSE last_slot END,
             paused = $2, revision = $4 WHERE name = $1 RETURNING {COLUMNS}"
    );
    let row = first(&tx, &sql, &[&text::escape(name), &paused, &now.0, &revision]).await?;
    let kept = row.map(|row| record(&row)).transpose()?;
    tx.commit().await?;
    Ok(kept)
}

async fn delete(db: &Db, names: &[String], tries: Tries) -> Result<u64, Failure> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    next_revision(&tx).await?;
    let escaped: Vec<_> = names.iter().map(|name| text::escape(name)).collect();
    let deleted = execute(&tx, "DELETE FROM schedules WHERE name = ANY($1)", &[&escaped]).await?;
    drop(escaped);
    tx.commit().await?;
    // A try whose answer was lost may have removed them.
    Ok(if tries.maybe_done { deleted.max(names.len() as u64) } else { deleted })
}

async fn page(conn: &Conn, after: &str, limit: usize) -> Result<Page<ScheduleRecord>, Failure> {
    let limit = page_len(limit);
    let sql = format!("SELECT {COLUMNS} FROM schedules WHERE name > $1 ORDER BY name LIMIT $2");
    let rows = query(conn, &sql, &[&text::escape(after), &signed(limit as u64 + 1)]).await?;
    let mut items = collect(&rows, record)?;
    let more = items.len() > limit;
    items.truncate(limit);
    Ok(Page { items, more })
}

/// Changes first and then the sum: what comes between them makes the sum differ, or has a later revision.
async fn since(conn: &Conn, revision: u64) -> Result<ScheduleChanges, Failure> {
    let sql = format!("SELECT {COLUMNS} FROM schedules WHERE revision > $1");
    let changed = collect(&query(conn, &sql, &[&signed(revision)]).await?, record)?;
    let total = collect(&query(conn, "SELECT count(*) FROM schedules", &[]).await?, |row| u64_at(row, 0))?;
    Ok(ScheduleChanges { changed, total: total.first().copied().unwrap_or(0) })
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
    async fn put_schedules(&self, records: Vec<ScheduleRecord>) -> Result<Vec<ScheduleRecord>, StoreError> {
        self.db.retrying(|_| put(&self.db, records.clone())).await
    }

    async fn set_paused(&self, name: &str, paused: bool, now: Timestamp) -> Result<Option<ScheduleRecord>, StoreError> {
        self.db.retrying(|_| set_paused(&self.db, name, paused, now)).await
    }

    async fn delete_schedules(&self, names: &[String]) -> Result<u64, StoreError> {
        self.db.retrying(|tries| delete(&self.db, names, tries)).await
    }

    async fn schedule(&self, name: &str) -> Result<Option<ScheduleRecord>, StoreError> {
        let name = &text::escape(name);
        let sql = &format!("SELECT {COLUMNS} FROM schedules WHERE name = $1");
        self.db
            .retrying(|_| async move {
                first(&self.db.conn().await?, sql, &[name]).await?.map(|row| record(&row)).transpose()
            })
            .await
    }

    async fn schedules(&self, after: Option<&str>, limit: usize) -> Result<Page<ScheduleRecord>, StoreError> {
        // No name is empty, and every name is greater.
        let after = after.unwrap_or_default();
        self.db.retrying(|_| async move { page(&self.db.conn().await?, after, limit).await }).await
    }

    async fn schedule_revision(&self) -> Result<u64, StoreError> {
        self.db
            .retrying(|_| async move {
                let row = first(&self.db.conn().await?, "SELECT revision FROM schedule_revision", &[]).await?;
                u64_at(&row.ok_or_else(|| Failure::Data("the revision of the schedules is gone".to_owned()))?, 0)
            })
            .await
    }

    async fn schedules_since(&self, revision: u64) -> Result<ScheduleChanges, StoreError> {
        self.db.retrying(|_| async move { since(&self.db.conn().await?, revision).await }).await
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
