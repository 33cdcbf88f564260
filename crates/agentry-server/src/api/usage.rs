//! `/v1/usage`: what was spent, summed over ledger rows.

use std::time::Duration;

use agentry_core::money::NanoUsd;
use agentry_core::time::Timestamp;
use agentry_store::{UsageGroup, UsageRow};
use axum::extract::State;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::views::decimal_usd;
use crate::extract::Query;
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
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsageQuery {
    /// `agent` (default), `model` or `day`.
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
    /// The agent, `provider/model`, or day.
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

/// A moment as RFC 3339, or the start of a UTC day.
fn moment(name: &str, text: Option<&str>) -> Answer<Option<Timestamp>> {
    let Some(text) = text else { return Ok(None) };
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    serde_json::from_value(serde_json::Value::String(whole)).map(Some).map_err(|_| {
        Problem::new(Code::InvalidQuery, format!("`{name}` is not a time: use 2026-11-23 or 2026-11-23T09:00:00Z"))
    })
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
    let to = moment("to", query.to.as_deref())?.unwrap_or_else(|| state.now());
    let back = i64::try_from(DEFAULT_SPAN.as_micros()).unwrap_or(i64::MAX);
    let from = moment("from", query.from.as_deref())?.unwrap_or(Timestamp(to.0.saturating_sub(back)));
    if from >= to {
        return Err(Problem::new(Code::InvalidQuery, format!("`from` ({from}) is not before `to` ({to})")));
    }
    let group = match query.by {
        By::Agent => UsageGroup::Agent,
        By::Model => UsageGroup::Model,
        By::Day => UsageGroup::Day,
    };
    let rows: Vec<UsageSum> = state.store().usage(group, from, to).await?.into_iter().map(UsageSum::from).collect();
    let total = total(&rows);
    Ok(axum::Json(UsageReply { from, to, rows, total }).into_response())
}
