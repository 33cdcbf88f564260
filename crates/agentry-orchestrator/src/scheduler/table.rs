//! The schedules known to this process, with the due times of those that fire here.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use agentry_core::id::TaskId;
use agentry_core::schedule::{MAX_CATCHUP_SLOTS, ScheduleRecord, Slots};
use agentry_core::task::Task;
use agentry_core::time::Timestamp;

use super::timing_cache::TimingCache;
use crate::context::Context;

/// Maximum sleep: a jump of the clock is noticed within it.
const MAX_SLEEP: Duration = Duration::from_secs(1);
/// Interval between retries of slots that wait behind a running task (`buffer_one`).
const WAITING_RETRY: Duration = Duration::from_millis(100);
/// Minimum distance of slots: a schedule that is late by less has one slot to decide.
const LEAST_DISTANCE: Duration = Duration::from_secs(1);

struct Entry {
    record: ScheduleRecord,
    /// Last slot that is decided or buffered.
    decided: Timestamp,
    next: Option<Timestamp>,
}

pub(super) struct DueSchedule {
    pub name: String,
    /// DueSchedule slots, oldest first.
    pub slots: Vec<Timestamp>,
}

#[derive(Default)]
pub(super) struct Table {
    /// Revision of the store that was taken over; see [`agentry_store::ScheduleStore::schedule_revision`].
    pub revision: u64,
    /// Schedules that fire here.
    entries: HashMap<String, Entry>,
    /// Schedules that do not: paused, disabled, of an unknown agent, or invalid.
    idle: HashMap<String, ScheduleRecord>,
    due: BTreeSet<(Timestamp, String)>,
    /// Buffered slots, which wait behind a running task.
    pub waiting: BTreeMap<String, Timestamp>,
    /// Fired tasks that are woken later.
    pub later: BTreeMap<(Timestamp, TaskId), Arc<Task>>,
    /// Schedules that cannot fire here and were warned about.
    warned: HashSet<String>,
    timings: TimingCache,
}

impl Table {
    /// Returns the number of schedules.
    pub fn len(&self) -> usize {
        self.entries.len() + self.idle.len()
    }

    pub fn records(&self) -> impl Iterator<Item = &ScheduleRecord> {
        self.entries.values().map(|entry| &entry.record).chain(self.idle.values())
    }

    pub fn record(&self, name: &str) -> Option<&ScheduleRecord> {
        self.entries.get(name).map(|entry| &entry.record).or_else(|| self.idle.get(name))
    }

    /// Returns whether a schedule fires here.
    pub fn fires(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Returns whether the store's record is known already.
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

    /// Removes every schedule that is not among these.
    pub fn keep_only(&mut self, names: &HashSet<&str>) {
        let known = self.entries.keys().chain(self.idle.keys());
        let gone: Vec<String> = known.filter(|name| !names.contains(name.as_str())).cloned().collect();
        for name in gone {
            self.remove(&name);
            self.waiting.remove(&name);
            self.warned.remove(&name);
        }
    }

    fn remove(&mut self, name: &str) -> Option<ScheduleRecord> {
        let Some(entry) = self.entries.remove(name) else { return self.idle.remove(name) };
        if let Some(next) = entry.next {
            self.due.remove(&(next, name.to_owned()));
        }
        Some(entry.record)
    }

    /// Adds or replaces a schedule; `waiting` is a slot that was buffered before this process started.
    pub fn put(&mut self, ctx: &Context, record: ScheduleRecord, waiting: Option<Timestamp>) {
        let now = ctx.now();
        self.remove(&record.name);
        let waiting = self.waiting.remove(&record.name).or(waiting).filter(|slot| *slot <= now);
        let Some(slots) = self.slots_here(ctx, &record, now) else {
            self.idle.insert(record.name.clone(), record);
            return;
        };
        // A clock that was set back must not silence the schedule until it catches up. Repeated slots have their rows
        // in the store, so none fires twice.
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

    /// Returns the names of schedules whose agent was added or removed since they were loaded.
    pub fn misplaced(&self, ctx: &Context) -> Vec<String> {
        let fleet = ctx.fleet.current();
        let is_known = |record: &ScheduleRecord| fleet.entry(record.agent.as_str()).is_some();
        let orphaned = self.entries.values().map(|entry| &entry.record).filter(|record| !is_known(record));
        let known = self.idle.values().filter(|record| is_active(record) && is_known(record));
        orphaned.chain(known).map(|record| record.name.clone()).collect()
    }

    /// Reschedules slots after `now`, because the clock was set back.
    pub fn set_back(&mut self, now: Timestamp) {
        let Self { entries, due, timings, .. } = self;
        for (name, entry) in entries.iter_mut().filter(|(_, entry)| entry.decided > now) {
            entry.decided = now;
            if let Some(next) = entry.next.take() {
                due.remove(&(next, name.clone()));
            }
            entry.next = timings.slots(&entry.record.spec.timing, now).ok().and_then(|slots| slots.next_after(now));
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

    /// Removes and returns the fired tasks that are due.
    pub fn take_later(&mut self, now: Timestamp) -> Vec<Arc<Task>> {
        let mut tasks = Vec::new();
        while let Some(first) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            tasks.push(first.remove());
        }
        tasks
    }

    /// Removes and returns at most `limit` due schedules. Each must be returned by [`Self::decided`] or
    /// [`Self::give_back`].
    pub fn take_due(&mut self, now: Timestamp, limit: usize) -> Vec<DueSchedule> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some((next, _)) = self.due.first()
            && *next <= now
            && let Some((next, name)) = self.due.pop_first()
        {
            let slots = self.due_slots(&name, next, now);
            taken.push(DueSchedule { name, slots });
        }
        taken
    }

    /// Returns the slots from `next` to `now`. Later slots are computed after these are decided, so that these wait
    /// less.
    fn due_slots(&mut self, name: &str, next: Timestamp, now: Timestamp) -> Vec<Timestamp> {
        let mut slots = vec![next];
        if now.since(next) < LEAST_DISTANCE {
            return slots;
        }
        let Some(entry) = self.entries.get(name) else { return slots };
        if let Ok(timing) = self.timings.slots(&entry.record.spec.timing, now) {
            slots.extend(timing.between(next, now, MAX_CATCHUP_SLOTS - 1));
        }
        slots
    }

    /// Reschedules these schedules after their decided or buffered slots.
    pub fn decided(&mut self, due: Vec<DueSchedule>, now: Timestamp) {
        for DueSchedule { name, slots } in due {
            let (Some(entry), Some(last)) = (self.entries.get_mut(&name), slots.last()) else { continue };
            entry.decided = *last;
            let timing = self.timings.slots(&entry.record.spec.timing, now).ok();
            entry.next = timing.and_then(|timing| timing.next_after(*last));
            self.due.extend(entry.next.map(|next| (next, name)));
        }
    }

    /// Reschedules these slots for a retry.
    pub fn give_back(&mut self, due: Vec<DueSchedule>) {
        self.due.extend(due.into_iter().filter_map(|DueSchedule { name, slots }| Some((*slots.first()?, name))));
    }

    /// Returns the slots of a schedule that fires here; `None`, with a warning the first time, if it does not.
    fn slots_here(&mut self, ctx: &Context, record: &ScheduleRecord, now: Timestamp) -> Option<Arc<Slots>> {
        if !is_active(record) {
            return None;
        }
        let ScheduleRecord { name, agent, .. } = record;
        if ctx.fleet.current().entry(agent.as_str()).is_none() {
            if self.warned.insert(name.clone()) {
                match ctx.intake.deployment().removed(agent) {
                    Some(last) => tracing::warn!(
                        schedule = name,
                        "the agent was removed from the deployment, so the schedule's slots do not fire: bring it back with \
                         `agentry agents activate {agent} {}`, or remove the schedule with `DELETE /v1/schedules/{name}`",
                        last.version
                    ),
                    None => tracing::warn!(
                        schedule = name,
                        %agent,
                        "the deployment has no such agent, so the schedule's slots do not fire: add its file to the folder \
                         of agents, or remove the schedule with `DELETE /v1/schedules/{name}`"
                    ),
                }
            }
            return None;
        }
        match self.timings.slots(&record.spec.timing, now) {
            Ok(slots) => {
                self.warned.remove(name);
                Some(slots)
            }
            Err(error) => {
                if self.warned.insert(name.clone()) {
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
