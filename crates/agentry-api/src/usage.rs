//! `/v1/usage`: usage and cost.

use agentry_core::agent::{AgentName, ProviderKind};
use agentry_core::chat::Usage;
use agentry_core::id::{CallId, TaskId};
use agentry_core::money::{CallStatus, LedgerRow, NanoUsd};
use agentry_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The dimension of usage sums.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageDimension {
    /// One row for each agent.
    #[default]
    Agent,
    /// One row for each provider and model.
    Model,
    /// One row for each UTC day.
    Day,
    /// One row for each task, the most expensive first, at most 1,000.
    Task,
}

/// The query of usage sums.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsageQuery {
    /// Dimension: `agent` (default), `model`, `day` or `task`.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    pub by: UsageDimension,
    /// Start of the span (inclusive): RFC 3339 or `YYYY-MM-DD`. Default: 30 days before `to`.
    pub from: Option<String>,
    /// End of the span (exclusive). Default: now.
    pub to: Option<String>,
}

/// Usage sums over a span.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UsageReply {
    /// Start of the span (inclusive).
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// End of the span (exclusive).
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// One sum per key.
    pub rows: Vec<UsageSum>,
    /// The sum of the rows.
    pub total: UsageSum,
}

/// A sum of provider calls.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct UsageSum {
    /// Key of the sum: agent, `provider/model`, day or task.
    pub key: String,
    /// Number of provider calls.
    pub calls: u64,
    /// Number of failed calls.
    pub failed_calls: u64,
    /// Number of calls without a price, whose cost is not included.
    pub unpriced_calls: u64,
    /// Input tokens.
    pub input_tokens: u64,
    /// Input tokens read from the cache of the provider.
    pub cached_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Cost of the priced calls in US dollars, as an exact decimal number.
    pub cost_usd: String,
    /// Cost of the priced calls in billionths of a US dollar.
    #[schema(value_type = i64)]
    pub cost_nanos: NanoUsd,
}

/// The query of a list of provider calls.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CallsQuery {
    /// Start of the span (inclusive): RFC 3339 or `YYYY-MM-DD`. Default: 30 days before `to`.
    pub from: Option<String>,
    /// End of the span (exclusive). Default: now.
    pub to: Option<String>,
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
    /// Rows of the page, 1 to 1,000. Default: 50.
    pub limit: Option<usize>,
}

/// A provider call: a row of the usage ledger.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CallView {
    /// Id of the call, sent to the provider as `x-request-id`.
    #[schema(value_type = String)]
    pub call: CallId,
    /// Id that the provider gave the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub provider_call: Option<Box<str>>,
    /// Task of the call; repeats `call` if the task was deleted.
    #[schema(value_type = String)]
    pub task: TaskId,
    /// Agent of the task.
    #[schema(value_type = String)]
    pub agent: AgentName,
    /// Provider.
    #[schema(value_type = String)]
    pub provider: ProviderKind,
    /// Requested model.
    pub model: String,
    /// Status: `completed` or `failed`.
    #[schema(value_type = String)]
    pub status: CallStatus,
    /// Tokens as the provider counted them.
    #[schema(value_type = Object)]
    pub usage: Usage,
    /// Cost in billionths of a US dollar; absent if the model has no price.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub cost_nanos: Option<NanoUsd>,
    /// Time of the end.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Duration in microseconds.
    pub duration_us: u64,
}

impl From<LedgerRow> for CallView {
    fn from(row: LedgerRow) -> Self {
        Self {
            call: row.call,
            provider_call: row.provider_call,
            task: row.task,
            agent: row.agent,
            provider: row.provider,
            model: row.model,
            status: row.status,
            usage: row.usage,
            cost_nanos: row.cost,
            at: row.at,
            duration_us: row.duration_us,
        }
    }
}
