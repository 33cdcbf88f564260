//! `/v1/overview`: the whole deployment in one answer.

use std::borrow::Cow;
use std::collections::HashMap;

use agentry_core::fleet::AgentState;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Overview {
    /// `embedded` or `cluster`.
    pub engine: Cow<'static, str>,
    /// The version of Agentry.
    pub version: Cow<'static, str>,
    /// How many agents are in each state, by its word.
    #[schema(value_type = Object)]
    pub agents: HashMap<AgentState, u64>,
    /// Tasks that have not ended, by status.
    pub tasks: OpenTasks,
    /// Seconds that the rates below cover: 600, or less when much happened.
    pub window_seconds: f64,
    /// What happened within the window.
    #[serde(flatten)]
    pub activity: Activity,
    /// What the priced calls of the UTC day cost, in US dollars.
    pub cost_usd_today: String,
    /// The sum of the daily budgets of agents that have one, in US dollars.
    pub budget_usd_day: Option<String>,
    /// Questions that wait for a person, 1,000 at most.
    pub questions_open: usize,
    /// Dead letters that wait for a decision, 1,000 at most.
    pub dead_letters_open: usize,
    /// Worker processes that are alive.
    pub workers_alive: usize,
    /// Worker processes that are registered.
    pub workers: usize,
}

/// Open tasks by status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs, reason = "the names say it")]
pub struct OpenTasks {
    pub queued: u64,
    pub running: u64,
    pub waiting: u64,
}

/// What happened lately with some tasks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Activity {
    /// Tasks accepted within the window.
    pub accepted: u64,
    /// Those of them that have ended.
    pub ended: u64,
    /// Those of them that failed or timed out.
    pub failed: u64,
    /// Those of them that wait for a worker.
    pub queued: u64,
    /// Tasks accepted in a minute.
    pub per_minute: f64,
    /// From acceptance to end, the 95th percentile, in milliseconds; absent when none ended.
    pub p95_ms: Option<f64>,
    /// Tasks accepted in each twelfth of the window, oldest first.
    pub spark: Vec<u32>,
}
