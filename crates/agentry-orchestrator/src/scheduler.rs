//! Fires schedules: one timer over all of them, every slot decided once in the store.
//!
//! Slots are anchored to the wall clock. The timer may wake late, twice, or on several replicas: the store's unique
//! slot row is what makes a slot fire once; the replicas that come later learn that it was decided and go on.
//!
//! Definitions come from agent files when this process starts and when its own files change, and at no other time: in
//! a rolling deployment replicas with older files do not put theirs back. A replica decides no slots of agents that it
//! does not know: one with newer files does.

mod table;
mod waiting;

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use agentry_bus::{Received, Signal, Wake};
use agentry_core::schedule::{MAX_CATCHUP_SLOTS, Overlap, ScheduleRecord};
use agentry_core::task::{DEFAULT_TIMEOUT, Priority, Task, TaskSource};
use agentry_core::time::Timestamp;
use agentry_core::trace::{Place, SpanId, Trace};
use agentry_store::{Firing, FiringResult, NewTask, StoreError};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use self::table::Table;
use crate::context::Context;
use crate::spans;

/// Wait after a round that the store could not take.
const BACKOFF: Duration = Duration::from_millis(200);
/// How often the schedules are read again unasked: what finds a change whose signal was lost.
const REREAD: Duration = Duration::from_secs(10);
/// Definitions written side by side at most; the store commits them together.
const MAX_WRITING: usize = 64;
/// Fired tasks that wait here for their spread moment (`jitter_seconds`) at most; recovery finds further ones.
const MAX_LATER: usize = 10_000;

/// What the schedules are to be brought in line with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reload {
    No,
    /// The store has changed, or may have.
    Store,
    /// So have the files of this process.
    Files,
}

/// Runs until the process stops taking work.
pub(crate) async fn schedule(ctx: Arc<Context>) {
    let mut fleet_changes = ctx.fleet.changes();
    let mut signals = ctx.bus.signals();
    let mut table = Table::default();
    let mut reload = Reload::Files;
    let mut read_at = ctx.now();
    loop {
        if reload != Reload::No && refresh(&ctx, &mut table, reload).await {
            (reload, read_at) = (Reload::No, ctx.now());
        }
        let wait = if reload == Reload::No { table.wait(ctx.now()) } else { BACKOFF };
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            changed = fleet_changes.changed() => {
                if changed.is_err() {
                    return;
                }
                reload = Reload::Files;
            }
            signal = signals.next() => match signal {
                Received::Signal(Signal::Schedules) | Received::Missed => reload = reload.or_store(),
                Received::Signal(_) => {}
                Received::Closed => return,
            },
            () = tokio::time::sleep(wait) => {}
        }
        // A clock that was set back shows in the table, too: what was decided lies in the future then.
        let now = ctx.now();
        if now < read_at || now.since(read_at) >= REREAD {
            reload = reload.or_store();
        }
        if reload == Reload::No
            && let Err(error) = fire_due(&ctx, &mut table).await
        {
            tracing::warn!(%error, "could not decide slots; trying again");
            tokio::time::sleep(BACKOFF).await;
            reload = Reload::Store;
        }
    }
}

impl Reload {
    /// At least from the store.
    fn or_store(self) -> Self {
        if self == Self::No { Self::Store } else { self }
    }
}

/// Brings the store's schedules in line with the fleet's files, when those changed, and the table with the store's.
/// False: try again.
async fn refresh(ctx: &Context, table: &mut Table, reload: Reload) -> bool {
    let result = async {
        let known = ctx.store.schedules().await?;
        let is_changed = reload == Reload::Files && reconcile(ctx, &known).await?;
        let records = if is_changed { ctx.store.schedules().await? } else { known };
        let waiting = waiting::recall(ctx, table, &records).await?;
        Ok::<_, StoreError>((records, waiting))
    };
    match result.await {
        Ok((records, waiting)) => {
            table.replace(ctx, records, &waiting);
            true
        }
        Err(error) => {
            tracing::warn!(%error, "could not read the schedules; trying again");
            false
        }
    }
}

/// Puts what the files of this process say into the store. Whether anything differed.
async fn reconcile(ctx: &Context, known: &[ScheduleRecord]) -> Result<bool, StoreError> {
    let fleet = ctx.fleet.current();
    let of_store: HashMap<&str, &ScheduleRecord> = known.iter().map(|record| (record.name.as_str(), record)).collect();
    let (mut of_files, mut wrong) = (HashSet::new(), Vec::new());
    for (name, entry) in fleet.iter() {
        let Some(spec) = entry.spec.as_ref().filter(|spec| spec.enabled) else { continue };
        let Some(schedule) = &spec.schedule else { continue };
        of_files.insert(name.as_str());
        let current = of_store.get(name.as_str());
        if current.is_none_or(|record| record.spec != **schedule || !record.from_file) {
            wrong.push(ScheduleRecord {
                name: name.to_string(),
                agent: name.clone(),
                from_file: true,
                spec: (**schedule).clone(),
                paused: false,
                last_slot: None,
                missed: 0,
                skipped: 0,
                created_at: ctx.now(),
            });
        }
    }
    let gone: Vec<&str> =
        known.iter().filter(|r| r.from_file && !of_files.contains(r.name.as_str())).map(|r| r.name.as_str()).collect();
    let changed = !wrong.is_empty() || !gone.is_empty();
    let writes = wrong.into_iter().map(|record| async move { ctx.store.put_schedule(record).await.map(drop) });
    stream::iter(writes).buffer_unordered(MAX_WRITING).try_collect::<Vec<()>>().await?;
    for name in gone {
        ctx.store.delete_schedule(name).await?;
    }
    Ok(changed)
}

async fn fire_due(ctx: &Arc<Context>, table: &mut Table) -> Result<(), StoreError> {
    let now = ctx.now();
    let later = table.take_later(now);
    if !later.is_empty() {
        ctx.bus.wake(later);
    }
    // Slots that wait come before those that have just come.
    let waiting = table.entries.values().filter_map(|entry| Some((entry, entry.waiting?)));
    let mut firings: Vec<Firing> = waiting.map(|(entry, slot)| firing(ctx, &entry.record, slot, slot)).collect();
    for name in table.take_due(now) {
        let Some(entry) = table.entries.get_mut(&name) else { continue };
        let slots = entry.slots.between(entry.decided, now, MAX_CATCHUP_SLOTS);
        if let Some(last) = slots.last() {
            entry.decided = *last;
        }
        firings.extend(slots.into_iter().map(|slot| firing(ctx, &entry.record, slot, now)));
        if let Some(next) = entry.slots.next_after(entry.decided) {
            table.due.push(Reverse((next, name)));
        }
    }
    if firings.is_empty() {
        return Ok(());
    }
    let results = ctx.store.fire(firings.clone(), now).await?;
    let crowd = note(ctx, table, firings, results);
    if crowd.is_empty() {
        return Ok(());
    }
    // Once more with the slot that waits in front: if its turn has come meanwhile, it goes first.
    let names: HashSet<&str> = crowd.iter().map(|firing| firing.schedule.as_str()).collect();
    let waiting = names.into_iter().filter_map(|name| table.entries.get(name)).filter_map(|e| Some((e, e.waiting?)));
    let mut firings: Vec<Firing> = waiting.map(|(entry, slot)| firing(ctx, &entry.record, slot, slot)).collect();
    firings.extend(crowd);
    let results = ctx.store.fire(firings.clone(), now).await?;
    note(ctx, table, firings, results);
    Ok(())
}

/// What is to become of a slot: its task, or the record that it was missed.
fn firing(ctx: &Context, record: &ScheduleRecord, slot: Timestamp, now: Timestamp) -> Firing {
    let task = record.spec.is_in_time(slot, now).then(|| task_of(ctx, record, slot)).flatten();
    let max_open = match record.spec.overlap {
        Overlap::Skip | Overlap::BufferOne => 0,
        Overlap::AllowAll => u32::MAX,
    };
    Firing { schedule: record.name.clone(), slot, task, max_open, buffer: record.spec.overlap == Overlap::BufferOne }
}

/// The task of a slot; `None` when the agent takes no tasks now, which counts as missed.
fn task_of(ctx: &Context, record: &ScheduleRecord, slot: Timestamp) -> Option<NewTask> {
    let fleet = ctx.fleet.current();
    let spec = fleet.live(&record.agent)?;
    let default = u64::try_from(DEFAULT_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
    let start = record.spec.start_of(&record.name, slot);
    let trace = slot_place(ctx, ctx.new_trace()).onward();
    let task = Task {
        id: ctx.new_task_id(),
        agent: record.agent.clone(),
        mode: spec.mode,
        input: record.spec.input.clone(),
        session: None,
        priority: Priority::Normal,
        source: TaskSource::Schedule { schedule: record.name.clone(), slot },
        trace_id: trace.id,
        parent: trace.parent,
        created_at: ctx.now(),
        timeout_ms: record.spec.timeout_ms.unwrap_or(default),
        callback_url: None,
        reply_to: None,
        budget: None,
        stream: false,
        hops: 0,
    };
    Some(NewTask { task: Arc::new(task), idempotency: None, ready_at: (start > slot).then_some(start) })
}

/// A slot in the trace that begins with it.
fn slot_place(ctx: &Context, trace: Trace) -> Place {
    let bits = u64::try_from(trace.id.0 >> 64).unwrap_or(1);
    Place::of(ctx.options.sampling, trace, SpanId::new(bits).derive(0))
}

/// Takes down what became of slots. What comes back are slots for which there is no place to wait: to be skipped.
fn note(ctx: &Context, table: &mut Table, firings: Vec<Firing>, results: Vec<FiringResult>) -> Vec<Firing> {
    let (mut wakes, mut crowd) = (Vec::new(), Vec::new());
    for (firing, result) in firings.into_iter().zip(results) {
        if let Some(entry) = table.entries.get_mut(&firing.schedule) {
            match (result, entry.waiting) {
                (FiringResult::Deferred, Some(waiting)) if waiting != firing.slot => {
                    crowd.push(Firing { buffer: false, ..firing });
                    continue;
                }
                (FiringResult::Deferred, _) => entry.waiting = Some(firing.slot),
                (_, Some(waiting)) if waiting == firing.slot => entry.waiting = None,
                _ => {}
            }
        }
        match (result, firing.task) {
            (FiringResult::Fired(_), Some(new)) => {
                let begun = Trace { id: new.task.trace_id, parent: None };
                spans::slot(&slot_place(ctx, begun), &firing.schedule, &new.task);
                match new.ready_at {
                    None => wakes.push(Wake::of(new.task)),
                    Some(at) if table.later.len() < MAX_LATER => {
                        table.later.insert((at, new.task.id), new.task);
                    }
                    Some(_) => {}
                }
            }
            (FiringResult::Missed, _) => {
                tracing::warn!(schedule = firing.schedule, slot = %firing.slot, "a slot was missed");
            }
            (FiringResult::Skipped, _) => {
                tracing::info!(schedule = firing.schedule, slot = %firing.slot, "a slot was skipped: the task before still runs");
            }
            _ => {}
        }
    }
    if !wakes.is_empty() {
        ctx.bus.wake(wakes);
    }
    crowd
}
