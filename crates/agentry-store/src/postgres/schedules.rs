//! [`ScheduleStore`] on PostgreSQL: a slot is decided once, by whichever process is first.

mod fire;

use std::collections::HashMap;

use agentry_core::schedule::ScheduleRecord;
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use super::failure::Failure;
use super::pool::{Conn, Db, Tries, Tx};
use super::rows::{Params, execute, only, row, rows};
use super::{PostgresStore, text};
use crate::port::merge;
use crate::sql::columns::{Columns, all_to_json};
use crate::sql::decode;
use crate::sql::encode::EncodedFiring;
use crate::sql::limits::{signed, sql_limit};
use crate::{Firing, FiringResult, Page, ScheduleChanges, ScheduleStore, SlotRecord, StoreError};

const COLUMNS: &str = "name, agent, from_file, spec, paused, last_slot, missed, skipped, created_at";

/// Returns the revision of a change that is about to be made. Further changes wait until this one is committed.
async fn next_revision(tx: &Tx<'_>) -> Result<i64, Failure> {
    let sql = "UPDATE schedule_revision SET revision = revision + 1 RETURNING revision";
    only(tx, sql, &[], |row| row.number(0)).await
}

async fn put(db: &Db, mut records: Vec<ScheduleRecord>) -> Result<Vec<ScheduleRecord>, Failure> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let revision = next_revision(&tx).await?;
    let names: Vec<_> = records.iter().map(|record| text::escape(&record.name)).collect();
    // Nobody else creates or deletes schedules now; slots are decided, which changes counters and `last_slot`.
    let sql = format!("SELECT {COLUMNS} FROM schedules WHERE name = ANY($1) ORDER BY name FOR UPDATE");
    let old = rows(&tx, &sql, &[&names], decode::schedule).await?;
    drop(names);
    let mut kept: HashMap<String, ScheduleRecord> = old.into_iter().map(|old| (old.name.clone(), old)).collect();
    for new in &mut records {
        if let Some(old) = kept.get(&new.name) {
            *new = merge(old, new.clone());
        }
        kept.insert(new.name.clone(), new.clone());
    }
    // One row for each name: the last of several.
    let last: HashMap<&str, &ScheduleRecord> = records.iter().map(|record| (record.name.as_str(), record)).collect();
    write(&tx, &last.into_values().collect::<Vec<_>>(), revision).await?;
    tx.commit().await?;
    Ok(records)
}

/// Writes records of different names, new or existing.
async fn write(tx: &Tx<'_>, records: &[&ScheduleRecord], revision: i64) -> Result<(), Failure> {
    let column = |of: fn(&ScheduleRecord) -> i64| records.iter().map(|record| of(record)).collect::<Vec<i64>>();
    let names: Vec<_> = records.iter().map(|record| text::escape(&record.name)).collect();
    let agents: Vec<&str> = records.iter().map(|record| record.agent.as_str()).collect();
    let specs = all_to_json(records.iter().map(|record| &record.spec))?;
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
    let params: Params<'_> =
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
    let kept = row(&tx, &sql, &[&text::escape(name), &paused, &now.0, &revision], decode::schedule).await?;
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
    // A try whose answer was lost may have deleted them.
    Ok(if tries.maybe_done { deleted.max(names.len() as u64) } else { deleted })
}

/// Reads changes first and the total then: a change between them makes the total differ, or has a later revision.
async fn since(conn: &Conn, revision: u64) -> Result<ScheduleChanges, Failure> {
    let sql = format!("SELECT {COLUMNS} FROM schedules WHERE revision > $1");
    let changed = rows(conn, &sql, &[&signed(revision)], decode::schedule).await?;
    let total = only(conn, "SELECT count(*) FROM schedules", &[], |row| row.count(0)).await?;
    Ok(ScheduleChanges { changed, total })
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
        let sql = format!("SELECT {COLUMNS} FROM schedules WHERE name = $1");
        self.db.row(&sql, &[&text::escape(name)], decode::schedule).await
    }

    async fn schedules(&self, after: Option<&str>, limit: usize) -> Result<Page<ScheduleRecord>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM schedules WHERE name > $1 ORDER BY name LIMIT $2");
        // No name is empty, and every name is greater.
        self.db.page(&sql, &[&text::escape(after.unwrap_or_default())], limit, decode::schedule).await
    }

    async fn schedule_revision(&self) -> Result<u64, StoreError> {
        self.db.only("SELECT revision FROM schedule_revision", &[], |row| row.count(0)).await
    }

    async fn schedules_since(&self, revision: u64) -> Result<ScheduleChanges, StoreError> {
        self.db.retrying(|_| async move { since(&self.db.conn().await?, revision).await }).await
    }

    async fn fire(&self, firings: Vec<Firing>, now: Timestamp) -> Result<Vec<FiringResult>, StoreError> {
        let firings = &EncodedFiring::all(firings, |text| text::escape(text).into_owned())?;
        self.db.retrying(|tries| fire::fire(&self.db, firings, now, tries)).await
    }

    async fn slots(&self, name: &str, limit: usize) -> Result<Vec<SlotRecord>, StoreError> {
        let sql = "SELECT slot, state, task, decided_at FROM slots WHERE schedule = $1 ORDER BY slot DESC LIMIT $2";
        self.db.rows(sql, &[&text::escape(name), &sql_limit(limit)], decode::slot).await
    }

    async fn slots_at(&self, name: &str, slots: &[Timestamp]) -> Result<Vec<SlotRecord>, StoreError> {
        let sql = "SELECT slot, state, task, decided_at FROM slots WHERE schedule = $1 AND slot = ANY($2)";
        let slots: Vec<i64> = slots.iter().map(|slot| slot.0).collect();
        self.db.rows(sql, &[&text::escape(name), &slots], decode::slot).await
    }
}
