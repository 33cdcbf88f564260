//! `/v1/usage`: sums and rows of the usage ledger.

use std::time::Duration;

use agentry_api::{CallView, CallsQuery, List, UsageDimension, UsageQuery, UsageReply, UsageSum, decimal_usd};
use agentry_core::agent::AgentName;
use agentry_core::money::LedgerRow;
use agentry_core::time::Timestamp;
use agentry_store::{CallCursor, UsageGroup, UsageRow};
use axum::extract::State;
use axum::response::IntoResponse;

use super::views::list_reply;
use crate::extract::{Query, from_cursor, page_size, parse_time};
use crate::problem::{ApiProblem, ApiResult, Code, ProblemBody};
use crate::state::AppState;

/// The default span: 30 days.
const DEFAULT_SPAN: Duration = Duration::from_secs(30 * 86_400);

fn sum_of(row: UsageRow) -> UsageSum {
    UsageSum {
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

/// Parses a time of the query.
fn in_query(name: &str, text: Option<&str>) -> ApiResult<Option<Timestamp>> {
    let Some(text) = text else { return Ok(None) };
    parse_time(text).map(Some).ok_or_else(|| {
        ApiProblem::new(Code::InvalidQuery, format!("`{name}` is not a time: use 2026-11-23 or 2026-11-23T09:00:00Z"))
    })
}

/// Returns the span of the query, with defaults.
fn span(state: &AppState, from: Option<&str>, to: Option<&str>) -> ApiResult<(Timestamp, Timestamp)> {
    let to = in_query("to", to)?.unwrap_or_else(|| state.now());
    let back = i64::try_from(DEFAULT_SPAN.as_micros()).unwrap_or(i64::MAX);
    let from = in_query("from", from)?.unwrap_or(Timestamp(to.0.saturating_sub(back)));
    if from >= to {
        return Err(ApiProblem::new(Code::InvalidQuery, format!("`from` ({from}) is not before `to` ({to})")));
    }
    Ok((from, to))
}

/// The text of a cursor: agent, time and call, separated by spaces.
struct CursorText(CallCursor);

impl std::fmt::Display for CursorText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.0.agent, self.0.at.0, self.0.call)
    }
}

impl std::str::FromStr for CursorText {
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

/// Lists provider calls, by agent and time
#[utoipa::path(
    get, path = "/v1/usage/calls", tag = "usage", params(CallsQuery),
    responses(
        (status = 200, description = "A page of calls", body = List<CallView>),
        (status = 422, description = "A parameter is invalid", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn calls(State(state): State<AppState>, Query(query): Query<CallsQuery>) -> ApiResult {
    let limit = page_size(query.limit)?;
    let (from, to) = span(&state, query.from.as_deref(), query.to.as_deref())?;
    let after = from_cursor::<CursorText>(query.cursor.as_deref())?.map(|cursor| cursor.0);
    let page = state.store().calls(from, to, after, limit).await?;
    let cursor = |row: &LedgerRow| CursorText(CallCursor { agent: row.agent.clone(), at: row.at, call: row.call });
    list_reply(page, cursor, CallView::from)
}

/// Returns usage and cost
#[utoipa::path(
    get, path = "/v1/usage", tag = "usage", params(UsageQuery),
    responses(
        (status = 200, description = "The sums", body = UsageReply),
        (status = 422, description = "A parameter is invalid", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(State(state): State<AppState>, Query(query): Query<UsageQuery>) -> ApiResult {
    let (from, to) = span(&state, query.from.as_deref(), query.to.as_deref())?;
    let group = match query.by {
        UsageDimension::Agent => UsageGroup::Agent,
        UsageDimension::Model => UsageGroup::Model,
        UsageDimension::Day => UsageGroup::Day,
        UsageDimension::Task => UsageGroup::Task,
    };
    let rows: Vec<UsageSum> = state.store().usage(group, from, to).await?.into_iter().map(sum_of).collect();
    let total = total(&rows);
    Ok(axum::Json(UsageReply { from, to, rows, total }).into_response())
}
