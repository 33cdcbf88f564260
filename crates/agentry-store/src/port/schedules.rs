//! Schedules and their slots.

use std::sync::Arc;

use agentry_core::id::TaskId;
use agentry_core::schedule::ScheduleRecord;
use agentry_core::task::Task;
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use super::Page;
use crate::StoreError;

/// A slot to decide.
#[derive(Debug, Clone)]
pub struct Firing {
    /// The schedule.
    pub schedule: String,
    /// The slot's nominal time.
    pub slot: Timestamp,
    /// The task to accept in the same transaction; `None`: the slot is recorded as missed.
    pub task: Option<Arc<Task>>,
    /// How many earlier tasks of the schedule may be open (queued, running or waiting); with more, the slot is
    /// recorded as skipped. `AllowAll` is `u32::MAX`, the other policies are 0.
    pub max_open: u32,
    /// With more open tasks the slot is left undecided ([`FiringResult::Deferred`]) instead of skipped, so that the
    /// caller can try it again.
    pub buffer: bool,
    /// A slot of the past that somebody asks for: it fires in a pause, too, and when it was recorded as missed.
    /// `last_slot` stays where it is, so that slots which nobody has decided yet are decided as ever.
    pub backfill: bool,
}

/// What became of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FiringResult {
    /// Its task is accepted.
    Fired(TaskId),
    /// Recorded as skipped: too many earlier tasks are open.
    Skipped,
    /// Left undecided: too many earlier tasks are open, and `buffer` is set.
    Deferred,
    /// Recorded as missed.
    Missed,
    /// Another replica decided it before.
    AlreadyDecided,
    /// The schedule is gone, or paused and this no backfill.
    NotActive,
}

/// A slot that was decided.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SlotRecord {
    /// The nominal time.
    pub slot: Timestamp,
    /// What became of it.
    pub state: SlotState,
    /// Its task, when it fired.
    pub task: Option<TaskId>,
    /// When it was decided.
    pub decided_at: Timestamp,
}

/// What became of a slot, as kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// Its task was accepted.
    Fired = 0,
    /// The overlap policy skipped it.
    Skipped = 1,
    /// It came and went while nobody was there.
    Missed = 2,
}

/// What became of the schedules; see [`ScheduleStore::schedules_since`].
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleChanges {
    /// Those that were changed.
    pub changed: Vec<ScheduleRecord>,
    /// How many schedules there are.
    pub total: u64,
}

/// What a record becomes when one of its name is kept already: the same in every store.
pub(crate) fn merged(old: &ScheduleRecord, mut new: ScheduleRecord) -> ScheduleRecord {
    if new.from_file {
        (new.paused, new.missed, new.skipped) = (old.paused, old.missed, old.skipped);
    }
    if new.spec.timing != old.spec.timing {
        new.last_slot = None;
    } else {
        new.created_at = old.created_at;
        // What was decided stays decided, whatever the caller had read before.
        new.last_slot = if new.from_file { old.last_slot } else { new.last_slot.max(old.last_slot) };
    }
    new
}

/// Schedules.
#[async_trait]
pub trait ScheduleStore: Send + Sync + 'static {
    /// Makes or changes schedules, all in one transaction; of several with one name the last counts. `paused`,
    /// `last_slot` and the counters of an existing one are kept when the definition comes from a file. A schedule whose
    /// timing changed starts at `record.created_at` again. Returns them as they are kept, in the order of `records`.
    async fn put_schedules(&self, records: Vec<ScheduleRecord>) -> Result<Vec<ScheduleRecord>, StoreError>;

    /// Pauses or resumes. On resume slots of the pause are passed over: `last_slot` becomes `now`. `None`: unknown.
    async fn set_paused(&self, name: &str, paused: bool, now: Timestamp) -> Result<Option<ScheduleRecord>, StoreError>;

    /// Removes schedules; their slots are kept for the record. How many there were.
    async fn delete_schedules(&self, names: &[String]) -> Result<u64, StoreError>;

    /// A schedule; `None`: unknown.
    async fn schedule(&self, name: &str) -> Result<Option<ScheduleRecord>, StoreError>;

    /// Schedules by name, those after `after`, at most `limit`.
    async fn schedules(&self, after: Option<&str>, limit: usize) -> Result<Page<ScheduleRecord>, StoreError>;

    /// A number that grows with every change of a schedule (made, changed, paused, removed), and not when slots are
    /// decided. At least 1. Cheap however many schedules there are.
    async fn schedule_revision(&self) -> Result<u64, StoreError>;

    /// Schedules that were changed after a revision, in any order: all of them after 0, none after `u64::MAX`. What was
    /// removed is not among them: it shows in `total`.
    async fn schedules_since(&self, revision: u64) -> Result<ScheduleChanges, StoreError>;

    /// Decides slots, each by itself: the slot row (unique), its task, `last_slot` and the counters in one
    /// transaction. Answers stand in the order of the firings.
    /// When it fails, none was decided.
    async fn fire(&self, firings: Vec<Firing>, now: Timestamp) -> Result<Vec<FiringResult>, StoreError>;

    /// The last slots of a schedule, newest first.
    async fn slots(&self, name: &str, limit: usize) -> Result<Vec<SlotRecord>, StoreError>;

    /// Those of `slots` that are decided, in any order.
    async fn slots_at(&self, name: &str, slots: &[Timestamp]) -> Result<Vec<SlotRecord>, StoreError>;
}
