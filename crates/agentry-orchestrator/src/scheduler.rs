//! Scheduler: one timer over all schedules, every slot decided once in the store.
//!
//! Slots are anchored to the wall clock. The timer may fire late, twice, or on several replicas: the unique slot row in
//! the store makes a slot fire once, and later replicas learn that it was decided.
//!
//! Definitions come from the fleet of the deployment, which is the same for all replicas whatever their files are.

mod table;
mod timing_cache;
mod waiting;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use agentry_bus::{ReceiveOutcome, Signal};
use agentry_core::schedule::{Overlap, ScheduleRecord};
use agentry_core::time::Timestamp;
use agentry_core::trace::{SpanContext, SpanId, Trace};
use agentry_intake::{DueSlot, FiredSlot};
use agentry_store::{FiringResult, StoreError};

use self::table::{DueSchedule, Table};
use crate::context::Context;
use crate::spans;

/// Delay after a round that failed.
const BACKOFF: Duration = Duration::from_millis(200);
/// Interval between reads of all schedules, which finds a change whose signal was lost.
const REREAD: Duration = Duration::from_secs(10);
/// Maximum number of definitions written or removed in one transaction.
const MAX_WRITING: usize = 500;
/// Maximum number of schedules decided in one transaction: the tasks of the first ones start while the others are
/// decided.
const MAX_ROUND: usize = 500;
/// Number of schedules loaded before the scheduler yields to other work.
const YIELD_EVERY: usize = 64;
/// Maximum number of fired tasks that wait here for their jitter (`jitter_seconds`); recovery finds further ones.
const MAX_LATER: usize = 10_000;

/// The source that the schedules must be reloaded from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reload {
    No,
    /// The store has changed, or may have.
    Store,
    /// The files of this process have changed, too.
    Files,
}

/// Schedules until the process stops taking work.
pub(crate) async fn schedule(ctx: Arc<Context>) {
    let mut fleet_changes = ctx.fleet.changes();
    let mut signals = ctx.bus.signals();
    let mut table = Table::default();
    let mut reload = Reload::Files;
    let mut read_at = ctx.now();
    let mut checked_at = read_at;
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
                ReceiveOutcome::Signal(Signal::Schedules) | ReceiveOutcome::Missed => reload = reload.or_store(),
                ReceiveOutcome::Signal(_) => {}
                ReceiveOutcome::Closed => return,
            },
            () = tokio::time::sleep(wait) => {}
        }
        let now = ctx.now();
        if now < checked_at {
            table.set_back(now);
        }
        checked_at = now;
        if now < read_at || now.since(read_at) >= REREAD {
            reload = reload.or_store();
        }
        if reload == Reload::No
            && let Err(error) = fire_due(&ctx, &mut table).await
        {
            tracing::warn!(%error, "deciding schedule slots failed; retrying");
            tokio::time::sleep(BACKOFF).await;
        }
    }
}

impl Reload {
    /// Returns at least [`Reload::Store`].
    fn or_store(self) -> Self {
        if self == Self::No { Self::Store } else { self }
    }
}

/// Updates the store's schedules from the files, if those changed, and the table from the store. Returns false if it
/// must be retried.
async fn refresh(ctx: &Context, table: &mut Table, reload: Reload) -> bool {
    let result = async {
        load_changes(ctx, table).await?;
        if reload == Reload::Files {
            if reconcile(ctx, table).await? {
                load_changes(ctx, table).await?;
            }
            for name in table.misplaced(ctx) {
                // Other replicas may have decided slots of it meanwhile.
                load(ctx, table, ctx.store.schedule(&name).await?.into_iter().collect()).await?;
            }
        }
        Ok::<_, StoreError>(())
    };
    result.await.inspect_err(|error| tracing::warn!(%error, "loading schedules failed; retrying")).is_ok()
}

/// Loads changes from the store. Without changes this is one small query.
async fn load_changes(ctx: &Context, table: &mut Table) -> Result<(), StoreError> {
    let revision = ctx.store.schedule_revision().await?;
    if revision == table.revision {
        return Ok(());
    }
    let changes = ctx.store.schedules_since(table.revision).await?;
    load(ctx, table, changes.changed).await?;
    if table.len() as u64 != changes.total {
        // Some were removed.
        let all = ctx.store.schedules_since(0).await?.changed;
        table.keep_only(&all.iter().map(|record| record.name.as_str()).collect());
        let news = all.into_iter().filter(|record| !table.knows(record)).collect();
        load(ctx, table, news).await?;
    }
    table.revision = revision;
    Ok(())
}

async fn load(ctx: &Context, table: &mut Table, records: Vec<ScheduleRecord>) -> Result<(), StoreError> {
    for (number, record) in records.into_iter().enumerate() {
        let waiting = waiting::recall(ctx, table, &record).await?;
        table.put(ctx, record, waiting);
        if number % YIELD_EVERY == YIELD_EVERY - 1 {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Writes the definitions of this process's files to the store. Returns whether any differed.
async fn reconcile(ctx: &Context, table: &Table) -> Result<bool, StoreError> {
    let fleet = ctx.fleet.current();
    let (mut of_files, mut wrong) = (HashSet::new(), Vec::new());
    for (name, entry) in fleet.iter() {
        let Some(spec) = entry.spec.as_ref().filter(|spec| spec.enabled) else { continue };
        let Some(schedule) = &spec.schedule else { continue };
        of_files.insert(name.as_str());
        let current = table.record(name.as_str());
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
    // A paused schedule outlives its agent, so that it is still paused when the agent comes back.
    let is_kept = |record: &ScheduleRecord| record.paused && fleet.entry(record.agent.as_str()).is_none();
    let of_store = table.records().filter(|record| record.from_file && !is_kept(record));
    let gone: Vec<String> =
        of_store.filter(|record| !of_files.contains(record.name.as_str())).map(|record| record.name.clone()).collect();
    let changed = !wrong.is_empty() || !gone.is_empty();
    while !wrong.is_empty() {
        let rest = wrong.split_off(wrong.len().min(MAX_WRITING));
        ctx.store.put_schedules(std::mem::replace(&mut wrong, rest)).await?;
    }
    for piece in gone.chunks(MAX_WRITING) {
        ctx.store.delete_schedules(piece).await?;
    }
    Ok(changed)
}

struct PendingSlot {
    schedule: String,
    slot: Timestamp,
    /// Reference time for the catch-up window: now, or the slot's own time if it has waited.
    judged_at: Timestamp,
    /// True if the slot may still be buffered.
    buffer: bool,
}

async fn fire_due(ctx: &Arc<Context>, table: &mut Table) -> Result<(), StoreError> {
    let now = ctx.now();
    ctx.intake.wake(table.take_later(now));
    // Buffered slots come before new ones.
    let mut pending = waiting_slots(table, table.waiting.keys());
    let due = table.take_due(now, MAX_ROUND);
    for DueSchedule { name, slots } in &due {
        let Some(record) = table.record(name) else { continue };
        let buffer = record.spec.overlap == Overlap::BufferOne;
        let want = |slot: &Timestamp| PendingSlot { schedule: name.clone(), slot: *slot, judged_at: now, buffer };
        pending.extend(slots.iter().map(want));
    }
    if pending.is_empty() {
        return Ok(());
    }
    let decided = decide(ctx, table, pending).await;
    match &decided {
        Ok(()) => table.decided(due, now),
        // Slots that were decided nevertheless have their rows.
        Err(_) => table.give_back(due),
    }
    decided
}

async fn decide(ctx: &Context, table: &mut Table, pending: Vec<PendingSlot>) -> Result<(), StoreError> {
    let fired = fire(ctx, table, &pending).await?;
    let blocked = record_decisions(ctx, table, pending, fired);
    if blocked.is_empty() {
        return Ok(());
    }
    // A buffered slot goes first, in case its turn has come meanwhile.
    let names: BTreeSet<&String> = blocked.iter().map(|pending| &pending.schedule).collect();
    let mut pending = waiting_slots(table, names.into_iter());
    pending.extend(blocked);
    let fired = fire(ctx, table, &pending).await?;
    record_decisions(ctx, table, pending, fired);
    Ok(())
}

/// Returns the buffered slots of these schedules.
fn waiting_slots<'n>(table: &Table, names: impl Iterator<Item = &'n String>) -> Vec<PendingSlot> {
    let waiting = names.filter_map(|name| Some((table.record(name)?, *table.waiting.get(name)?)));
    let want = |(record, slot): (&ScheduleRecord, Timestamp)| PendingSlot {
        schedule: record.name.clone(),
        slot,
        judged_at: slot,
        buffer: record.spec.overlap == Overlap::BufferOne,
    };
    waiting.map(want).collect()
}

/// Decides slots through the intake; the results are in the same order.
async fn fire(ctx: &Context, table: &Table, pending: &[PendingSlot]) -> Result<Vec<FiredSlot>, StoreError> {
    let due_slot = |pending: &PendingSlot| {
        let (schedule, slot) = (table.record(&pending.schedule)?, pending.slot);
        let start = schedule.spec.start_of(&schedule.name, slot);
        Some(DueSlot {
            schedule,
            slot,
            is_in_time: schedule.spec.is_in_time(slot, pending.judged_at),
            not_before: (start > slot).then_some(start),
            trace: slot_context(ctx, ctx.intake.new_trace()).propagate(),
            max_open: match schedule.spec.overlap {
                Overlap::Skip | Overlap::BufferOne => 0,
                Overlap::AllowAll => u32::MAX,
            },
            buffer: pending.buffer,
        })
    };
    let due: Vec<DueSlot<'_>> = pending.iter().filter_map(due_slot).collect();
    ctx.intake.fire(&due).await
}

/// Returns the span context of a slot, which begins a trace.
fn slot_context(ctx: &Context, trace: Trace) -> SpanContext {
    let bits = u64::try_from(trace.id.0 >> 64).unwrap_or(1);
    SpanContext::of(ctx.options.sampling, trace, SpanId::new(bits).derive(0))
}

/// Records decisions on slots. Returns the slots that could not be buffered: they must be skipped.
fn record_decisions(
    ctx: &Context,
    table: &mut Table,
    pending: Vec<PendingSlot>,
    fired: Vec<FiredSlot>,
) -> Vec<PendingSlot> {
    let (mut blocked, now) = (Vec::new(), ctx.now());
    for (pending, FiredSlot { result, task }) in pending.into_iter().zip(fired) {
        match (result, table.waiting.get(&pending.schedule)) {
            (FiringResult::Deferred, Some(waiting)) if *waiting != pending.slot => {
                blocked.push(PendingSlot { buffer: false, ..pending });
                continue;
            }
            (FiringResult::Deferred, _) => {
                table.waiting.insert(pending.schedule.clone(), pending.slot);
            }
            (_, Some(waiting)) if *waiting == pending.slot => {
                table.waiting.remove(&pending.schedule);
            }
            _ => {}
        }
        ctx.metrics.decided(pending.slot, result, now);
        match (result, task) {
            (FiringResult::Fired(_), Some(task)) => {
                let begun = Trace { id: task.trace_id, parent: None };
                spans::slot(&slot_context(ctx, begun), &pending.schedule, &task);
                if let Some(at) = task.not_before.filter(|_| table.later.len() < MAX_LATER) {
                    table.later.insert((at, task.id), task);
                }
            }
            (FiringResult::Missed, _) => {
                tracing::warn!(schedule = pending.schedule, slot = %pending.slot, "a schedule slot was missed");
            }
            (FiringResult::Skipped, _) => {
                tracing::info!(
                    schedule = pending.schedule,
                    slot = %pending.slot,
                    "a schedule slot was skipped: the previous task still runs"
                );
            }
            _ => {}
        }
    }
    blocked
}
