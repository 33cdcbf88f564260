//! Recovery: finds dead workers and requeues their tasks. Workers are declared dead here and nowhere else, see
//! [`crate::liveness`]; a dead worker is no longer registered.

use agentry_core::id::WorkerId;
use agentry_core::time::Timestamp;
use agentry_core::wake::Wake;
use agentry_core::worker::WorkerRecord;

use super::db::Db;
use super::failure::Failure;
use super::rows::{exists, rows};
use super::{advance, outbox};
use crate::liveness::{Judge, Liveness};
use crate::sql::columns::Columns;
use crate::sql::limits::sql_limit;

/// Declares workers dead, requeues their tasks and releases the outbox messages they had claimed. Dead workers without
/// tasks are deleted.
pub(super) fn recover(db: &mut Db, judge: WorkerId, now: Timestamp, limit: usize) -> Result<Vec<Wake>, Failure> {
    let mut recovered = Vec::new();
    let records: Vec<WorkerRecord> = rows(&db.conn, "SELECT record FROM workers", [], |row| row.json(0))?;
    let (dead, alive): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| is_dead(db, judge, record.id, now));
    let owners = rows(&db.conn, "SELECT DISTINCT owner FROM tasks WHERE status = 1", [], |row| row.id(0))?;
    for owner in owners {
        if owner == judge || alive.iter().any(|record| record.id == owner) {
            continue;
        }
        let left = limit - recovered.len();
        if left == 0 {
            return Ok(recovered);
        }
        let last_alive = dead.iter().find(|record| record.id == owner).map_or(now, |record| record.heartbeat_at);
        for (seq, task) in owned_by(db, owner, left)? {
            advance::recover_one(db, seq, owner, last_alive, now)?;
            recovered.push(task);
        }
    }
    if recovered.len() < limit {
        for record in dead {
            forget(db, record.id)?;
        }
    }
    outbox::release_dead_claims(db)?;
    Ok(recovered)
}

/// Returns whether a registered worker counts as dead. Those of earlier processes need no judgement.
fn is_dead(db: &Db, judge: WorkerId, worker: WorkerId, now: Timestamp) -> bool {
    let Some(heartbeats) = db.heartbeats.get(&worker) else { return worker != judge };
    let judged = || Judge::new(*db.heartbeats.get(&judge)?, now.0).map(|judge| judge.liveness(heartbeats.last));
    worker != judge && judged() == Some(Liveness::Dead)
}

fn owned_by(db: &Db, owner: WorkerId, limit: usize) -> Result<Vec<(i64, Wake)>, Failure> {
    let sql = "SELECT seq, id, mode, session FROM tasks WHERE status = 1 AND owner = ?1 LIMIT ?2";
    rows(&db.conn, sql, (owner.as_bytes(), sql_limit(limit)), |row| {
        Ok((row.number(0)?, Wake::requeued(row.id(1)?, row.mode(2)?, row.session_or_none(3)?)))
    })
}

/// Returns whether a worker neither deregistered nor was declared dead.
pub(super) fn is_registered(db: &Db, id: WorkerId) -> Result<bool, Failure> {
    Ok(db.heartbeats.contains_key(&id) && exists(&db.conn, "SELECT 1 FROM workers WHERE id = ?1", [id.as_bytes()])?)
}

/// Deletes a worker that deregistered or was declared dead.
pub(super) fn forget(db: &mut Db, id: WorkerId) -> Result<(), Failure> {
    db.execute("DELETE FROM workers WHERE id = ?1", [id.as_bytes()])?;
    db.heartbeats.remove(&id);
    Ok(())
}
