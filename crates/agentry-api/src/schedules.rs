//! `/v1/schedules`: schedules of agents.

use agentry_core::id::TaskId;
use agentry_core::schedule::{Overlap, ScheduleSpec};
use agentry_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// A schedule of an agent.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Schedule)]
pub struct ScheduleView {
    /// Name of the schedule.
    pub name: String,
    /// Agent of its tasks.
    pub agent: String,
    /// True if it is defined in an agent file.
    pub from_file: bool,
    /// True if it is paused.
    pub paused: bool,
    /// Definition: `timing`, `input`, `timeout_ms`, `enabled`, `overlap`, `catchup_ms`, `jitter_ms`.
    #[schema(value_type = Object)]
    pub spec: ScheduleSpec,
    /// Last decided slot.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_slot: Option<Timestamp>,
    /// Next slots, 5 by default; none while the schedule is paused or disabled.
    #[schema(value_type = Vec<String>)]
    pub next_slots: Vec<Timestamp>,
    /// Number of missed slots.
    pub missed: u64,
    /// Number of slots skipped by the overlap policy.
    pub skipped: u64,
    /// Time of creation.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A schedule with its last slots.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ScheduleDetail {
    /// The schedule.
    #[serde(flatten)]
    pub schedule: ScheduleView,
    /// Last decided slots, newest first, at most 20.
    #[schema(value_type = Vec<Object>)]
    pub last_slots: Vec<SlotView>,
}

/// A decided slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotView {
    /// Nominal time.
    pub slot: Timestamp,
    /// Outcome: `fired`, `skipped` or `missed`.
    pub state: SlotOutcome,
    /// Task of a fired slot.
    pub task: Option<TaskId>,
    /// Time of the decision.
    pub decided_at: Timestamp,
}

/// The outcome of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotOutcome {
    /// A task was accepted for it.
    Fired,
    /// Skipped by the overlap policy.
    Skipped,
    /// Passed while no scheduler was running.
    Missed,
}

/// A schedule to create, or changes of one: the keys of `schedule_config`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleRequest {
    /// Name of a new schedule.
    pub name: Option<String>,
    /// Agent of its tasks.
    pub agent: Option<String>,
    /// A cron expression of five or six fields, or a nickname such as `@daily`.
    pub cron: Option<String>,
    /// IANA time zone of `cron`. Default: UTC.
    pub timezone: Option<String>,
    /// Interval in seconds, at least 1; an alternative to `cron`.
    pub interval_seconds: Option<f64>,
    /// Input of each task.
    #[serde(alias = "task_data")]
    pub input: Option<Value>,
    /// Timeout of each task, in seconds.
    pub timeout_seconds: Option<f64>,
    /// True if it fires. Default: true.
    pub enabled: Option<bool>,
    /// Overlap policy: `skip` (default), `buffer_one` or `allow_all`.
    #[schema(value_type = Option<String>)]
    pub overlap: Option<Overlap>,
    /// Slots missed by at most this many seconds fire late. Default: 60.
    pub catchup_window_seconds: Option<f64>,
    /// Random delay of each task after its slot, up to this many seconds. Default: 0.
    pub jitter_seconds: Option<f64>,
    /// True to pause the schedule; slots during a pause do not fire.
    pub paused: Option<bool>,
}

/// The query of a schedule.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ScheduleDetailQuery {
    /// Number of next slots, 0 to 100. Default: 5.
    pub next: Option<usize>,
}

/// A range of past slots to fire.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a range: an object with `from` and `to`")]
pub struct BackfillRequest {
    /// Start of the range (inclusive): RFC 3339, or `YYYY-MM-DD` for the start of a UTC day.
    pub from: String,
    /// End of the range (inclusive), not in the future.
    pub to: String,
    /// The most slots of the range, 1 to 10,000; with more, none fires. Default: 1,000.
    pub limit: Option<usize>,
    /// Count the slots without firing them.
    #[serde(default)]
    pub dry_run: bool,
}

/// The result of a backfill.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BackfillReply {
    /// Name of the schedule.
    pub schedule: String,
    /// Start of the range (inclusive).
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// End of the range (inclusive).
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// Number of slots in the range.
    pub slots: usize,
    /// Number of slots that fired, or would fire in a dry run.
    pub fired: usize,
    /// Number of slots that had fired or been skipped before.
    pub already_decided: usize,
    /// True if this was a dry run.
    pub dry_run: bool,
}
