//! `POST /v1/schedules/{name}/backfill`: fires past slots that are undecided or missed.

use std::collections::HashSet;

use agentry_api::{BackfillReply, BackfillRequest};
use agentry_core::schedule::{ScheduleRecord, TimingError};
use agentry_core::time::Timestamp;
use agentry_store::SlotState;
use axum::extract::State;
use axum::response::IntoResponse;

use super::request::{refused, unavailable_agent};
use super::schedules::find;
use crate::extract::{Json, PathParam, RequestSpan, parse_time};
use crate::problem::{ApiProblem, ApiResult, Code, ProblemBody};
use crate::state::AppState;

/// The default limit of slots in the range.
const DEFAULT_LIMIT: usize = 1_000;
/// The largest limit of slots in the range.
const MAX_LIMIT: usize = 10_000;

/// Backfills past slots
///
/// Fires each slot in the range that is undecided (during a pause, or before the schedule was created) or missed, once and
/// regardless of the overlap policy. Repeating the request fires the remaining slots.
#[utoipa::path(
    post, path = "/v1/schedules/{name}/backfill", tag = "schedules", params(("name" = String, Path)),
    request_body = BackfillRequest,
    responses(
        (status = 200, description = "The number of fired slots", body = BackfillReply),
        (status = 404, description = "Unknown schedule, or its agent was removed", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The agent is invalid or disabled", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The range is reversed, in the future or has too many slots", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The queue is full; some slots may have fired", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn backfill(
    State(state): State<AppState>,
    PathParam(name): PathParam<String>,
    RequestSpan(span): RequestSpan,
    Json(request): Json<BackfillRequest>,
) -> ApiResult {
    let record = find(&state, &name).await?;
    state.intake().live(record.agent.as_str()).map_err(|why| unavailable_agent(&state, &why))?;
    let (from, to) = range(&request, &state)?;
    let limit = limit(&request)?;
    let slots = slots_of(&record, from, to, limit)?;
    let open = undecided(&state, &record, &slots).await?;
    let fired = if request.dry_run {
        open.len()
    } else {
        let fired = state.intake().backfill(&record, &open, span.propagate()).await;
        fired.map_err(|refusal| refused(&state, refusal))?
    };
    let already_decided = slots.len() - fired;
    let reply = BackfillReply {
        schedule: record.name,
        from,
        to,
        slots: slots.len(),
        fired,
        already_decided,
        dry_run: request.dry_run,
    };
    Ok(axum::Json(reply).into_response())
}

fn limit(request: &BackfillRequest) -> ApiResult<usize> {
    match request.limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        other => Err(ApiProblem::field("/limit", format!("is {other}: use 1 to {MAX_LIMIT}"))),
    }
}

/// Returns the range, which must not be in the future, nor older than the retention of slots.
fn range(request: &BackfillRequest, state: &AppState) -> ApiResult<(Timestamp, Timestamp)> {
    let read = |pointer: &str, text: &str| {
        parse_time(text).ok_or_else(|| {
            ApiProblem::field(pointer, "is not a time: use 2026-11-23T09:00:00Z or 2026-11-23".to_owned())
        })
    };
    let (from, to, now) = (read("/from", &request.from)?, read("/to", &request.to)?, state.now());
    if to < from {
        return Err(ApiProblem::field("/to", format!("is before `from` ({from})")));
    }
    if to > now {
        return Err(ApiProblem::field(
            "/to",
            format!("is in the future (now is {now}); coming slots fire by themselves"),
        ));
    }
    if let Some(kept) = state.deps.slots_kept
        && now.since(from) > kept
    {
        let days = kept.as_secs_f64() / 86_400.0;
        let text = format!("is older than slots are kept ({days:.1} days, `task_retention`): they might fire twice");
        return Err(ApiProblem::field("/from", text));
    }
    Ok((from, to))
}

/// Returns the slots of the range.
fn slots_of(record: &ScheduleRecord, from: Timestamp, to: Timestamp, limit: usize) -> ApiResult<Vec<Timestamp>> {
    let just_before = Timestamp(from.0.saturating_sub(1));
    let slots = match record.spec.timing.slots(just_before) {
        Ok(timing) => timing.between(just_before, to, limit + 1),
        Err(TimingError::Never(_)) => Vec::new(),
        Err(error) => {
            return Err(ApiProblem::new(Code::InvalidRequest, format!("`{}` has no slots: {error}", record.name)));
        }
    };
    if slots.len() > limit {
        let text = format!(
            "`{}` has more than {limit} slots from {from} to {to}: choose a shorter range, or a higher `limit` (at most \
             {MAX_LIMIT})",
            record.name
        );
        return Err(ApiProblem::field("/limit", text));
    }
    Ok(slots)
}

/// Returns the slots that are undecided or missed.
async fn undecided(state: &AppState, record: &ScheduleRecord, slots: &[Timestamp]) -> ApiResult<Vec<Timestamp>> {
    let rows = state.store().slots_at(&record.name, slots).await?;
    let decided: HashSet<Timestamp> =
        rows.iter().filter(|row| row.state != SlotState::Missed).map(|row| row.slot).collect();
    Ok(slots.iter().copied().filter(|slot| !decided.contains(slot)).collect())
}
