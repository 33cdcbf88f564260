//! `/v1/schedules`: when agents run by themselves.

use agentry_core::id::TaskId;
use agentry_core::schedule::{Overlap, ScheduleSpec};
use agentry_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// A schedule.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Schedule)]
pub struct ScheduleView {
    /// Its name.
    pub name: String,
    /// The agent that runs.
    pub agent: String,
    /// Whether it comes from an agent file.
    pub from_file: bool,
    /// Whether it is paused by hand.
    pub paused: bool,
    /// When and what: `timing`, `input`, `timeout_ms`, `enabled`, `overlap`, `catchup_ms`, `jitter_ms`.
    #[schema(value_type = Object)]
    pub spec: ScheduleSpec,
    /// The last slot that was decided.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_slot: Option<Timestamp>,
    /// The slots to come, five when nobody asks for more; none while it is paused or disabled.
    #[schema(value_type = Vec<String>)]
    pub next_slots: Vec<Timestamp>,
    /// Slots counted as missed.
    pub missed: u64,
    /// Slots skipped by the overlap policy.
    pub skipped: u64,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A schedule with its last slots.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ScheduleDetail {
    /// The schedule.
    #[serde(flatten)]
    pub schedule: ScheduleView,
    /// What became of its last slots, newest first, at most twenty.
    #[schema(value_type = Vec<Object>)]
    pub last_slots: Vec<SlotView>,
}

/// A slot that was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotView {
    /// The nominal time.
    pub slot: Timestamp,
    /// `fired`, `skipped` or `missed`.
    pub state: SlotOutcome,
    /// Its task, when it fired.
    pub task: Option<TaskId>,
    /// When it was decided.
    pub decided_at: Timestamp,
}

/// What became of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotOutcome {
    /// Its task was accepted.
    Fired,
    /// The overlap policy skipped it.
    Skipped,
    /// It came and went while nobody was there.
    Missed,
}

/// What can be set of a schedule: the keys of `schedule_config`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleRequest {
    /// Its name, when it is made.
    pub name: Option<String>,
    /// The agent that runs.
    pub agent: Option<String>,
    /// A cron expression of five or six fields, or a nickname such as `@daily`.
    pub cron: Option<String>,
    /// IANA time zone of `cron`; UTC when absent.
    pub timezone: Option<String>,
    /// Instead of `cron`: every so many seconds, at least 1.
    pub interval_seconds: Option<f64>,
    /// What each task gets as its input.
    #[serde(alias = "task_data")]
    pub input: Option<Value>,
    /// Running time of each task, in seconds.
    pub timeout_seconds: Option<f64>,
    /// Whether it fires; true when absent.
    pub enabled: Option<bool>,
    /// `skip` (default), `buffer_one` or `allow_all`.
    #[schema(value_type = Option<String>)]
    pub overlap: Option<Overlap>,
    /// Slots missed by at most this many seconds are fired late; 60 when absent.
    pub catchup_window_seconds: Option<f64>,
    /// A task starts up to this many seconds after its slot.
    pub jitter_seconds: Option<f64>,
    /// Pause or resume; slots of a pause are passed over.
    pub paused: Option<bool>,
}

/// What to show of a schedule.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ScheduleDetailQuery {
    /// Slots to come that are shown, 0 to 100; 5 when absent.
    pub next: Option<usize>,
}

/// Which slots are to fire.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a range: an object with `from` and `to`")]
pub struct BackfillRequest {
    /// The first moment of the range: RFC 3339, or `YYYY-MM-DD` for the start of a UTC day.
    pub from: String,
    /// The last moment of the range; not in the future.
    pub to: String,
    /// Slots that the range may have, 1 to 10,000; with more, none fires. 1,000 when absent.
    pub limit: Option<usize>,
    /// Only count.
    #[serde(default)]
    pub dry_run: bool,
}

/// What came of a backfill.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BackfillReply {
    /// The schedule.
    pub schedule: String,
    /// The first moment of the range.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// The last one.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// Slots of the range.
    pub slots: usize,
    /// Those that fired now; in a dry run, those that would.
    pub fired: usize,
    /// Those that had fired or were skipped before.
    pub already_decided: usize,
    /// Whether nothing was done.
    pub dry_run: bool,
}
