//! `/v1/usage`: what was spent.

use agentry_core::agent::{AgentName, ProviderKind};
use agentry_core::chat::Usage;
use agentry_core::id::{CallId, TaskId};
use agentry_core::money::{CallStatus, LedgerRow, NanoUsd};
use agentry_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What to sum over.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
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

/// What to sum.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsageQuery {
    /// `agent` (default), `model`, `day` or `task`.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    pub by: By,
    /// From this moment on: RFC 3339 or `YYYY-MM-DD`; 30 days before `to` when absent.
    pub from: Option<String>,
    /// Before this moment; now when absent.
    pub to: Option<String>,
}

/// Sums over a span of time.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UsageReply {
    /// From this moment on.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// Before this moment.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// The sums, by key.
    pub rows: Vec<UsageSum>,
    /// The sum of the rows.
    pub total: UsageSum,
}

/// A sum of ledger rows.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct UsageSum {
    /// The agent, `provider/model`, day, or task.
    pub key: String,
    /// Provider calls.
    pub calls: u64,
    /// Those that failed.
    pub failed_calls: u64,
    /// Those without a price; their cost is in no sum.
    pub unpriced_calls: u64,
    /// Tokens sent.
    pub input_tokens: u64,
    /// Those of them found in the provider's cache.
    pub cached_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// What the priced calls cost, in US dollars: an exact decimal number.
    pub cost_usd: String,
    /// The same in billionths of a dollar.
    #[schema(value_type = i64)]
    pub cost_nanos: NanoUsd,
}

/// Which provider calls to list.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CallsQuery {
    /// From this moment on: RFC 3339 or `YYYY-MM-DD`; 30 days before `to` when absent.
    pub from: Option<String>,
    /// Before this moment; now when absent.
    pub to: Option<String>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Rows, 1 to 1,000; 50 when absent.
    pub limit: Option<usize>,
}

/// A provider call: a row of the ledger.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CallView {
    /// Its id, which went to the provider as `x-request-id`.
    #[schema(value_type = String)]
    pub call: CallId,
    /// The provider's own name of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub provider_call: Option<Box<str>>,
    /// The task; the call again when the task is forgotten.
    #[schema(value_type = String)]
    pub task: TaskId,
    /// The agent.
    #[schema(value_type = String)]
    pub agent: AgentName,
    /// The provider.
    #[schema(value_type = String)]
    pub provider: ProviderKind,
    /// The model asked for.
    pub model: String,
    /// `completed` or `failed`.
    #[schema(value_type = String)]
    pub status: CallStatus,
    /// Tokens as the provider counted them.
    #[schema(value_type = Object)]
    pub usage: Usage,
    /// What it cost in billionths of a dollar; absent: unpriced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub cost_nanos: Option<NanoUsd>,
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// How long it took, in microseconds.
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
