//! What was spent: sums of ledger rows.

use agentry_core::agent::AgentName;
use agentry_core::id::{CallId, TaskId};
use agentry_core::money::{LedgerRow, NanoUsd};
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use crate::{Page, StoreError};

/// The key of what was spent by tasks that are forgotten.
pub(crate) const FORGOTTEN: &str = "(forgotten)";

/// What to sum over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageGroup {
    /// One row for each agent.
    Agent,
    /// One row for each provider and model.
    Model,
    /// One row for each UTC day.
    Day,
    /// One row for each task, the most expensive first: at most [`crate::MAX_PAGE`].
    Task,
}

/// A place in the list of calls: after this agent's call of this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallCursor {
    /// The agent.
    pub agent: AgentName,
    /// When the call ended.
    pub at: Timestamp,
    /// The call.
    pub call: CallId,
}

/// A sum.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct UsageRow {
    /// The agent, `provider/model`, day, or task.
    pub key: String,
    /// Provider calls.
    pub calls: u64,
    /// Those that failed.
    pub failed_calls: u64,
    /// Those without a price.
    pub unpriced_calls: u64,
    /// Tokens sent.
    pub input_tokens: u64,
    /// Those of them found in the provider's cache.
    pub cached_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// What the priced calls cost.
    pub cost_nanos: NanoUsd,
}

/// What was spent.
#[async_trait]
pub trait UsageStore: Send + Sync + 'static {
    /// Sums over `[from, to)`, by key.
    async fn usage(&self, group: UsageGroup, from: Timestamp, to: Timestamp) -> Result<Vec<UsageRow>, StoreError>;

    /// What an agent spent in `[from, to)`.
    async fn spent(&self, agent: &AgentName, from: Timestamp, to: Timestamp) -> Result<NanoUsd, StoreError>;

    /// The ledger rows of `[from, to)` by agent, time and call, after a place in that order, at most `limit`. A row whose
    /// task is forgotten may name the call in its place.
    async fn calls(
        &self,
        from: Timestamp,
        to: Timestamp,
        after: Option<CallCursor>,
        limit: usize,
    ) -> Result<Page<LedgerRow>, StoreError>;

    /// The ledger rows of a task, oldest first.
    async fn ledger(&self, task: TaskId) -> Result<Vec<LedgerRow>, StoreError>;
}
