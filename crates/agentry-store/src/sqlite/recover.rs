//! Recovery: what dead workers own is queued again.

use agentry_core::id::{TaskId, WorkerId};
use agentry_core::time::Timestamp;
use agentry_core::worker::WorkerRecord;

use super::db::Db;
use super::failure::Failure;
use super::rows::{collect, json_at, mode, sql_limit};
use super::{advance, agents, outbox};
use crate::Recovered;

/// Queues again what workers own that are not alive at `now`, and frees the outbox messages they had claimed. Workers
/// that are dead and own nothing any more are forgotten.
pub(super) fn recover(db: &mut Db, now: Timestamp, limit: usize) -> Result<Vec<Recovered>, Failure> {
    let mut recovered = Vec::new();
    let owners = collect(&mut *db.sql("SELECT DISTINCT owner FROM tasks WHERE status = 1")?, [], |row| {
        Ok(WorkerId::from_bytes(row.get(0)?))
    })?;
    for owner in owners {
        let record = worker(db, owner)?;
        if record.as_ref().is_some_and(|record| lives(db, record, now)) {
            continue;
        }
        let left = limit - recovered.len();
        if left == 0 {
            return Ok(recovered);
        }
        let last_alive = record.map_or(now, |record| record.heartbeat_at);
        for (seq, task) in owned_by(db, owner, left)? {
            advance::recover_one(db, seq, owner, last_alive, now)?;
            recovered.push(task);
        }
    }
    outbox::free_of_the_dead(db, now)?;
    if recovered.len() < limit {
        forget_dead(db, now)?;
    }
    Ok(recovered)
}

fn owned_by(db: &Db, owner: WorkerId, limit: usize) -> Result<Vec<(i64, Recovered)>, Failure> {
    let mut statement = db.sql(
        "SELECT t.seq, t.id, n.name, t.mode, t.session FROM tasks t JOIN names n ON n.id = t.agent
         WHERE t.status = 1 AND t.owner = ?1 LIMIT ?2",
    )?;
    collect(&mut statement, (owner.as_bytes(), sql_limit(limit)), |row| {
        Ok((
            row.get(0)?,
            Recovered {
                task: TaskId::from_bytes(row.get(1)?),
                agent: agents::name_at(row, 2)?,
                mode: mode(row.get(3)?)?,
                session: agents::session_at(row, 4)?,
            },
        ))
    })
}

/// The record of a worker that is registered.
pub(super) fn worker(db: &Db, id: WorkerId) -> Result<Option<WorkerRecord>, Failure> {
    let mut statement = db.sql("SELECT record FROM workers WHERE id = ?1")?;
    super::rows::first(&mut statement, [id.as_bytes()], |row| json_at(row, 0))
}

/// Whether a worker is registered and alive.
pub(super) fn is_alive(db: &Db, id: WorkerId, now: Timestamp) -> Result<bool, Failure> {
    Ok(worker(db, id)?.is_some_and(|record| lives(db, &record, now)))
}

fn lives(db: &Db, record: &WorkerRecord, now: Timestamp) -> bool {
    !db.gone.contains(&record.id) && record.is_alive(now)
}

fn forget_dead(db: &Db, now: Timestamp) -> Result<(), Failure> {
    let records: Vec<WorkerRecord> = collect(&mut *db.sql("SELECT record FROM workers")?, [], |row| json_at(row, 0))?;
    let dead: Vec<_> = records.iter().filter(|record| !lives(db, record, now)).map(|record| record.id).collect();
    for id in dead {
        db.sql("DELETE FROM workers WHERE id = ?1")?.execute([id.as_bytes()])?;
    }
    Ok(())
}
