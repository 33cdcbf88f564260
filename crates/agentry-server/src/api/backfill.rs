//! `POST /v1/schedules/{name}/backfill`: fires slots of the past that nobody decided, or that were missed.

use std::collections::HashSet;

use agentry_api::{BackfillReply, BackfillRequest};
use agentry_core::schedule::{ScheduleRecord, TimingError};
use agentry_core::time::Timestamp;
use agentry_store::SlotState;
use axum::extract::State;
use axum::response::IntoResponse;

use super::request::{refused, unavailable_agent};
use super::schedules::find;
use crate::extract::{Id, Json, Traced, moment};
use crate::problem::{Answer, Code, Problem, ProblemBody};
use crate::state::AppState;

/// Slots that the range may have when the caller does not say.
const DEFAULT_LIMIT: usize = 1_000;
/// Slots that one request takes at most.
const MAX_LIMIT: usize = 10_000;

/// Fires slots of the past
///
/// Slots in the range that nobody decided, such as those of a pause or from before the schedule was made, and slots that
/// were missed, fire now, each once, whatever the overlap policy says. Asking again fires what is left.
#[utoipa::path(
    post, path = "/v1/schedules/{name}/backfill", tag = "schedules", params(("name" = String, Path)),
    request_body = BackfillRequest,
    responses(
        (status = 200, description = "How many slots fired", body = BackfillReply),
        (status = 404, description = "Unknown schedule, or its agent is gone", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The agent is invalid or disabled", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The range is reversed, in the future or has too many slots", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The queue is full; slots of the range may have fired", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn backfill(
    State(state): State<AppState>,
    Id(name): Id<String>,
    Traced(place): Traced,
    Json(request): Json<BackfillRequest>,
) -> Answer {
    let record = find(&state, &name).await?;
    state.intake().live(record.agent.as_str()).map_err(|why| unavailable_agent(&state, &why))?;
    let (from, to) = range(&request, &state)?;
    let limit = limit(&request)?;
    let slots = slots_of(&record, from, to, limit)?;
    let open = undecided(&state, &record, &slots).await?;
    let fired = if request.dry_run {
        open.len()
    } else {
        let fired = state.intake().backfill(&record, &open, place.propagate()).await;
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

fn limit(request: &BackfillRequest) -> Answer<usize> {
    match request.limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        other => Err(Problem::field("/limit", format!("is {other}: use 1 to {MAX_LIMIT}"))),
    }
}

/// The range, within what can be decided once: not in the future, and not so old that its slots may be forgotten.
fn range(request: &BackfillRequest, state: &AppState) -> Answer<(Timestamp, Timestamp)> {
    let read = |pointer: &str, text: &str| {
        moment(text)
            .ok_or_else(|| Problem::field(pointer, "is not a time: use 2026-11-23T09:00:00Z or 2026-11-23".to_owned()))
    };
    let (from, to, now) = (read("/from", &request.from)?, read("/to", &request.to)?, state.now());
    if to < from {
        return Err(Problem::field("/to", format!("is before `from` ({from})")));
    }
    if to > now {
        return Err(Problem::field("/to", format!("is in the future (now is {now}); coming slots fire by themselves")));
    }
    if let Some(kept) = state.deps.slots_kept
        && now.since(from) > kept
    {
        let days = kept.as_secs_f64() / 86_400.0;
        let text = format!("is older than slots are kept ({days:.1} days, `task_retention`): they might fire twice");
        return Err(Problem::field("/from", text));
    }
    Ok((from, to))
}

/// Every slot of the range.
fn slots_of(record: &ScheduleRecord, from: Timestamp, to: Timestamp, limit: usize) -> Answer<Vec<Timestamp>> {
    let just_before = Timestamp(from.0.saturating_sub(1));
    let slots = match record.spec.timing.slots(just_before) {
        Ok(timing) => timing.between(just_before, to, limit + 1),
        Err(TimingError::Never(_)) => Vec::new(),
        Err(error) => {
            return Err(Problem::new(Code::InvalidRequest, format!("`{}` has no slots: {error}", record.name)));
        }
    };
    if slots.len() > limit {
        let text = format!(
            "`{}` has more than {limit} slots from {from} to {to}: choose a shorter range, or a higher `limit` (at most \
             {MAX_LIMIT})",
            record.name
        );
        return Err(Problem::field("/limit", text));
    }
    Ok(slots)
}

/// Those that have not fired and were not skipped.
async fn undecided(state: &AppState, record: &ScheduleRecord, slots: &[Timestamp]) -> Answer<Vec<Timestamp>> {
    let rows = state.store().slots_at(&record.name, slots).await?;
    let decided: HashSet<Timestamp> =
        rows.iter().filter(|row| row.state != SlotState::Missed).map(|row| row.slot).collect();
    Ok(slots.iter().copied().filter(|slot| !decided.contains(slot)).collect())
}
