//! `/v1/overview`: a summary of the whole deployment.

use std::borrow::Cow;
use std::collections::HashMap;

use agentry_core::fleet::AgentState;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A summary of the deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Overview {
    /// Engine: `embedded` or `cluster`.
    pub engine: Cow<'static, str>,
    /// Version of Agentry.
    pub version: Cow<'static, str>,
    /// Number of agents by status.
    #[schema(value_type = Object)]
    pub agents: HashMap<AgentState, u64>,
    /// Number of open tasks by status.
    pub tasks: OpenTasks,
    /// Length of the window of `activity`, in seconds: 600, or less under high load.
    pub window_seconds: f64,
    /// Activity within the window.
    #[serde(flatten)]
    pub activity: Activity,
    /// Cost of the priced calls of the UTC day, in US dollars.
    pub cost_usd_today: String,
    /// Sum of the daily budgets of agents, in US dollars; absent without budgets.
    pub budget_usd_day: Option<String>,
    /// Number of open clarifications, at most 1,000.
    pub questions_open: usize,
    /// Number of open dead letters, at most 1,000.
    pub dead_letters_open: usize,
    /// Number of live worker processes.
    pub workers_alive: usize,
    /// Number of registered worker processes.
    pub workers: usize,
}

/// Number of open tasks by status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs, reason = "the names say it")]
pub struct OpenTasks {
    pub queued: u64,
    pub running: u64,
    pub waiting: u64,
}

/// Activity of tasks within a window.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Activity {
    /// Number of tasks accepted within the window.
    pub accepted: u64,
    /// Number of these tasks that have ended.
    pub ended: u64,
    /// Number of these tasks that failed or timed out.
    pub failed: u64,
    /// Number of these tasks that are queued.
    pub queued: u64,
    /// Accepted tasks per minute.
    pub per_minute: f64,
    /// 95th percentile of the time from acceptance to end, in milliseconds; absent if no task ended.
    pub p95_ms: Option<f64>,
    /// Tasks accepted in each twelfth of the window, oldest first.
    pub spark: Vec<u32>,
}
