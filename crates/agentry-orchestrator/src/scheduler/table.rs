//! The schedules that this process knows, and when those that fire here are due.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use agentry_core::id::TaskId;
use agentry_core::schedule::{MAX_CATCHUP_SLOTS, ScheduleRecord, Slots};
use agentry_core::task::Task;
use agentry_core::time::Timestamp;

use super::parsed::Parsed;
use crate::context::Context;

/// The longest sleep: a clock that jumps is noticed within it.
const MAX_SLEEP: Duration = Duration::from_secs(1);
/// How often slots that wait behind a running task (`buffer_one`) are tried again.
const WAITING_RETRY: Duration = Duration::from_millis(100);
/// Slots are at least this far apart: a schedule that is late by less has one slot to decide.
const LEAST_DISTANCE: Duration = Duration::from_secs(1);

struct Entry {
    record: ScheduleRecord,
    /// Everything up to here is decided, or waits.
    decided: Timestamp,
    /// The slot after that.
    next: Option<Timestamp>,
}

/// A schedule whose time has come.
pub(super) struct Due {
    pub name: String,
    /// The slots that have come, oldest first.
    pub slots: Vec<Timestamp>,
}

#[derive(Default)]
pub(super) struct Table {
    /// What of the store was taken over; see [`agentry_store::ScheduleStore::schedule_revision`].
    pub revision: u64,
    /// Those that fire here.
    entries: HashMap<String, Entry>,
    /// Those that do not: paused, disabled, of an agent that no file of this process has, or impossible.
    idle: HashMap<String, ScheduleRecord>,
    due: BTreeSet<(Timestamp, String)>,
    /// The slots that wait behind a running task.
    pub waiting: BTreeMap<String, Timestamp>,
    /// Fired tasks that are to be woken later.
    pub later: BTreeMap<(Timestamp, TaskId), Arc<Task>>,
    /// Schedules that cannot fire here and were told of.
    told: HashSet<String>,
    parsed: Parsed,
}

impl Table {
    /// How many schedules are known.
    pub fn len(&self) -> usize {
        self.entries.len() + self.idle.len()
    }

    pub fn records(&self) -> impl Iterator<Item = &ScheduleRecord> {
        self.entries.values().map(|entry| &entry.record).chain(self.idle.values())
    }

    pub fn record(&self, name: &str) -> Option<&ScheduleRecord> {
        self.entries.get(name).map(|entry| &entry.record).or_else(|| self.idle.get(name))
    }

    /// Whether a schedule fires here.
    pub fn fires(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Whether the store's record says nothing that is not known.
    pub fn knows(&self, record: &ScheduleRecord) -> bool {
        let same = |old: &ScheduleRecord| {
            let definition = |record: &ScheduleRecord| (record.from_file, record.paused, record.created_at);
            old.agent == record.agent && definition(old) == definition(record) && old.spec == record.spec
        };
        match self.entries.get(&record.name) {
            Some(entry) => same(&entry.record) && record.last_slot.is_none_or(|slot| slot <= entry.decided),
            None => self.idle.get(&record.name).is_some_and(same),
        }
    }

    /// Forgets every schedule that is not among these.
    pub fn keep_only(&mut self, names: &HashSet<&str>) {
        let known = self.entries.keys().chain(self.idle.keys());
        let gone: Vec<String> = known.filter(|name| !names.contains(name.as_str())).cloned().collect();
        for name in gone {
            self.remove(&name);
            self.waiting.remove(&name);
            self.told.remove(&name);
        }
    }

    fn remove(&mut self, name: &str) -> Option<ScheduleRecord> {
        let Some(entry) = self.entries.remove(name) else { return self.idle.remove(name) };
        if let Some(next) = entry.next {
            self.due.remove(&(next, name.to_owned()));
        }
        Some(entry.record)
    }

    /// Takes over what the store says of a schedule; `waiting` is a slot that waited before this process was there.
    pub fn put(&mut self, ctx: &Context, record: ScheduleRecord, waiting: Option<Timestamp>) {
        let now = ctx.now();
        self.remove(&record.name);
        let waiting = self.waiting.remove(&record.name).or(waiting).filter(|slot| *slot <= now);
        let Some(slots) = self.slots_here(ctx, &record, now) else {
            self.idle.insert(record.name.clone(), record);
            return;
        };
        // A clock that was set back must not silence the schedule until it catches up. The slots that come again
        // have their rows in the store, so none fires twice.
        let decided = record.last_slot.unwrap_or(record.created_at).max(record.created_at).min(now);
        let decided = waiting.map_or(decided, |slot| decided.max(slot));
        let name = record.name.clone();
        if let Some(slot) = waiting {
            self.waiting.insert(name.clone(), slot);
        }
        let next = slots.next_after(decided);
        self.due.extend(next.map(|next| (next, name.clone())));
        self.entries.insert(name, Entry { record, decided, next });
    }

    /// The names of schedules that fire here and must not, or the other way round, since the fleet has changed.
    pub fn misplaced(&self, ctx: &Context) -> Vec<String> {
        let fleet = ctx.fleet.current();
        let is_known = |record: &ScheduleRecord| fleet.entry(record.agent.as_str()).is_some();
        let strangers = self.entries.values().map(|entry| &entry.record).filter(|record| !is_known(record));
        let known = self.idle.values().filter(|record| is_active(record) && is_known(record));
        strangers.chain(known).map(|record| record.name.clone()).collect()
    }

    /// The clock was set back to `now`: what was decided beyond comes again, and is asked for again.
    pub fn set_back(&mut self, now: Timestamp) {
        let Self { entries, due, parsed, .. } = self;
        for (name, entry) in entries.iter_mut().filter(|(_, entry)| entry.decided > now) {
            entry.decided = now;
            if let Some(next) = entry.next.take() {
                due.remove(&(next, name.clone()));
            }
            entry.next = parsed.slots(&entry.record.spec.timing, now).ok().and_then(|slots| slots.next_after(now));
            due.extend(entry.next.map(|next| (next, name.clone())));
        }
    }

    pub fn wait(&self, now: Timestamp) -> Duration {
        let most = if self.waiting.is_empty() { MAX_SLEEP } else { WAITING_RETRY };
        let slot = self.due.first().map(|(next, _)| *next);
        let later = self.later.keys().next().map(|(at, _)| *at);
        match [slot, later].into_iter().flatten().min() {
            Some(next) if next <= now => Duration::ZERO,
            Some(next) => next.since(now).min(most),
            None => most,
        }
    }

    /// Fired tasks whose moment is here.
    pub fn take_later(&mut self, now: Timestamp) -> Vec<Arc<Task>> {
        let mut tasks = Vec::new();
        while let Some(first) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            tasks.push(first.remove());
        }
        tasks
    }

    /// Schedules whose next slot is here, at most `limit`. Each is to be given back by [`Self::decided`] or
    /// [`Self::give_back`].
    pub fn take_due(&mut self, now: Timestamp, limit: usize) -> Vec<Due> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some((next, _)) = self.due.first()
            && *next <= now
            && let Some((next, name)) = self.due.pop_first()
        {
            let slots = self.come(&name, next, now);
            taken.push(Due { name, slots });
        }
        taken
    }

    /// The slots from `next` to `now`. What comes after is looked for when these are decided, so that they wait less.
    fn come(&mut self, name: &str, next: Timestamp, now: Timestamp) -> Vec<Timestamp> {
        let mut slots = vec![next];
        if now.since(next) < LEAST_DISTANCE {
            return slots;
        }
        let Some(entry) = self.entries.get(name) else { return slots };
        if let Ok(timing) = self.parsed.slots(&entry.record.spec.timing, now) {
            slots.extend(timing.between(next, now, MAX_CATCHUP_SLOTS - 1));
        }
        slots
    }

    /// These slots are decided, or wait.
    pub fn decided(&mut self, due: Vec<Due>, now: Timestamp) {
        for Due { name, slots } in due {
            let (Some(entry), Some(last)) = (self.entries.get_mut(&name), slots.last()) else { continue };
            entry.decided = *last;
            let timing = self.parsed.slots(&entry.record.spec.timing, now).ok();
            entry.next = timing.and_then(|timing| timing.next_after(*last));
            self.due.extend(entry.next.map(|next| (next, name)));
        }
    }

    /// These slots are to be tried again.
    pub fn give_back(&mut self, due: Vec<Due>) {
        self.due.extend(due.into_iter().filter_map(|Due { name, slots }| Some((*slots.first()?, name))));
    }

    /// The slots of a schedule; `None`, and a warning when nobody was told yet, when it does not fire here.
    fn slots_here(&mut self, ctx: &Context, record: &ScheduleRecord, now: Timestamp) -> Option<Arc<Slots>> {
        if !is_active(record) {
            return None;
        }
        let ScheduleRecord { name, agent, .. } = record;
        if ctx.fleet.current().entry(agent.as_str()).is_none() {
            if self.told.insert(name.clone()) {
                tracing::warn!(
                    schedule = name,
                    %agent,
                    "the deployment has no such agent, so the schedule's slots do not fire: add its file to the folder of \
                     agents, or remove the schedule with `DELETE /v1/schedules/{name}`"
                );
            }
            return None;
        }
        match self.parsed.slots(&record.spec.timing, now) {
            Ok(slots) => {
                self.told.remove(name);
                Some(slots)
            }
            Err(error) => {
                if self.told.insert(name.clone()) {
                    tracing::warn!(schedule = name, %error, "the schedule cannot fire");
                }
                None
            }
        }
    }
}

fn is_active(record: &ScheduleRecord) -> bool {
    !record.paused && record.spec.enabled
}
