//! Spending: sums of ledger rows.

use agentry_core::agent::AgentName;
use agentry_core::id::{CallId, TaskId};
use agentry_core::money::{LedgerRow, NanoUsd};
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use crate::{Page, StoreError};

/// Key of the sum over deleted tasks.
pub(crate) const FORGOTTEN: &str = "(forgotten)";

/// Grouping of sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageGroup {
    /// One row per agent.
    Agent,
    /// One row per provider and model.
    Model,
    /// One row per UTC day.
    Day,
    /// One row per task, the most expensive first, at most [`crate::MAX_PAGE`].
    Task,
}

/// A position in the list of calls: the last row that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallCursor {
    /// Agent of the call.
    pub agent: AgentName,
    /// End of the call.
    pub at: Timestamp,
    /// Id of the call.
    pub call: CallId,
}

/// Sums of a group.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct UsageRow {
    /// Agent, `provider/model`, day, or task.
    pub key: String,
    /// Number of provider calls.
    pub calls: u64,
    /// Number of failed calls.
    pub failed_calls: u64,
    /// Number of calls without a price.
    pub unpriced_calls: u64,
    /// Tokens sent.
    pub input_tokens: u64,
    /// Sent tokens that were found in the provider's cache.
    pub cached_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// Cost of the priced calls.
    pub cost_nanos: NanoUsd,
}

/// Sums of the ledger.
#[async_trait]
pub trait UsageStore: Send + Sync + 'static {
    /// Returns sums over `[from, to)`, by key.
    async fn usage(&self, group: UsageGroup, from: Timestamp, to: Timestamp) -> Result<Vec<UsageRow>, StoreError>;

    /// Returns an agent's spending in `[from, to)`.
    async fn spent(&self, agent: &AgentName, from: Timestamp, to: Timestamp) -> Result<NanoUsd, StoreError>;

    /// Returns up to `limit` ledger rows of `[from, to)` by agent, time and call, after a position in that order. A row
    /// whose task was deleted may name the call in its place.
    async fn calls(
        &self,
        from: Timestamp,
        to: Timestamp,
        after: Option<CallCursor>,
        limit: usize,
    ) -> Result<Page<LedgerRow>, StoreError>;

    /// Returns the ledger rows of a task, oldest first.
    async fn ledger(&self, task: TaskId) -> Result<Vec<LedgerRow>, StoreError>;
}
