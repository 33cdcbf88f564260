//! Decisions about slots: one short transaction, however many slots and schedules.
//!
//! Schedules are locked in the order of their names. Under the locks, decided slots and open tasks are read, then every
//! firing is decided in memory, in order, then everything is written at once.

use std::collections::{BTreeMap, HashMap};

use agentry_core::id::TaskId;
use agentry_core::time::Timestamp;

use super::super::accept;
use super::super::failure::Failure;
use super::super::pool::{Db, Tries, Tx};
use super::super::rows::{SqlId, execute, query, rows};
use crate::sql::columns::Columns;
use crate::sql::decode::slot_state;
use crate::sql::encode::{EncodedFiring, EncodedTask};
use crate::{AcceptError, Acceptance, FiringResult, SlotState};

/// A schedule whose row is locked.
struct Schedule {
    paused: bool,
    /// Decided slots of this round, with their state and task.
    decided: HashMap<i64, (SlotState, Option<TaskId>)>,
    /// Open tasks that count for the overlap policy.
    open: u32,
}

/// The row to write for a slot.
struct SlotDecision {
    firing: usize,
    state: SlotState,
}

/// Decides a round of slots.
pub(super) async fn fire(
    db: &Db,
    firings: &[EncodedFiring],
    now: Timestamp,
    tries: Tries,
) -> Result<Vec<FiringResult>, Failure> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    // All or none: a slot whose task finds no room must stay undecided.
    let wanted = firings.iter().filter(|firing| firing.task.is_some()).count();
    if wanted > 0 {
        db.check_room(&tx, wanted).await?;
    }
    let mut schedules = lock(&tx, firings).await?;
    find_decided(&tx, firings, &mut schedules).await?;
    find_open(&tx, firings, &mut schedules).await?;
    let (mut results, decided) = decide(firings, &mut schedules, tries);
    accept_tasks(db, &tx, firings, &decided, &mut results).await?;
    write_slots(&tx, firings, &decided, &results, now).await?;
    count(&tx, firings, &decided).await?;
    tx.commit().await?;
    Ok(results)
}

async fn lock(tx: &Tx<'_>, firings: &[EncodedFiring]) -> Result<HashMap<String, Schedule>, Failure> {
    let names: Vec<&str> = firings.iter().map(|firing| firing.schedule.as_str()).collect();
    let sql = "SELECT name, paused FROM schedules WHERE name = ANY($1) ORDER BY name FOR UPDATE";
    let locked = rows(tx, sql, &[&names], |row| {
        Ok((row.plain(0)?.to_owned(), Schedule { paused: row.flag(1)?, decided: HashMap::new(), open: 0 }))
    })
    .await?;
    Ok(locked.into_iter().collect())
}

async fn find_decided(
    tx: &Tx<'_>,
    firings: &[EncodedFiring],
    schedules: &mut HashMap<String, Schedule>,
) -> Result<(), Failure> {
    let names: Vec<&str> = firings.iter().map(|firing| firing.schedule.as_str()).collect();
    let slots: Vec<i64> = firings.iter().map(|firing| firing.slot.0).collect();
    let sql = "SELECT s.schedule, s.slot, s.state, s.task FROM UNNEST($1::text[], $2::bigint[]) AS f (schedule, slot)
                   JOIN slots s ON s.schedule = f.schedule AND s.slot = f.slot";
    for row in query(tx, sql, &[&names, &slots]).await? {
        if let Some(schedule) = schedules.get_mut(row.plain(0)?) {
            schedule.decided.insert(row.number(1)?, (slot_state(&row, 2)?, row.id_or_none(3)?));
        }
    }
    Ok(())
}

/// Counts the open tasks of schedules with an overlap policy. Slots whose task has ended are skipped from then on.
async fn find_open(
    tx: &Tx<'_>,
    firings: &[EncodedFiring],
    schedules: &mut HashMap<String, Schedule>,
) -> Result<(), Failure> {
    let watched: Vec<&str> = firings
        .iter()
        .filter(|firing| firing.is_watched() && firing.task.is_some() && schedules.contains_key(&firing.schedule))
        .map(|firing| firing.schedule.as_str())
        .collect();
    if watched.is_empty() {
        return Ok(());
    }
    let sql = "SELECT s.schedule, s.slot, o.id IS NOT NULL FROM slots s LEFT JOIN open_tasks o ON o.id = s.task
               WHERE s.schedule = ANY($1) AND s.open";
    let (mut names, mut ended): (Vec<String>, Vec<i64>) = (Vec::new(), Vec::new());
    for row in query(tx, sql, &[&watched]).await? {
        let name = row.plain(0)?;
        if !row.flag(2)? {
            names.push(name.to_owned());
            ended.push(row.number(1)?);
        } else if let Some(schedule) = schedules.get_mut(name) {
            schedule.open += 1;
        }
    }
    if !ended.is_empty() {
        let sql = "UPDATE slots s SET open = false FROM UNNEST($1::text[], $2::bigint[]) AS f (schedule, slot)
                   WHERE s.schedule = f.schedule AND s.slot = f.slot";
        execute(tx, sql, &[&names, &ended]).await?;
    }
    Ok(())
}

fn decide(
    firings: &[EncodedFiring],
    schedules: &mut HashMap<String, Schedule>,
    tries: Tries,
) -> (Vec<FiringResult>, Vec<SlotDecision>) {
    let mut decided = Vec::new();
    let results = firings.iter().enumerate().map(|(number, firing)| {
        let found = schedules.get_mut(&firing.schedule).filter(|schedule| firing.backfill || !schedule.paused);
        let Some(schedule) = found else { return FiringResult::NotActive };
        let own = firing.task.as_ref().map(|submission| submission.task.id);
        if let Some((state, task)) = schedule.decided.get(&firing.slot.0)
            && !(firing.backfill && *state == SlotState::Missed)
        {
            // A try whose answer was lost fired it: the task is this one's.
            return match task {
                Some(task) if tries.maybe_done && own == Some(*task) => FiringResult::Fired(*task),
                _ => FiringResult::AlreadyDecided,
            };
        }
        let (state, result) = match own {
            None => (SlotState::Missed, FiringResult::Missed),
            Some(_) if firing.is_watched() && schedule.open > firing.max_open => {
                if firing.buffer {
                    return FiringResult::Deferred;
                }
                (SlotState::Skipped, FiringResult::Skipped)
            }
            Some(task) => {
                schedule.open += u32::from(firing.is_watched());
                (SlotState::Fired, FiringResult::Fired(task))
            }
        };
        schedule.decided.insert(firing.slot.0, (state, own));
        decided.push(SlotDecision { firing: number, state });
        result
    });
    let results = results.collect();
    (results, decided)
}

/// Accepts the tasks of the slots that fire; a result names the first task of the same key, if there was one.
async fn accept_tasks(
    db: &Db,
    tx: &Tx<'_>,
    firings: &[EncodedFiring],
    decided: &[SlotDecision],
    results: &mut [FiringResult],
) -> Result<(), Failure> {
    let fired: Vec<(usize, &EncodedTask)> = decided
        .iter()
        .filter(|one| one.state == SlotState::Fired)
        .filter_map(|one| Some((one.firing, firings[one.firing].task.as_ref()?)))
        .collect();
    if fired.is_empty() {
        return Ok(());
    }
    let submissions: Vec<&EncodedTask> = fired.iter().map(|(_, submission)| *submission).collect();
    let accepted = accept::accept_all(db, tx, &submissions).await?;
    for ((firing, _), accepted) in fired.into_iter().zip(accepted) {
        if let Err(AcceptError::Store(error)) = accepted {
            return Err(error.into());
        }
        if let Acceptance::Duplicate(first) = firings[firing].fired_before(accepted)? {
            results[firing] = FiringResult::Fired(first);
        }
    }
    Ok(())
}

async fn write_slots(
    tx: &Tx<'_>,
    firings: &[EncodedFiring],
    decided: &[SlotDecision],
    results: &[FiringResult],
    now: Timestamp,
) -> Result<(), Failure> {
    if decided.is_empty() {
        return Ok(());
    }
    let firing = |one: &SlotDecision| &firings[one.firing];
    let task = |one: &SlotDecision| match results[one.firing] {
        FiringResult::Fired(task) => Some(SqlId(*task.as_bytes())),
        _ => None,
    };
    let names: Vec<&str> = decided.iter().map(|one| firing(one).schedule.as_str()).collect();
    let slots: Vec<i64> = decided.iter().map(|one| firing(one).slot.0).collect();
    let states: Vec<i16> = decided.iter().map(|one| one.state as i16).collect();
    let tasks: Vec<Option<SqlId>> = decided.iter().map(task).collect();
    let open: Vec<bool> = decided.iter().map(|one| task(one).is_some() && firing(one).is_watched()).collect();
    let sql = "INSERT INTO slots (schedule, slot, state, task, open, decided_at)
               SELECT schedule, slot, state, task, open, $6
               FROM UNNEST($1::text[], $2::bigint[], $3::smallint[], $4::uuid[], $5::boolean[])
                   AS f (schedule, slot, state, task, open)
               ON CONFLICT (schedule, slot) DO UPDATE
                   SET state = excluded.state, task = excluded.task, open = excluded.open,
                       decided_at = excluded.decided_at
                   WHERE slots.state = $7";
    let missed = SlotState::Missed as i16;
    let written = execute(tx, sql, &[&names, &slots, &states, &tasks, &open, &now.0, &missed]).await?;
    if written != u64::try_from(decided.len()).unwrap_or(u64::MAX) {
        return Err(Failure::Data("a slot was decided by a process that holds no lock on its schedule".to_owned()));
    }
    Ok(())
}

/// Moves `last_slot` and the counters of the schedules.
async fn count(tx: &Tx<'_>, firings: &[EncodedFiring], decided: &[SlotDecision]) -> Result<(), Failure> {
    let mut sums: BTreeMap<&str, (i64, i64, i64)> = BTreeMap::new();
    for one in decided.iter().filter(|one| !firings[one.firing].backfill) {
        let firing = &firings[one.firing];
        let (last, missed, skipped) = sums.entry(&firing.schedule).or_insert((firing.slot.0, 0, 0));
        *last = firing.slot.0.max(*last);
        *missed += i64::from(one.state == SlotState::Missed);
        *skipped += i64::from(one.state == SlotState::Skipped);
    }
    if sums.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = sums.keys().copied().collect();
    let last: Vec<i64> = sums.values().map(|sum| sum.0).collect();
    let missed: Vec<i64> = sums.values().map(|sum| sum.1).collect();
    let skipped: Vec<i64> = sums.values().map(|sum| sum.2).collect();
    let sql = "UPDATE schedules s SET last_slot = greatest(s.last_slot, f.last), missed = s.missed + f.missed,
                   skipped = s.skipped + f.skipped
               FROM UNNEST($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS f (name, last, missed, skipped)
               WHERE s.name = f.name";
    execute(tx, sql, &[&names, &last, &missed, &skipped]).await.map(drop)
}
