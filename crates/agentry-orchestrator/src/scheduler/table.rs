//! The schedules that this process fires, and when each is due.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use agentry_bus::Wake;
use agentry_core::id::TaskId;
use agentry_core::schedule::{ScheduleRecord, Slots};
use agentry_core::task::Task;
use agentry_core::time::Timestamp;

use crate::context::Context;

/// The longest sleep: a clock that jumps is noticed within it.
const MAX_SLEEP: Duration = Duration::from_secs(1);
/// How often slots that wait behind a running task (`buffer_one`) are tried again.
const WAITING_RETRY: Duration = Duration::from_millis(100);

pub(super) struct Entry {
    pub record: ScheduleRecord,
    pub slots: Slots,
    /// Everything up to here is decided, or waits.
    pub decided: Timestamp,
    /// The slot that waits behind a running task.
    pub waiting: Option<Timestamp>,
}

#[derive(Default)]
pub(super) struct Table {
    pub entries: HashMap<String, Entry>,
    pub due: BinaryHeap<Reverse<(Timestamp, String)>>,
    /// Fired tasks that are to be woken later.
    pub later: BTreeMap<(Timestamp, TaskId), Arc<Task>>,
    /// Schedules that cannot fire here and were told of.
    silent: HashSet<String>,
}

impl Table {
    /// Takes over what the store says; `waiting` are slots that waited before this process was there.
    pub fn replace(&mut self, ctx: &Context, records: Vec<ScheduleRecord>, waiting: &HashMap<String, Timestamp>) {
        let now = ctx.now();
        let mut old = std::mem::take(&mut self.entries);
        let told = std::mem::take(&mut self.silent);
        self.due.clear();
        for record in records {
            if record.paused || !record.spec.enabled {
                continue;
            }
            let Some(slots) = slots_here(ctx, &record, now, told.contains(&record.name)) else {
                self.silent.insert(record.name);
                continue;
            };
            // A clock that was set back must not silence the schedule until it catches up. The slots that come again
            // have their rows in the store, so none fires twice.
            let decided = record.last_slot.unwrap_or(record.created_at).max(record.created_at).min(now);
            let waited = old.remove(&record.name).and_then(|entry| entry.waiting);
            let waiting = waited.or_else(|| waiting.get(&record.name).copied()).filter(|slot| *slot <= now);
            let decided = waiting.map_or(decided, |slot| decided.max(slot));
            if let Some(next) = slots.next_after(decided) {
                self.due.push(Reverse((next, record.name.clone())));
            }
            self.entries.insert(record.name.clone(), Entry { record, slots, decided, waiting });
        }
    }

    pub fn wait(&self, now: Timestamp) -> Duration {
        let most = if self.entries.values().any(|entry| entry.waiting.is_some()) { WAITING_RETRY } else { MAX_SLEEP };
        let slot = self.due.peek().map(|Reverse((next, _))| *next);
        let later = self.later.keys().next().map(|(at, _)| *at);
        match [slot, later].into_iter().flatten().min() {
            Some(next) if next <= now => Duration::ZERO,
            Some(next) => next.since(now).min(most),
            None => most,
        }
    }

    /// Fired tasks whose moment is here.
    pub fn take_later(&mut self, now: Timestamp) -> Vec<Wake> {
        let mut wakes = Vec::new();
        while let Some(first) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            wakes.push(Wake::of(first.remove()));
        }
        wakes
    }

    /// The names whose next slot is here.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<String> {
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

/// The slots of a schedule; `None`, and a warning unless it `is_told`, when it cannot fire in this process.
fn slots_here(ctx: &Context, record: &ScheduleRecord, now: Timestamp, is_told: bool) -> Option<Slots> {
    let ScheduleRecord { name, agent, .. } = record;
    if ctx.fleet.current().entry(agent.as_str()).is_none() {
        if !is_told {
            tracing::warn!(
                schedule = name,
                %agent,
                "no agent file of this process has the schedule's agent, so its slots do not fire here: add the file to \
                 the folder of agents, or remove the schedule with `DELETE /v1/schedules/{name}`"
            );
        }
        return None;
    }
    match record.spec.timing.slots(now) {
        Ok(slots) => Some(slots),
        Err(error) => {
            if !is_told {
                tracing::warn!(schedule = name, %error, "the schedule cannot fire");
            }
            None
        }
    }
}
