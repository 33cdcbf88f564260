//! `/v1/schedules`: schedules of agents.

use agentry_api::{
    List, PageQuery, ScheduleDetail, ScheduleDetailQuery, ScheduleRequest, ScheduleView, SlotOutcome, SlotView,
    TaskReceipt,
};
use agentry_bus::Signal;
use agentry_core::schedule::{Overlap, ScheduleRecord, ScheduleSpec, Timing};
use agentry_core::time::Timestamp;
use agentry_store::{SlotRecord, SlotState};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::request::{refused, timeout, unavailable_agent};
use super::tasks::accepted_reply;
use super::views::list_reply;
use crate::extract::{Json, PathParam, Query, RequestSpan, from_cursor, page_size};
use crate::problem::{ApiProblem, ApiResult, Code, ProblemBody, did_you_mean};
use crate::state::AppState;

/// The default number of next slots in a reply.
const NEXT_SLOTS: usize = 5;
/// The most next slots in a reply.
const MAX_NEXT_SLOTS: usize = 100;
/// Past slots in a reply.
const LAST_SLOTS: usize = 20;
/// The longest name of a schedule, in bytes.
const MAX_NAME_BYTES: usize = 64;
/// The most schedules besides those of files; each takes about 1 KB in every scheduler.
const MAX_SCHEDULES: u64 = 200_000;
/// The most names that are searched for a suggestion.
const MAX_HINTS: usize = 1_000;
/// The default catch-up window, in seconds.
const DEFAULT_CATCHUP_SECONDS: f64 = 60.0;

fn schedule_view(record: ScheduleRecord, now: Timestamp, next: usize) -> ScheduleView {
    let active = record.spec.enabled && !record.paused;
    let slots = record.spec.timing.slots(now).ok().filter(|_| active);
    let from = record.last_slot.map_or(now, |last| last.max(now));
    let next_slots = slots.map_or_else(Vec::new, |slots| slots.between(from, Timestamp(i64::MAX), next));
    ScheduleView {
        name: record.name,
        agent: record.agent.to_string(),
        from_file: record.from_file,
        paused: record.paused,
        spec: record.spec,
        last_slot: record.last_slot,
        next_slots,
        missed: record.missed,
        skipped: record.skipped,
        created_at: record.created_at,
    }
}

fn slot_view(slot: SlotRecord) -> SlotView {
    let state = match slot.state {
        SlotState::Fired => SlotOutcome::Fired,
        SlotState::Skipped => SlotOutcome::Skipped,
        SlotState::Missed => SlotOutcome::Missed,
    };
    SlotView { slot: slot.slot, state, task: slot.task, decided_at: slot.decided_at }
}

/// Returns whether a request changes nothing except `paused`.
fn only_pauses(request: &ScheduleRequest) -> bool {
    ScheduleRequest { paused: None, ..request.clone() } == ScheduleRequest::default()
}

/// Returns the requested timing; `None` when the request does not change it.
fn timing(request: &ScheduleRequest, old: Option<&Timing>) -> ApiResult<Option<Timing>> {
    match (&request.cron, request.interval_seconds) {
        (Some(_), Some(_)) => {
            Err(ApiProblem::field("/interval_seconds", "give `cron` or `interval_seconds`, not both"))
        }
        (Some(cron), None) => {
            let timezone = request.timezone.clone().unwrap_or_else(|| "UTC".to_owned());
            Ok(Some(Timing::Cron { cron: cron.clone(), timezone }))
        }
        (None, Some(seconds)) => {
            if request.timezone.is_some() {
                return Err(ApiProblem::field("/timezone", "an interval has no time zone; leave it out"));
            }
            Ok(Some(Timing::Interval { every_ms: millis("/interval_seconds", seconds)? }))
        }
        (None, None) => match (&request.timezone, old) {
            (None, _) => Ok(None),
            (Some(zone), Some(Timing::Cron { cron, .. })) => {
                Ok(Some(Timing::Cron { cron: cron.clone(), timezone: zone.clone() }))
            }
            (Some(_), _) => Err(ApiProblem::field("/timezone", "a time zone goes with `cron`")),
        },
    }
}

/// Applies everything except the timing.
fn apply(request: &mut ScheduleRequest, spec: &mut ScheduleSpec) -> ApiResult<()> {
    if let Some(input) = request.input.take() {
        spec.input = input;
    }
    if request.timeout_seconds.is_some() {
        let timeout = timeout(request.timeout_seconds)?;
        spec.timeout_ms = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    }
    spec.enabled = request.enabled.unwrap_or(spec.enabled);
    spec.overlap = request.overlap.unwrap_or(spec.overlap);
    if let Some(seconds) = request.catchup_window_seconds {
        spec.catchup_ms = millis("/catchup_window_seconds", seconds)?;
    }
    if let Some(seconds) = request.jitter_seconds {
        spec.jitter_ms = millis("/jitter_seconds", seconds)?;
    }
    Ok(())
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked first")]
fn millis(pointer: &str, seconds: f64) -> ApiResult<u64> {
    // A year: longer than any sensible interval, and no overflow.
    let most = 31_536_000.0;
    if (0.0..=most).contains(&seconds) {
        return Ok((seconds * 1e3).round() as u64);
    }
    Err(ApiProblem::field(pointer, format!("is {seconds}: use 0 to {most} seconds")))
}

fn check_timing(timing: &Timing, now: Timestamp) -> ApiResult<()> {
    timing.slots(now).map(|_| ()).map_err(|error| {
        let pointer = match (timing, &error) {
            (_, agentry_core::schedule::TimingError::Timezone(_)) => "/timezone",
            (Timing::Cron { .. }, _) => "/cron",
            (Timing::Interval { .. }, _) => "/interval_seconds",
        };
        ApiProblem::field(pointer, error.to_string())
    })
}

fn unknown(name: &str, all: &[ScheduleRecord]) -> ApiProblem {
    let shown: String = name.chars().take(80).collect();
    let hint = did_you_mean(&shown, all.iter().map(|record| record.name.as_str()));
    ApiProblem::new(Code::UnknownSchedule, format!("no schedule is called `{shown}`{hint}"))
}

pub(crate) async fn find(state: &AppState, name: &str) -> ApiResult<ScheduleRecord> {
    if let Some(record) = state.store().schedule(name).await? {
        return Ok(record);
    }
    Err(unknown(name, &state.store().schedules(None, MAX_HINTS).await?.items))
}

/// Lists schedules
#[utoipa::path(
    get, path = "/v1/schedules", tag = "schedules", params(PageQuery),
    responses((status = 200, description = "A page of schedules, by name", body = List<ScheduleView>))
)]
pub(crate) async fn list(State(state): State<AppState>, Query(query): Query<PageQuery>) -> ApiResult {
    let (now, limit) = (state.now(), page_size(query.limit)?);
    let after = from_cursor::<String>(query.cursor.as_deref())?;
    let page = state.store().schedules(after.as_deref(), limit).await?;
    list_reply(page, |record| record.name.clone(), |record| schedule_view(record, now, NEXT_SLOTS))
}

/// Returns a schedule with its last and next slots
#[utoipa::path(
    get, path = "/v1/schedules/{name}", tag = "schedules", params(("name" = String, Path), ScheduleDetailQuery),
    responses(
        (status = 200, description = "The schedule", body = ScheduleDetail),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(
    State(state): State<AppState>,
    PathParam(name): PathParam<String>,
    Query(query): Query<ScheduleDetailQuery>,
) -> ApiResult {
    let next = query.next.unwrap_or(NEXT_SLOTS);
    if next > MAX_NEXT_SLOTS {
        return Err(ApiProblem::new(Code::InvalidQuery, format!("`next` is {next}: use 0 to {MAX_NEXT_SLOTS}")));
    }
    let record = find(&state, &name).await?;
    let last_slots = state.store().slots(&name, LAST_SLOTS).await?.into_iter().map(slot_view).collect();
    let schedule = schedule_view(record, state.now(), next);
    Ok(axum::Json(ScheduleDetail { schedule, last_slots }).into_response())
}

/// Creates a schedule
#[utoipa::path(
    post, path = "/v1/schedules", tag = "schedules", request_body = ScheduleRequest,
    responses(
        (status = 201, description = "Created", body = ScheduleView),
        (status = 404, description = "Unknown agent", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The name is taken", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is invalid", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(State(state): State<AppState>, Json(mut request): Json<ScheduleRequest>) -> ApiResult {
    let now = state.now();
    let name = request.name.take().ok_or_else(|| ApiProblem::field("/name", "is missing"))?;
    let fits = !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !fits {
        return Err(ApiProblem::field("/name", "use 1 to 64 letters, digits, `-`, `_` and `.`"));
    }
    let agent = request.agent.take().ok_or_else(|| ApiProblem::field("/agent", "is missing"))?;
    let agent = state.intake().live(&agent).map_err(|why| unavailable_agent(&state, &why))?.name.clone();
    if state.store().schedule(&name).await?.is_some() {
        return Err(ApiProblem::new(
            Code::ScheduleExists,
            format!("a schedule called `{name}` exists; change it with PATCH /v1/schedules/{name}"),
        ));
    }
    if state.store().schedules_since(u64::MAX).await?.total >= MAX_SCHEDULES {
        return Err(ApiProblem::new(
            Code::QueueFull,
            format!("there are {MAX_SCHEDULES} schedules, the most that are kept; delete some"),
        ));
    }
    let timing =
        timing(&request, None)?.ok_or_else(|| ApiProblem::field("/cron", "give `cron` or `interval_seconds`"))?;
    check_timing(&timing, now)?;
    let mut spec = ScheduleSpec {
        timing,
        input: Value::Null,
        timeout_ms: None,
        enabled: true,
        overlap: Overlap::default(),
        catchup_ms: millis("/catchup_window_seconds", DEFAULT_CATCHUP_SECONDS)?,
        jitter_ms: 0,
    };
    apply(&mut request, &mut spec)?;
    let record = ScheduleRecord {
        name,
        agent,
        from_file: false,
        spec,
        paused: request.paused.unwrap_or(false),
        last_slot: None,
        missed: 0,
        skipped: 0,
        created_at: now,
    };
    let record = put(&state, record).await?;
    state.bus().signal(Signal::Schedules);
    let location = [(header::LOCATION, format!("/v1/schedules/{}", record.name))];
    Ok((StatusCode::CREATED, location, axum::Json(schedule_view(record, now, NEXT_SLOTS))).into_response())
}

/// Changes, pauses or resumes a schedule
///
/// A schedule of an agent file can only be paused and resumed here; change anything else in the file.
#[utoipa::path(
    patch, path = "/v1/schedules/{name}", tag = "schedules", params(("name" = String, Path)), request_body = ScheduleRequest,
    responses(
        (status = 200, description = "Changed", body = ScheduleView),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Defined in an agent file", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is invalid", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn change(
    State(state): State<AppState>,
    PathParam(name): PathParam<String>,
    Json(mut request): Json<ScheduleRequest>,
) -> ApiResult {
    let now = state.now();
    let mut record = find(&state, &name).await?;
    if !only_pauses(&request) {
        if record.from_file {
            return Err(from_file(&record));
        }
        if request.name.as_ref().is_some_and(|new| *new != name) {
            return Err(ApiProblem::field("/name", "a schedule keeps its name; make another one instead"));
        }
        if let Some(agent) = request.agent.take() {
            record.agent = state.intake().live(&agent).map_err(|why| unavailable_agent(&state, &why))?.name.clone();
        }
        if let Some(timing) = timing(&request, Some(&record.spec.timing))? {
            check_timing(&timing, now)?;
            if timing != record.spec.timing {
                // A new timing starts now: its past slots never fire.
                record.created_at = now;
            }
            record.spec.timing = timing;
        }
        apply(&mut request, &mut record.spec)?;
        record = put(&state, record).await?;
    }
    if let Some(paused) = request.paused {
        record = state.store().set_paused(&name, paused, now).await?.ok_or_else(|| unknown(&name, &[]))?;
    }
    state.bus().signal(Signal::Schedules);
    Ok(axum::Json(schedule_view(record, now, NEXT_SLOTS)).into_response())
}

/// Stores a record and returns it as stored.
async fn put(state: &AppState, record: ScheduleRecord) -> ApiResult<ScheduleRecord> {
    let kept = state.store().put_schedules(vec![record]).await?.pop();
    kept.ok_or_else(|| ApiProblem::new(Code::Internal, "the store returned no result for the schedule"))
}

fn from_file(record: &ScheduleRecord) -> ApiProblem {
    ApiProblem::new(
        Code::ScheduleFromFile,
        format!(
            "schedule `{}` comes from the file of agent `{}`; change it there, or pause it here",
            record.name, record.agent
        ),
    )
}

/// Deletes a schedule
#[utoipa::path(
    delete, path = "/v1/schedules/{name}", tag = "schedules", params(("name" = String, Path)),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Defined in an agent file", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn delete(State(state): State<AppState>, PathParam(name): PathParam<String>) -> ApiResult<Response> {
    let record = find(&state, &name).await?;
    if record.from_file {
        return Err(from_file(&record));
    }
    if state.store().delete_schedules(std::slice::from_ref(&name)).await? == 0 {
        return Err(unknown(&name, &[]));
    }
    state.bus().signal(Signal::Schedules);
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Triggers a schedule now
///
/// Submits a task with the schedule's input and timeout (`source.kind` is `api`). No slot is consumed, and a paused
/// schedule can be triggered too.
#[utoipa::path(
    post, path = "/v1/schedules/{name}/trigger", tag = "schedules", params(("name" = String, Path)),
    responses(
        (status = 202, description = "Accepted; `Location` is the task", body = TaskReceipt),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The agent is invalid or disabled", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn trigger(
    State(state): State<AppState>,
    PathParam(name): PathParam<String>,
    RequestSpan(span): RequestSpan,
) -> ApiResult {
    let record = find(&state, &name).await?;
    let task = state.intake().trigger(&record, span.propagate()).await.map_err(|refusal| refused(&state, refusal))?;
    Ok(accepted_reply(&TaskReceipt::from(&*task)))
}
