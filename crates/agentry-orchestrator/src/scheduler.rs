//! Fires schedules: one timer over all of them, every slot decided once in the store.
//!
//! Slots are anchored to the wall clock. The timer may wake late, twice, or on several replicas: the store's unique
//! slot row is what makes a slot fire once; the replicas that come later learn that it was decided and go on.
//!
//! Definitions come from the fleet of the deployment, which is the same for all replicas whatever their files are.

mod parsed;
mod table;
mod waiting;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use agentry_bus::{Received, Signal};
use agentry_core::schedule::{Overlap, ScheduleRecord};
use agentry_core::time::Timestamp;
use agentry_core::trace::{Place, SpanId, Trace};
use agentry_intake::{DueSlot, FiredSlot};
use agentry_store::{FiringResult, StoreError};

use self::table::{Due, Table};
use crate::context::Context;
use crate::spans;

/// Wait after a round that the store could not take.
const BACKOFF: Duration = Duration::from_millis(200);
/// How often the schedules are read again unasked: what finds a change whose signal was lost.
const REREAD: Duration = Duration::from_secs(10);
/// Definitions written or removed in one transaction.
const MAX_WRITING: usize = 500;
/// Schedules decided in one transaction: the tasks of the first ones begin while the others are decided.
const MAX_ROUND: usize = 500;
/// Schedules taken over before other work of the process gets its turn.
const AT_A_STRETCH: usize = 64;
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
    let mut looked_at = read_at;
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
        let now = ctx.now();
        if now < looked_at {
            table.set_back(now);
        }
        looked_at = now;
        if now < read_at || now.since(read_at) >= REREAD {
            reload = reload.or_store();
        }
        if reload == Reload::No
            && let Err(error) = fire_due(&ctx, &mut table).await
        {
            tracing::warn!(%error, "could not decide slots; trying again");
            tokio::time::sleep(BACKOFF).await;
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
        follow(ctx, table).await?;
        if reload == Reload::Files {
            if reconcile(ctx, table).await? {
                follow(ctx, table).await?;
            }
            for name in table.misplaced(ctx) {
                // Others may have decided slots of it meanwhile.
                take_over(ctx, table, ctx.store.schedule(&name).await?.into_iter().collect()).await?;
            }
        }
        Ok::<_, StoreError>(())
    };
    result.await.inspect_err(|error| tracing::warn!(%error, "could not read the schedules; trying again")).is_ok()
}

/// Takes over what has changed in the store. That nothing has is one small question.
async fn follow(ctx: &Context, table: &mut Table) -> Result<(), StoreError> {
    let revision = ctx.store.schedule_revision().await?;
    if revision == table.revision {
        return Ok(());
    }
    let changes = ctx.store.schedules_since(table.revision).await?;
    take_over(ctx, table, changes.changed).await?;
    if table.len() as u64 != changes.total {
        // Some were removed.
        let all = ctx.store.schedules_since(0).await?.changed;
        table.keep_only(&all.iter().map(|record| record.name.as_str()).collect());
        let news = all.into_iter().filter(|record| !table.knows(record)).collect();
        take_over(ctx, table, news).await?;
    }
    table.revision = revision;
    Ok(())
}

async fn take_over(ctx: &Context, table: &mut Table, records: Vec<ScheduleRecord>) -> Result<(), StoreError> {
    for (number, record) in records.into_iter().enumerate() {
        let waiting = waiting::recall(ctx, table, &record).await?;
        table.put(ctx, record, waiting);
        if number % AT_A_STRETCH == AT_A_STRETCH - 1 {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Puts what the files of this process say into the store. Whether anything differed.
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
    let of_store = table.records().filter(|record| record.from_file);
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

/// A slot that is to be decided.
struct Wanted {
    schedule: String,
    slot: Timestamp,
    /// When it is judged whether it is in time: now, or its own time when it has waited.
    judged_at: Timestamp,
    /// Whether it may wait once more.
    buffer: bool,
}

async fn fire_due(ctx: &Arc<Context>, table: &mut Table) -> Result<(), StoreError> {
    let now = ctx.now();
    ctx.intake.wake(table.take_later(now));
    // Slots that wait come before those that have just come.
    let mut wanted = waiting_slots(table, table.waiting.keys());
    let due = table.take_due(now, MAX_ROUND);
    for Due { name, slots } in &due {
        let Some(record) = table.record(name) else { continue };
        let buffer = record.spec.overlap == Overlap::BufferOne;
        let want = |slot: &Timestamp| Wanted { schedule: name.clone(), slot: *slot, judged_at: now, buffer };
        wanted.extend(slots.iter().map(want));
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let decided = decide(ctx, table, wanted).await;
    match &decided {
        Ok(()) => table.decided(due, now),
        // Those that were decided all the same have their rows.
        Err(_) => table.give_back(due),
    }
    decided
}

async fn decide(ctx: &Context, table: &mut Table, wanted: Vec<Wanted>) -> Result<(), StoreError> {
    let fired = fire(ctx, table, &wanted).await?;
    let blocked = note(ctx, table, wanted, fired);
    if blocked.is_empty() {
        return Ok(());
    }
    // Once more with the slot that waits in front: if its turn has come meanwhile, it goes first.
    let names: BTreeSet<&String> = blocked.iter().map(|wanted| &wanted.schedule).collect();
    let mut wanted = waiting_slots(table, names.into_iter());
    wanted.extend(blocked);
    let fired = fire(ctx, table, &wanted).await?;
    note(ctx, table, wanted, fired);
    Ok(())
}

/// The slots of these schedules that wait.
fn waiting_slots<'n>(table: &Table, names: impl Iterator<Item = &'n String>) -> Vec<Wanted> {
    let waiting = names.filter_map(|name| Some((table.record(name)?, *table.waiting.get(name)?)));
    let want = |(record, slot): (&ScheduleRecord, Timestamp)| Wanted {
        schedule: record.name.clone(),
        slot,
        judged_at: slot,
        buffer: record.spec.overlap == Overlap::BufferOne,
    };
    waiting.map(want).collect()
}

/// Lets the intake decide slots: the answers stand in their order.
async fn fire(ctx: &Context, table: &Table, wanted: &[Wanted]) -> Result<Vec<FiredSlot>, StoreError> {
    let due_slot = |wanted: &Wanted| {
        let (schedule, slot) = (table.record(&wanted.schedule)?, wanted.slot);
        let start = schedule.spec.start_of(&schedule.name, slot);
        Some(DueSlot {
            schedule,
            slot,
            is_in_time: schedule.spec.is_in_time(slot, wanted.judged_at),
            not_before: (start > slot).then_some(start),
            trace: slot_place(ctx, ctx.new_trace()).onward(),
            max_open: match schedule.spec.overlap {
                Overlap::Skip | Overlap::BufferOne => 0,
                Overlap::AllowAll => u32::MAX,
            },
            buffer: wanted.buffer,
        })
    };
    let due: Vec<DueSlot<'_>> = wanted.iter().filter_map(due_slot).collect();
    ctx.intake.fire(&due).await
}

/// A slot in the trace that begins with it.
fn slot_place(ctx: &Context, trace: Trace) -> Place {
    let bits = u64::try_from(trace.id.0 >> 64).unwrap_or(1);
    Place::of(ctx.options.sampling, trace, SpanId::new(bits).derive(0))
}

/// Takes down what became of slots. What comes back are slots for which there is no place to wait: to be skipped.
fn note(ctx: &Context, table: &mut Table, wanted: Vec<Wanted>, fired: Vec<FiredSlot>) -> Vec<Wanted> {
    let (mut blocked, now) = (Vec::new(), ctx.now());
    for (wanted, FiredSlot { result, task }) in wanted.into_iter().zip(fired) {
        match (result, table.waiting.get(&wanted.schedule)) {
            (FiringResult::Deferred, Some(waiting)) if *waiting != wanted.slot => {
                blocked.push(Wanted { buffer: false, ..wanted });
                continue;
            }
            (FiringResult::Deferred, _) => {
                table.waiting.insert(wanted.schedule.clone(), wanted.slot);
            }
            (_, Some(waiting)) if *waiting == wanted.slot => {
                table.waiting.remove(&wanted.schedule);
            }
            _ => {}
        }
        ctx.metrics.decided(wanted.slot, result, now);
        match (result, task) {
            (FiringResult::Fired(_), Some(task)) => {
                let begun = Trace { id: task.trace_id, parent: None };
                spans::slot(&slot_place(ctx, begun), &wanted.schedule, &task);
                if let Some(at) = task.not_before.filter(|_| table.later.len() < MAX_LATER) {
                    table.later.insert((at, task.id), task);
                }
            }
            (FiringResult::Missed, _) => {
                tracing::warn!(schedule = wanted.schedule, slot = %wanted.slot, "a slot was missed");
            }
            (FiringResult::Skipped, _) => {
                tracing::info!(
                    schedule = wanted.schedule,
                    slot = %wanted.slot,
                    "a slot was skipped: the task before still runs"
                );
            }
            _ => {}
        }
    }
    blocked
}
