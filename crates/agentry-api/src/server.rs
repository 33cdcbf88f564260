//! The processes: workers, logs, health, reports.

use std::borrow::Cow;
use std::collections::BTreeMap;

use agentry_core::time::Timestamp;
use agentry_core::worker::WorkerRecord;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A worker: `id`, `host`, `roles`, `modes`, `slots`, `busy`, `started_at`, `heartbeat_at`, and whether it lives.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Worker)]
pub struct WorkerView {
    /// The worker.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub worker: WorkerRecord,
    /// Whether its last heartbeat is recent enough.
    pub alive: bool,
}

/// All workers.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WorkerList {
    /// The workers that are registered.
    pub items: Vec<WorkerView>,
}

/// What is logged.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LogView {
    /// The filter that holds now.
    pub filter: String,
    /// The one that holds again when the time of `filter` is over; absent when it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
    /// For how many seconds `filter` still holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_seconds: Option<u64>,
}

/// What to log.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogChange {
    /// A level, or levels of modules: `info,agentry_bus=debug`.
    pub filter: String,
    /// Seconds after which the filter before holds again, 1 to 86,400; without it, until the process ends.
    #[serde(default)]
    pub for_seconds: Option<u32>,
}

/// Whether the process runs at all.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Live {
    /// `ok`.
    pub status: Cow<'static, str>,
    /// The version of Agentry.
    pub version: Cow<'static, str>,
    /// `embedded` or `cluster`.
    pub engine: Cow<'static, str>,
}

/// Whether this process can do its part, per dependency.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// `ready`; `degraded` when something is missing that this process can do without for a while; `not_ready`.
    pub status: Cow<'static, str>,
    /// The checks, by name: `store`, `queue`, `workers`, `shutdown`; on the cluster engine also `bus` and `cache`.
    #[schema(value_type = Object)]
    pub checks: BTreeMap<Cow<'static, str>, Check>,
}

/// One check.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// Whether it is as it must be.
    pub ok: bool,
    /// Whether this process is of no use while it is not.
    pub required: bool,
    /// What was found.
    pub detail: String,
}

/// A report.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReportView {
    /// The name of its folder.
    pub name: String,
    /// When it was written.
    #[schema(value_type = String, format = DateTime)]
    pub written_at: Timestamp,
}

/// Reports.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReportList {
    /// Where they are looked for.
    pub folder: String,
    /// The newest first, 200 at most.
    pub items: Vec<ReportView>,
}
