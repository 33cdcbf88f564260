//! Fires schedules: one timer over all of them, every slot decided once in the store.
//!
//! Slots are anchored to the wall clock. The timer may wake late, twice, or on several replicas: the store's unique
//! slot row is what makes a slot fire once.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use agentry_bus::{Received, Signal, Wake};
use agentry_core::schedule::{MAX_CATCHUP_SLOTS, Overlap, ScheduleRecord, Slots};
use agentry_core::task::{DEFAULT_TIMEOUT, Priority, Task, TaskSource};
use agentry_core::time::Timestamp;
use agentry_store::{Firing, FiringResult, NewTask, StoreError};

use crate::context::Context;

/// The longest sleep: a clock that jumps is noticed within it.
const MAX_SLEEP: Duration = Duration::from_secs(1);
/// Wait after a round that the store could not take.
const BACKOFF: Duration = Duration::from_millis(200);
/// How often slots that wait behind a running task (`buffer_one`) are tried again.
const BUFFERED_RETRY: Duration = Duration::from_millis(100);

struct Entry {
    record: ScheduleRecord,
    slots: Slots,
    /// Everything up to here is decided.
    decided: Timestamp,
    /// The slot that waits behind a running task.
    buffered: Option<Timestamp>,
}

#[derive(Default)]
struct Table {
    entries: HashMap<String, Entry>,
    due: BinaryHeap<Reverse<(Timestamp, String)>>,
}

/// Runs until the process stops taking work.
pub(crate) async fn schedule(ctx: Arc<Context>) {
    let mut fleet_changes = ctx.fleet.changes();
    let mut signals = ctx.bus.signals();
    let mut table = Table::default();
    let mut reload = true;
    loop {
        if reload {
            reload = !refresh(&ctx, &mut table).await;
        }
        let wait = if reload { BACKOFF } else { table.wait(ctx.now()) };
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            changed = fleet_changes.changed() => {
                if changed.is_err() {
                    return;
                }
                reload = true;
            }
            signal = signals.next() => match signal {
                Received::Signal(Signal::Schedules) | Received::Missed => reload = true,
                Received::Signal(_) => {}
                Received::Closed => return,
            },
            () = tokio::time::sleep(wait) => {}
        }
        if !reload && let Err(error) = fire_due(&ctx, &mut table).await {
            tracing::warn!(%error, "could not decide slots; trying again");
            tokio::time::sleep(BACKOFF).await;
            reload = true;
        }
    }
}

/// Brings the store's schedules in line with the fleet's files, and the table with the store's. False: try again.
async fn refresh(ctx: &Context, table: &mut Table) -> bool {
    let result = async {
        let known = ctx.store.schedules().await?;
        let fleet = ctx.fleet.current();
        let mut of_files = HashSet::new();
        for (name, entry) in fleet.iter() {
            let Some(spec) = entry.spec.as_ref().filter(|spec| spec.enabled) else { continue };
            let Some(schedule) = &spec.schedule else { continue };
            of_files.insert(name.to_string());
            let current = known.iter().find(|record| record.name == name.as_str());
            if current.is_none_or(|record| record.spec != **schedule || !record.from_file) {
                let record = ScheduleRecord {
                    name: name.to_string(),
                    agent: name.clone(),
                    from_file: true,
                    spec: (**schedule).clone(),
                    paused: false,
                    last_slot: None,
                    missed: 0,
                    skipped: 0,
                    created_at: ctx.now(),
                };
                ctx.store.put_schedule(record).await?;
            }
        }
        for record in known.iter().filter(|record| record.from_file && !of_files.contains(&record.name)) {
            ctx.store.delete_schedule(&record.name).await?;
        }
        ctx.store.schedules().await
    };
    match result.await {
        Ok(records) => {
            table.replace(records, ctx.now());
            true
        }
        Err(error) => {
            tracing::warn!(%error, "could not read the schedules; trying again");
            false
        }
    }
}

impl Table {
    fn replace(&mut self, records: Vec<ScheduleRecord>, now: Timestamp) {
        let mut old = std::mem::take(&mut self.entries);
        self.due.clear();
        for record in records {
            if record.paused || !record.spec.enabled {
                continue;
            }
            let slots = match record.spec.timing.slots(now) {
                Ok(slots) => slots,
                Err(error) => {
                    tracing::warn!(schedule = record.name, %error, "the schedule cannot fire");
                    continue;
                }
            };
            let decided = record.last_slot.unwrap_or(record.created_at).max(record.created_at);
            let buffered = old.remove(&record.name).and_then(|entry| entry.buffered);
            if let Some(next) = slots.next_after(decided) {
                self.due.push(Reverse((next, record.name.clone())));
            }
            self.entries.insert(record.name.clone(), Entry { record, slots, decided, buffered });
        }
    }

    fn wait(&self, now: Timestamp) -> Duration {
        let most = if self.entries.values().any(|entry| entry.buffered.is_some()) { BUFFERED_RETRY } else { MAX_SLEEP };
        match self.due.peek() {
            Some(Reverse((next, _))) if *next <= now => Duration::ZERO,
            Some(Reverse((next, _))) => next.since(now).min(most),
            None => most,
        }
    }

    /// The names whose next slot is here.
    fn take_due(&mut self, now: Timestamp) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(Reverse((next, _))) = self.due.peek() {
            if *next > now {
                break;
            }
            if let Some(Reverse((_, name))) = self.due.pop() {
                names.push(name);
            }
        }
        names
    }
}

async fn fire_due(ctx: &Arc<Context>, table: &mut Table) -> Result<(), StoreError> {
    let now = ctx.now();
    let mut firings: Vec<Firing> = Vec::new();
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
    let buffered = table.entries.values().filter_map(|entry| Some((entry, entry.buffered?)));
    firings.extend(buffered.map(|(entry, slot)| firing(ctx, &entry.record, slot, slot)));
    if firings.is_empty() {
        return Ok(());
    }
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
    let task = Task {
        id: ctx.new_task_id(),
        agent: record.agent.clone(),
        mode: spec.mode,
        input: record.spec.input.clone(),
        session: None,
        priority: Priority::Normal,
        source: TaskSource::Schedule { schedule: record.name.clone(), slot },
        trace_id: ctx.new_trace_id(),
        created_at: ctx.now(),
        timeout_ms: record.spec.timeout_ms.unwrap_or(default),
        callback_url: None,
        budget: None,
        stream: false,
        hops: 0,
    };
    Some(NewTask { task: Arc::new(task), idempotency: None, ready_at: (start > slot).then_some(start) })
}

fn note(ctx: &Context, table: &mut Table, firings: Vec<Firing>, results: Vec<FiringResult>) {
    let mut wakes = Vec::new();
    for (firing, result) in firings.into_iter().zip(results) {
        let entry = table.entries.get_mut(&firing.schedule);
        if let Some(entry) = entry {
            if result == FiringResult::Deferred {
                entry.buffered = Some(firing.slot);
            } else if entry.buffered == Some(firing.slot) {
                entry.buffered = None;
            }
        }
        match (result, firing.task) {
            (FiringResult::Fired(_), Some(new)) if new.ready_at.is_none() => wakes.push(Wake::of(new.task)),
            (FiringResult::Fired(_), Some(_)) => ctx.delayed.notify_one(),
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
}
