//! `/v1/usage`: what was spent, summed over ledger rows.

use std::time::Duration;

use agentry_api::{By, CallView, CallsQuery, List, UsageQuery, UsageReply, UsageSum, decimal_usd};
use agentry_core::agent::AgentName;
use agentry_core::money::LedgerRow;
use agentry_core::time::Timestamp;
use agentry_store::{CallCursor, UsageGroup, UsageRow};
use axum::extract::State;
use axum::response::IntoResponse;

use super::views::list_reply;
use crate::extract::{Query, from_cursor, moment, page_size};
use crate::problem::{Answer, Code, Problem, ProblemBody};
use crate::state::AppState;

/// How far back the sums go when the caller does not say: 30 days.
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
    list_reply(page, place, CallView::from)
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
    let rows: Vec<UsageSum> = state.store().usage(group, from, to).await?.into_iter().map(sum_of).collect();
    let total = total(&rows);
    Ok(axum::Json(UsageReply { from, to, rows, total }).into_response())
}
