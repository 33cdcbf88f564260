//! Fires schedules: one timer over all of them, every slot decided once in the store.
//!
//! Slots are anchored to the wall clock. The timer may wake late, twice, or on several replicas: the store's unique
//! slot row is what makes a slot fire once; the replicas that come later learn that it was decided and go on.
//!
//! Definitions come from agent files when this process starts and when its own files change, and at no other time: in
//! a rolling deployment replicas with older files do not put theirs back. A replica decides no slots of agents that it
//! does not know: one with newer files does.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use agentry_bus::{Received, Signal, Wake};
use agentry_core::id::TaskId;
use agentry_core::schedule::{MAX_CATCHUP_SLOTS, Overlap, ScheduleRecord, Slots};
use agentry_core::task::{DEFAULT_TIMEOUT, Priority, Task, TaskSource};
use agentry_core::time::Timestamp;
use agentry_store::{Firing, FiringResult, NewTask, StoreError};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::context::Context;

/// The longest sleep: a clock that jumps is noticed within it.
const MAX_SLEEP: Duration = Duration::from_secs(1);
/// Wait after a round that the store could not take.
const BACKOFF: Duration = Duration::from_millis(200);
/// How often the schedules are read again unasked: what finds a change whose signal was lost.
const REREAD: Duration = Duration::from_secs(10);
/// Definitions written side by side at most; the store commits them together.
const MAX_WRITING: usize = 64;
/// Fired tasks that wait here for their spread moment (`jitter_seconds`) at most; recovery finds further ones.
const MAX_LATER: usize = 10_000;
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
    /// Fired tasks that are to be woken later.
    later: BTreeMap<(Timestamp, TaskId), Arc<Task>>,
}

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
        if ctx.now().since(read_at) >= REREAD {
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
        if reload == Reload::Files && reconcile(ctx, &known).await? { ctx.store.schedules().await } else { Ok(known) }
    };
    match result.await {
        Ok(records) => {
            table.replace(ctx, records);
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

impl Table {
    fn replace(&mut self, ctx: &Context, records: Vec<ScheduleRecord>) {
        let (now, fleet) = (ctx.now(), ctx.fleet.current());
        let mut old = std::mem::take(&mut self.entries);
        self.due.clear();
        for record in records {
            let is_known = fleet.entry(record.agent.as_str()).is_some();
            if record.paused || !record.spec.enabled || !is_known {
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
        let slot = self.due.peek().map(|Reverse((next, _))| *next);
        let later = self.later.keys().next().map(|(at, _)| *at);
        match [slot, later].into_iter().flatten().min() {
            Some(next) if next <= now => Duration::ZERO,
            Some(next) => next.since(now).min(most),
            None => most,
        }
    }

    /// Fired tasks whose moment is here.
    fn take_later(&mut self, now: Timestamp) -> Vec<Wake> {
        let mut wakes = Vec::new();
        while let Some(first) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            wakes.push(Wake::of(first.remove()));
        }
        wakes
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
    let later = table.take_later(now);
    if !later.is_empty() {
        ctx.bus.wake(later);
    }
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
        reply_to: None,
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
            (FiringResult::Fired(_), Some(new)) => match new.ready_at {
                None => wakes.push(Wake::of(new.task)),
                Some(at) if table.later.len() < MAX_LATER => {
                    table.later.insert((at, new.task.id), new.task);
                }
                Some(_) => {}
            },
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
