//! Schedules and their slots.

use agentry_core::id::TaskId;
use agentry_core::schedule::ScheduleRecord;
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use super::NewTask;
use crate::StoreError;

/// A slot to decide.
#[derive(Debug, Clone)]
pub struct Firing {
    /// The schedule.
    pub schedule: String,
    /// The slot's nominal time.
    pub slot: Timestamp,
    /// The task to accept in the same transaction; `None`: the slot is recorded as missed.
    pub task: Option<NewTask>,
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

/// Schedules.
#[async_trait]
pub trait ScheduleStore: Send + Sync + 'static {
    /// Makes or changes a schedule; `paused`, `last_slot` and the counters of an existing one are kept when the
    /// definition comes from a file. A schedule whose timing changed starts at `record.created_at` again.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn put_schedule(&self, record: ScheduleRecord) -> Result<ScheduleRecord, StoreError>;

    /// Pauses or resumes. On resume slots of the pause are passed over: `last_slot` becomes `now`. `None`: unknown.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn set_paused(&self, name: &str, paused: bool, now: Timestamp) -> Result<Option<ScheduleRecord>, StoreError>;

    /// Removes a schedule; its slots are kept for the record. False: unknown.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn delete_schedule(&self, name: &str) -> Result<bool, StoreError>;

    /// All schedules, by name.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn schedules(&self) -> Result<Vec<ScheduleRecord>, StoreError>;

    /// Decides slots, each by itself: the slot row (unique), its task, `last_slot` and the counters in one
    /// transaction. Answers stand in the order of the firings.
    ///
    /// # Errors
    /// When the store is unavailable: then none was decided.
    async fn fire(&self, firings: Vec<Firing>, now: Timestamp) -> Result<Vec<FiringResult>, StoreError>;

    /// The last slots of a schedule, newest first.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn slots(&self, name: &str, limit: usize) -> Result<Vec<SlotRecord>, StoreError>;

    /// Those of `slots` that are decided, in any order.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn slots_at(&self, name: &str, slots: &[Timestamp]) -> Result<Vec<SlotRecord>, StoreError>;
}
