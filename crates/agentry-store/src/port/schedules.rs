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
    /// Name of the schedule.
    pub schedule: String,
    /// Nominal time of the slot.
    pub slot: Timestamp,
    /// Task to accept in the same transaction; `None` records the slot as missed.
    pub task: Option<Arc<Task>>,
    /// Largest number of open earlier tasks (queued, running or waiting); with more, the slot is recorded as skipped.
    /// `AllowAll` is `u32::MAX`, the other policies are 0.
    pub max_open: u32,
    /// Leaves the slot undecided ([`FiringResult::Deferred`]) instead of skipping it when too many tasks are open, so
    /// that the caller can try again.
    pub buffer: bool,
    /// True for a past slot that a user requested: it fires in a pause too, and when it was recorded as missed.
    /// `last_slot` does not move, so that undecided slots are decided as usual.
    pub backfill: bool,
}

/// Result of deciding a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FiringResult {
    /// Its task was accepted.
    Fired(TaskId),
    /// Recorded as skipped: too many earlier tasks are open.
    Skipped,
    /// Left undecided: too many earlier tasks are open, and `buffer` is set.
    Deferred,
    /// Recorded as missed.
    Missed,
    /// Another replica decided it before.
    AlreadyDecided,
    /// The schedule does not exist, or is paused and this is no backfill.
    NotActive,
}

/// A decided slot.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SlotRecord {
    /// Nominal time.
    pub slot: Timestamp,
    /// Decision.
    pub state: SlotState,
    /// Its task, if it fired.
    pub task: Option<TaskId>,
    /// Time of the decision.
    pub decided_at: Timestamp,
}

/// Stored decision about a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// Its task was accepted.
    Fired = 0,
    /// The overlap policy skipped it.
    Skipped = 1,
    /// It passed while no process was running.
    Missed = 2,
}

/// Changes of schedules; see [`ScheduleStore::schedules_since`].
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleChanges {
    /// Changed schedules.
    pub changed: Vec<ScheduleRecord>,
    /// Total number of schedules.
    pub total: u64,
}

/// Merges a new record into the stored one of the same name; every backend uses it.
pub(crate) fn merge(old: &ScheduleRecord, mut new: ScheduleRecord) -> ScheduleRecord {
    if new.from_file {
        (new.paused, new.missed, new.skipped) = (old.paused, old.missed, old.skipped);
    }
    if new.spec.timing != old.spec.timing {
        new.last_slot = None;
    } else {
        new.created_at = old.created_at;
        // Decided slots stay decided, whatever the caller had read before.
        new.last_slot = if new.from_file { old.last_slot } else { new.last_slot.max(old.last_slot) };
    }
    new
}

/// Stores schedules and their slots.
#[async_trait]
pub trait ScheduleStore: Send + Sync + 'static {
    /// Creates or changes schedules in one transaction; of several with one name the last counts. A definition from a
    /// file keeps `paused`, `last_slot` and the counters of an existing schedule. A schedule with changed timing starts
    /// at `record.created_at` again. Returns the stored records in the order of `records`.
    async fn put_schedules(&self, records: Vec<ScheduleRecord>) -> Result<Vec<ScheduleRecord>, StoreError>;

    /// Pauses or resumes a schedule. Resuming skips the slots of the pause: `last_slot` becomes `now`. Returns `None`
    /// for an unknown schedule.
    async fn set_paused(&self, name: &str, paused: bool, now: Timestamp) -> Result<Option<ScheduleRecord>, StoreError>;

    /// Deletes schedules and retains their slots. Returns the number of deleted schedules.
    async fn delete_schedules(&self, names: &[String]) -> Result<u64, StoreError>;

    /// Returns a schedule.
    async fn schedule(&self, name: &str) -> Result<Option<ScheduleRecord>, StoreError>;

    /// Returns up to `limit` schedules after `after`, by name.
    async fn schedules(&self, after: Option<&str>, limit: usize) -> Result<Page<ScheduleRecord>, StoreError>;

    /// Returns a number, at least 1, that grows whenever a schedule is created, changed, paused or deleted, and not
    /// when slots are decided. Its cost does not depend on the number of schedules.
    async fn schedule_revision(&self) -> Result<u64, StoreError>;

    /// Returns schedules that changed after a revision, in any order: all after 0, none after `u64::MAX`. Deleted ones
    /// only show in `total`.
    async fn schedules_since(&self, revision: u64) -> Result<ScheduleChanges, StoreError>;

    /// Decides slots independently of one another: the unique slot row, its task, `last_slot` and the counters in one
    /// transaction. The results are in the order of the firings. After an error no slot was decided.
    async fn fire(&self, firings: Vec<Firing>, now: Timestamp) -> Result<Vec<FiringResult>, StoreError>;

    /// Returns the last slots of a schedule, newest first.
    async fn slots(&self, name: &str, limit: usize) -> Result<Vec<SlotRecord>, StoreError>;

    /// Returns the decided ones of `slots`, in any order.
    async fn slots_at(&self, name: &str, slots: &[Timestamp]) -> Result<Vec<SlotRecord>, StoreError>;
}
