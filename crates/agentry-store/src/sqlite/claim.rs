//! Claims: a compare-and-set on the status; the loser gets nothing.

use std::sync::Arc;

use agentry_core::agent::ModeSet;
use agentry_core::id::{TaskId, WorkerId};
use agentry_core::task::{Task, TaskStatus};
use agentry_core::time::Timestamp;
use rusqlite::Row;

use super::db::Db;
use super::failure::Failure;
use super::rows::{row, rows, value};
use crate::sql::columns::{Columns, from_json};
use crate::sql::limits::sql_limit;
use crate::{ClaimedTask, Lease};

/// Columns of [`queued`].
const QUEUED: &str = "SELECT seq, id, epoch, attempt, recoveries, used_us, version FROM tasks WHERE status = 0";

/// Claims those of the tasks that are queued, due and outside sessions.
pub(super) fn tasks(
    db: &mut Db,
    worker: WorkerId,
    tasks: &[TaskId],
    now: Timestamp,
) -> Result<Vec<ClaimedTask>, Failure> {
    let mut claimed = Vec::with_capacity(tasks.len());
    let sql = format!("{QUEUED} AND id = ?1 AND session IS NULL AND ready_at <= ?2");
    for id in tasks {
        let found = row(&db.conn, &sql, (id.as_bytes(), now.0), |row| queued(db, row, worker))?;
        if let Some((seq, queued)) = found {
            claimed.push(own(db, seq, queued, now)?);
        }
    }
    Ok(claimed)
}

/// Claims the next tasks of some modes, by priority and age, with their bodies.
pub(super) fn next(
    db: &mut Db,
    worker: WorkerId,
    modes: ModeSet,
    limit: usize,
    due_by: Timestamp,
    now: Timestamp,
) -> Result<Vec<ClaimedTask>, Failure> {
    promote(db, now)?;
    let mut found: Vec<(i64, i64)> = Vec::new();
    for mode in modes.iter() {
        let sql = "SELECT rank, seq FROM tasks WHERE status = 0 AND session IS NULL AND delayed = 0 AND mode = ?1
                       AND ready_at <= ?3
                   ORDER BY rank, seq LIMIT ?2";
        let params = (mode as u8, sql_limit(limit), due_by.min(now).0);
        found.extend(rows(&db.conn, sql, params, |row| Ok((row.number(0)?, row.number(1)?)))?);
    }
    found.sort_unstable();
    found.truncate(limit);
    found
        .into_iter()
        .map(|(_, seq)| {
            let mut claimed = take(db, worker, seq, now)?;
            claimed.task = Some(Arc::new(body(db, seq)?));
            Ok(claimed)
        })
        .collect()
}

/// Moves delayed tasks that are due to the ready lane.
fn promote(db: &Db, now: Timestamp) -> Result<(), Failure> {
    let sql = "UPDATE tasks SET delayed = 0 WHERE status = 0 AND delayed = 1 AND ready_at <= ?1";
    db.execute(sql, [now.0]).map(drop)
}

/// Makes `worker` the owner of a queued task. The caller has checked that it is queued.
pub(super) fn take(db: &mut Db, worker: WorkerId, seq: i64, now: Timestamp) -> Result<ClaimedTask, Failure> {
    let found = row(&db.conn, &format!("{QUEUED} AND seq = ?1"), [seq], |row| queued(db, row, worker))?;
    let (seq, queued) = found.ok_or_else(|| Failure::Data(format!("task row {seq} is not queued")))?;
    own(db, seq, queued, now)
}

/// Returns the claim that a queued row would become.
fn queued(db: &Db, row: &Row<'_>, worker: WorkerId) -> Result<(i64, ClaimedTask), Failure> {
    let epoch = row.count::<u32>(2)? + 1;
    let claimed = ClaimedTask {
        lease: Lease { task: row.id(1)?, epoch, worker },
        task: None,
        version: match row.number(6)? {
            0 => None,
            number => Some(value(&db.conn, "SELECT name FROM names WHERE id = ?1", [number])?),
        },
        attempt: row.count(3)?,
        recoveries: row.count(4)?,
        used_us: row.count(5)?,
        resumes: epoch > 1,
    };
    Ok((row.number(0)?, claimed))
}

/// Writes a claim. A plain update by row number: `RETURNING` would build a table in memory for each.
fn own(db: &mut Db, seq: i64, claimed: ClaimedTask, now: Timestamp) -> Result<ClaimedTask, Failure> {
    let sql = if claimed.resumes {
        "UPDATE tasks SET status = 1, epoch = ?2, owner = ?3, claimed_at = ?4 WHERE seq = ?1"
    } else {
        "UPDATE tasks SET status = 1, epoch = ?2, owner = ?3, claimed_at = ?4, started_at = ?4 WHERE seq = ?1"
    };
    db.execute(sql, (seq, claimed.lease.epoch, claimed.lease.worker.as_bytes(), now.0))?;
    db.count_transition(Some(TaskStatus::Queued), TaskStatus::Running);
    Ok(claimed)
}

pub(super) fn body(db: &Db, seq: i64) -> Result<Task, Failure> {
    let text: String = value(&db.conn, "SELECT body FROM task_bodies WHERE seq = ?1", [seq])?;
    Ok(from_json(&text)?)
}
