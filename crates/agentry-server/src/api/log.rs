//! `/v1/log`: the log filter of this process.

use std::time::Duration;

use agentry_api::{LogChange, LogView};
use axum::extract::State;
use axum::response::IntoResponse;

use crate::extract::Json;
use crate::log::{BadLogFilter, LogState};
use crate::problem::{ApiProblem, ApiResult, Code, FieldError, ProblemBody};
use crate::state::AppState;

/// The longest duration of a temporary filter: one day.
const MAX_SECONDS: u32 = 86_400;

fn log_view(state: LogState) -> LogView {
    let (then, remaining) = state.then.unzip();
    LogView { filter: state.filter, then, remaining_seconds: remaining.map(|left| left.as_secs()) }
}

/// Returns the log filter
#[utoipa::path(
    get, path = "/v1/log", tag = "server",
    responses((status = 200, description = "The filter", body = LogView))
)]
pub(crate) async fn get(State(state): State<AppState>) -> ApiResult {
    Ok(axum::Json(log_view(state.deps.log.current())).into_response())
}

/// Sets the log filter
///
/// Takes effect at once, for this process only, until it ends.
#[utoipa::path(
    put, path = "/v1/log", tag = "server", request_body = LogChange,
    responses(
        (status = 200, description = "The current filter", body = LogView),
        (status = 400, description = "Invalid filter; nothing was changed", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is invalid", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn put(State(state): State<AppState>, Json(change): Json<LogChange>) -> ApiResult {
    let time = match change.for_seconds {
        None => None,
        Some(seconds @ 1..=MAX_SECONDS) => Some(Duration::from_secs(u64::from(seconds))),
        Some(other) => return Err(ApiProblem::field("/for_seconds", format!("is {other}: use 1 to {MAX_SECONDS}"))),
    };
    state.deps.log.set(&change.filter, time).map_err(bad)?;
    Ok(axum::Json(log_view(state.deps.log.current())).into_response())
}

fn bad(BadLogFilter(detail): BadLogFilter) -> ApiProblem {
    let mut problem = ApiProblem::new(Code::BadLogFilter, format!("the log filter is not one: {detail}"));
    problem.errors.push(FieldError { pointer: "/filter".to_owned(), detail });
    problem
}
