//! Processes: workers, logs, health, reports.

use std::borrow::Cow;
use std::collections::BTreeMap;

use agentry_core::time::Timestamp;
use agentry_core::worker::WorkerRecord;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A registered process: `id`, `host`, `roles`, `modes`, `slots`, `busy`, `started_at`, `heartbeat_at`, `alive`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Worker)]
pub struct WorkerView {
    /// The stored record.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub worker: WorkerRecord,
    /// True if its last heartbeat is recent.
    pub alive: bool,
}

/// The log filter of a process.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LogView {
    /// The current filter.
    pub filter: String,
    /// The filter after the end of a temporary one; absent if `filter` is permanent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
    /// Remaining time of a temporary filter, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_seconds: Option<u64>,
}

/// A change of the log filter.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogChange {
    /// A level, or levels of modules, such as `info,agentry_bus=debug`.
    pub filter: String,
    /// Seconds until the previous filter is restored, 1 to 86,400. Default: until the process ends.
    #[serde(default)]
    pub for_seconds: Option<u32>,
}

/// The liveness of a process.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Live)]
pub struct LiveReply {
    /// Always `ok`.
    pub status: Cow<'static, str>,
    /// Version of Agentry.
    pub version: Cow<'static, str>,
    /// Engine: `embedded` or `cluster`.
    pub engine: Cow<'static, str>,
}

/// The readiness of a process, by check.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Ready)]
pub struct ReadyReply {
    /// `ready`, `degraded` (an optional check failed) or `not_ready` (a required check failed).
    pub status: Cow<'static, str>,
    /// Checks by name: `store`, `queue`, `workers`, `shutdown`; with the cluster engine also `bus` and `cache`.
    #[schema(value_type = Object)]
    pub checks: BTreeMap<Cow<'static, str>, ReadinessCheck>,
}

/// The result of a readiness check.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Check)]
pub struct ReadinessCheck {
    /// True if the check passed.
    pub ok: bool,
    /// True if the process is not ready without it.
    pub required: bool,
    /// Description for people.
    pub detail: String,
}

/// A report of the validation suite.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReportView {
    /// Name of the report.
    pub name: String,
    /// Time of creation.
    #[schema(value_type = String, format = DateTime)]
    pub written_at: Timestamp,
}

/// The reports of the validation suite.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReportList {
    /// Folder of the reports.
    pub folder: String,
    /// At most 200 reports, newest first.
    pub items: Vec<ReportView>,
}
