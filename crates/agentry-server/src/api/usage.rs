//! `/v1/usage`: what was spent, summed over ledger rows.

use std::time::Duration;

use agentry_core::agent::{AgentName, ProviderKind};
use agentry_core::chat::Usage;
use agentry_core::id::{CallId, TaskId};
use agentry_core::money::{CallStatus, LedgerRow, NanoUsd};
use agentry_core::time::Timestamp;
use agentry_store::{CallCursor, UsageGroup, UsageRow};
use axum::extract::State;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::views::{List, decimal_usd};
use crate::extract::{Query, from_cursor, moment, page_size, to_cursor};
use crate::problem::{Answer, Code, Problem, ProblemBody};
use crate::state::AppState;

/// How far back the sums go when the caller does not say: 30 days.
const DEFAULT_SPAN: Duration = Duration::from_secs(30 * 86_400);

/// What to sum over.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum By {
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

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsageQuery {
    /// `agent` (default), `model`, `day` or `task`.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    by: By,
    /// From this moment on: RFC 3339 or `YYYY-MM-DD`; 30 days before `to` when absent.
    from: Option<String>,
    /// Before this moment; now when absent.
    to: Option<String>,
}

/// Sums over a span of time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageReply {
    /// From this moment on.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// Before this moment.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
    /// The sums, by key.
    rows: Vec<UsageSum>,
    /// The sum of the rows.
    total: UsageSum,
}

/// A sum of ledger rows.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct UsageSum {
    /// The agent, `provider/model`, day, or task.
    key: String,
    /// Provider calls.
    calls: u64,
    /// Those that failed.
    failed_calls: u64,
    /// Those without a price; their cost is in no sum.
    unpriced_calls: u64,
    /// Tokens sent.
    input_tokens: u64,
    /// Those of them found in the provider's cache.
    cached_tokens: u64,
    /// Tokens received.
    output_tokens: u64,
    /// What the priced calls cost, in US dollars: an exact decimal number.
    cost_usd: String,
    /// The same in billionths of a dollar.
    #[schema(value_type = i64)]
    cost_nanos: NanoUsd,
}

impl From<UsageRow> for UsageSum {
    fn from(row: UsageRow) -> Self {
        Self {
            key: row.key,
            calls: row.calls,
            failed_calls: row.failed_calls,
            unpriced_calls: row.unpriced_calls,
            input_tokens: row.input_tokens,
            cached_tokens: row.cached_tokens,
            output_tokens: row.output_tokens,
            cost_usd: decimal_usd(row.cost_nanos),
            cost_nanos: row.cost_nanos,
        }
    }
}

fn total(rows: &[UsageSum]) -> UsageSum {
    let mut total = UsageSum { key: "total".to_owned(), ..UsageSum::default() };
    for row in rows {
        total.calls += row.calls;
        total.failed_calls += row.failed_calls;
        total.unpriced_calls += row.unpriced_calls;
        total.input_tokens += row.input_tokens;
        total.cached_tokens += row.cached_tokens;
        total.output_tokens += row.output_tokens;
        total.cost_nanos = total.cost_nanos.plus(row.cost_nanos);
    }
    total.cost_usd = decimal_usd(total.cost_nanos);
    total
}

/// A moment of the query.
fn in_query(name: &str, text: Option<&str>) -> Answer<Option<Timestamp>> {
    let Some(text) = text else { return Ok(None) };
    moment(text).map(Some).ok_or_else(|| {
        Problem::new(Code::InvalidQuery, format!("`{name}` is not a time: use 2026-11-23 or 2026-11-23T09:00:00Z"))
    })
}

/// From when to when, with defaults.
fn span(state: &AppState, from: Option<&str>, to: Option<&str>) -> Answer<(Timestamp, Timestamp)> {
    let to = in_query("to", to)?.unwrap_or_else(|| state.now());
    let back = i64::try_from(DEFAULT_SPAN.as_micros()).unwrap_or(i64::MAX);
    let from = in_query("from", from)?.unwrap_or(Timestamp(to.0.saturating_sub(back)));
    if from >= to {
        return Err(Problem::new(Code::InvalidQuery, format!("`from` ({from}) is not before `to` ({to})")));
    }
    Ok((from, to))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CallsQuery {
    /// From this moment on: RFC 3339 or `YYYY-MM-DD`; 30 days before `to` when absent.
    from: Option<String>,
    /// Before this moment; now when absent.
    to: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Rows, 1 to 1,000; 50 when absent.
    limit: Option<usize>,
}

/// A provider call: a row of the ledger.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CallView {
    /// Its id, which went to the provider as `x-request-id`.
    #[schema(value_type = String)]
    call: CallId,
    /// The provider's own name of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    provider_call: Option<Box<str>>,
    /// The task; the call again when the task is forgotten.
    #[schema(value_type = String)]
    task: TaskId,
    /// The agent.
    #[schema(value_type = String)]
    agent: AgentName,
    /// The provider.
    #[schema(value_type = String)]
    provider: ProviderKind,
    /// The model asked for.
    model: String,
    /// `completed` or `failed`.
    #[schema(value_type = String)]
    status: CallStatus,
    /// Tokens as the provider counted them.
    #[schema(value_type = Object)]
    usage: Usage,
    /// What it cost in billionths of a dollar; absent: unpriced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    cost_nanos: Option<NanoUsd>,
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// How long it took, in microseconds.
    duration_us: u64,
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

/// A place in the list, as its cursor has it: agent, moment and call apart by spaces.
struct Place(CallCursor);

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.0.agent, self.0.at.0, self.0.call)
    }
}

impl std::str::FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(' ');
        let (agent, at, call) = (parts.next().ok_or(())?, parts.next().ok_or(())?, parts.next().ok_or(())?);
        Ok(Self(CallCursor {
            agent: AgentName::new(agent).map_err(|_| ())?,
            at: Timestamp(at.parse().map_err(|_| ())?),
            call: call.parse().map_err(|_| ())?,
        }))
    }
}

/// Lists provider calls by agent and time: the rows of the ledger
#[utoipa::path(
    get, path = "/v1/usage/calls", tag = "usage", params(CallsQuery),
    responses(
        (status = 200, description = "A page of calls", body = List<CallView>),
        (status = 422, description = "A parameter is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn calls(State(state): State<AppState>, Query(query): Query<CallsQuery>) -> Answer {
    let limit = page_size(query.limit)?;
    let (from, to) = span(&state, query.from.as_deref(), query.to.as_deref())?;
    let after = from_cursor::<Place>(query.cursor.as_deref())?.map(|place| place.0);
    let page = state.store().calls(from, to, after, limit).await?;
    let place = |row: &LedgerRow| Place(CallCursor { agent: row.agent.clone(), at: row.at, call: row.call });
    let next_cursor = page.items.last().filter(|_| page.more).map(|row| to_cursor(&place(row)));
    Ok(axum::Json(List { items: page.items.into_iter().map(CallView::from).collect(), next_cursor }).into_response())
}

/// Sums what was spent
#[utoipa::path(
    get, path = "/v1/usage", tag = "usage", params(UsageQuery),
    responses(
        (status = 200, description = "The sums", body = UsageReply),
        (status = 422, description = "A parameter is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(State(state): State<AppState>, Query(query): Query<UsageQuery>) -> Answer {
    let (from, to) = span(&state, query.from.as_deref(), query.to.as_deref())?;
    let group = match query.by {
        By::Agent => UsageGroup::Agent,
        By::Model => UsageGroup::Model,
        By::Day => UsageGroup::Day,
        By::Task => UsageGroup::Task,
    };
    let rows: Vec<UsageSum> = state.store().usage(group, from, to).await?.into_iter().map(UsageSum::from).collect();
    let total = total(&rows);
    Ok(axum::Json(UsageReply { from, to, rows, total }).into_response())
}
