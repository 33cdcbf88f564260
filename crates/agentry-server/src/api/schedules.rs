//! `/v1/schedules`: when agents run by themselves.

use agentry_bus::Signal;
use agentry_core::schedule::{Overlap, ScheduleRecord, ScheduleSpec, Timing};
use agentry_core::time::Timestamp;
use agentry_store::SlotRecord;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::request::{not_live, refused, timeout};
use super::tasks::{TaskReceipt, accepted_reply};
use super::views::List;
use crate::extract::{Id, Json, Query, Traced, from_cursor, page_size, to_cursor};
use crate::problem::{Answer, Code, Problem, ProblemBody, did_you_mean};
use crate::state::AppState;

/// Coming slots that are shown when the caller does not say.
const NEXT_SLOTS: usize = 5;
/// Coming slots that are shown at most.
const MAX_NEXT_SLOTS: usize = 100;
/// Past slots that are shown.
const LAST_SLOTS: usize = 20;
/// The longest name of a schedule, in bytes.
const MAX_NAME_BYTES: usize = 64;
/// Schedules that may exist besides those of files: each takes about a kilobyte in every scheduler.
const MAX_SCHEDULES: u64 = 200_000;
/// Names that are looked through for one that was meant.
const MAX_HINTS: usize = 1_000;
/// Slots missed by at most this many seconds are fired late when the caller does not say.
const DEFAULT_CATCHUP_SECONDS: f64 = 60.0;

/// A schedule.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Schedule)]
pub(crate) struct ScheduleView {
    /// Its name.
    name: String,
    /// The agent that runs.
    agent: String,
    /// Whether it comes from an agent file.
    from_file: bool,
    /// Whether it is paused by hand.
    paused: bool,
    /// When and what: `timing`, `input`, `timeout_ms`, `enabled`, `overlap`, `catchup_ms`, `jitter_ms`.
    #[schema(value_type = Object)]
    spec: ScheduleSpec,
    /// The last slot that was decided.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_slot: Option<Timestamp>,
    /// The slots to come, five when nobody asks for more; none while it is paused or disabled.
    #[schema(value_type = Vec<String>)]
    next_slots: Vec<Timestamp>,
    /// Slots counted as missed.
    missed: u64,
    /// Slots skipped by the overlap policy.
    skipped: u64,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl ScheduleView {
    fn of(record: ScheduleRecord, now: Timestamp) -> Self {
        Self::with_next(record, now, NEXT_SLOTS)
    }

    fn with_next(record: ScheduleRecord, now: Timestamp, next: usize) -> Self {
        let active = record.spec.enabled && !record.paused;
        let slots = record.spec.timing.slots(now).ok().filter(|_| active);
        let from = record.last_slot.map_or(now, |last| last.max(now));
        let next_slots = slots.map_or_else(Vec::new, |slots| slots.between(from, Timestamp(i64::MAX), next));
        Self {
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
}

/// A schedule with its last slots.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScheduleDetail {
    /// The schedule.
    #[serde(flatten)]
    schedule: ScheduleView,
    /// What became of its last slots, newest first, at most twenty.
    #[schema(value_type = Vec<Object>)]
    last_slots: Vec<SlotRecord>,
}

/// What can be set of a schedule: the keys of `schedule_config`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScheduleRequest {
    /// Its name, when it is made.
    name: Option<String>,
    /// The agent that runs.
    agent: Option<String>,
    /// A cron expression of five or six fields, or a nickname such as `@daily`.
    cron: Option<String>,
    /// IANA time zone of `cron`; UTC when absent.
    timezone: Option<String>,
    /// Instead of `cron`: every so many seconds, at least 1.
    interval_seconds: Option<f64>,
    /// What each task gets as its input.
    #[serde(alias = "task_data")]
    input: Option<Value>,
    /// Running time of each task, in seconds.
    timeout_seconds: Option<f64>,
    /// Whether it fires; true when absent.
    enabled: Option<bool>,
    /// `skip` (default), `buffer_one` or `allow_all`.
    #[schema(value_type = Option<String>)]
    overlap: Option<Overlap>,
    /// Slots missed by at most this many seconds are fired late; 60 when absent.
    catchup_window_seconds: Option<f64>,
    /// A task starts up to this many seconds after its slot.
    jitter_seconds: Option<f64>,
    /// Pause or resume; slots of a pause are passed over.
    paused: Option<bool>,
}

impl ScheduleRequest {
    fn only_pauses(&self) -> bool {
        let Self { name, agent, cron, timezone, interval_seconds, input, timeout_seconds, enabled, overlap, .. } = self;
        name.is_none()
            && agent.is_none()
            && cron.is_none()
            && timezone.is_none()
            && interval_seconds.is_none()
            && input.is_none()
            && timeout_seconds.is_none()
            && enabled.is_none()
            && overlap.is_none()
            && self.catchup_window_seconds.is_none()
            && self.jitter_seconds.is_none()
    }

    /// The timing that is asked for; `None` when nothing about it is said.
    fn timing(&self, old: Option<&Timing>) -> Answer<Option<Timing>> {
        match (&self.cron, self.interval_seconds) {
            (Some(_), Some(_)) => {
                Err(Problem::field("/interval_seconds", "give `cron` or `interval_seconds`, not both"))
            }
            (Some(cron), None) => {
                let timezone = self.timezone.clone().unwrap_or_else(|| "UTC".to_owned());
                Ok(Some(Timing::Cron { cron: cron.clone(), timezone }))
            }
            (None, Some(seconds)) => {
                if self.timezone.is_some() {
                    return Err(Problem::field("/timezone", "an interval has no time zone; leave it out"));
                }
                Ok(Some(Timing::Interval { every_ms: millis("/interval_seconds", seconds)? }))
            }
            (None, None) => match (&self.timezone, old) {
                (None, _) => Ok(None),
                (Some(zone), Some(Timing::Cron { cron, .. })) => {
                    Ok(Some(Timing::Cron { cron: cron.clone(), timezone: zone.clone() }))
                }
                (Some(_), _) => Err(Problem::field("/timezone", "a time zone goes with `cron`")),
            },
        }
    }

    /// Applies everything but the timing.
    fn apply(&mut self, spec: &mut ScheduleSpec) -> Answer<()> {
        if let Some(input) = self.input.take() {
            spec.input = input;
        }
        if self.timeout_seconds.is_some() {
            let timeout = timeout(self.timeout_seconds)?;
            spec.timeout_ms = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        }
        spec.enabled = self.enabled.unwrap_or(spec.enabled);
        spec.overlap = self.overlap.unwrap_or(spec.overlap);
        if let Some(seconds) = self.catchup_window_seconds {
            spec.catchup_ms = millis("/catchup_window_seconds", seconds)?;
        }
        if let Some(seconds) = self.jitter_seconds {
            spec.jitter_ms = millis("/jitter_seconds", seconds)?;
        }
        Ok(())
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked first")]
fn millis(pointer: &str, seconds: f64) -> Answer<u64> {
    // A year: far beyond any sensible interval, far below any overflow.
    let most = 31_536_000.0;
    if (0.0..=most).contains(&seconds) {
        return Ok((seconds * 1e3).round() as u64);
    }
    Err(Problem::field(pointer, format!("is {seconds}: use 0 to {most} seconds")))
}

fn check_timing(timing: &Timing, now: Timestamp) -> Answer<()> {
    timing.slots(now).map(|_| ()).map_err(|error| {
        let pointer = match (timing, &error) {
            (_, agentry_core::schedule::TimingError::Timezone(_)) => "/timezone",
            (Timing::Cron { .. }, _) => "/cron",
            (Timing::Interval { .. }, _) => "/interval_seconds",
        };
        Problem::field(pointer, error.to_string())
    })
}

fn unknown(name: &str, all: &[ScheduleRecord]) -> Problem {
    let shown: String = name.chars().take(80).collect();
    let hint = did_you_mean(&shown, all.iter().map(|record| record.name.as_str()));
    Problem::new(Code::UnknownSchedule, format!("no schedule is called `{shown}`{hint}"))
}

pub(crate) async fn find(state: &AppState, name: &str) -> Answer<ScheduleRecord> {
    if let Some(record) = state.store().schedule(name).await? {
        return Ok(record);
    }
    Err(unknown(name, &state.store().schedules(None, MAX_HINTS).await?.items))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Rows, 1 to 1,000; 50 when absent.
    limit: Option<usize>,
}

/// Lists schedules
#[utoipa::path(
    get, path = "/v1/schedules", tag = "schedules", params(ListQuery),
    responses((status = 200, description = "A page of schedules, by name", body = List<ScheduleView>))
)]
pub(crate) async fn list(State(state): State<AppState>, Query(query): Query<ListQuery>) -> Answer {
    let (now, limit) = (state.now(), page_size(query.limit)?);
    let after = from_cursor::<String>(query.cursor.as_deref())?;
    let page = state.store().schedules(after.as_deref(), limit).await?;
    let next_cursor = page.items.last().filter(|_| page.more).map(|record| to_cursor(&record.name));
    let items = page.items.into_iter().map(|record| ScheduleView::of(record, now)).collect();
    Ok(axum::Json(List { items, next_cursor }).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct GetQuery {
    /// Slots to come that are shown, 0 to 100; 5 when absent.
    next: Option<usize>,
}

/// Shows a schedule with its last and next slots
#[utoipa::path(
    get, path = "/v1/schedules/{name}", tag = "schedules", params(("name" = String, Path), GetQuery),
    responses(
        (status = 200, description = "The schedule", body = ScheduleDetail),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(State(state): State<AppState>, Id(name): Id<String>, Query(query): Query<GetQuery>) -> Answer {
    let next = query.next.unwrap_or(NEXT_SLOTS);
    if next > MAX_NEXT_SLOTS {
        return Err(Problem::new(Code::InvalidQuery, format!("`next` is {next}: use 0 to {MAX_NEXT_SLOTS}")));
    }
    let record = find(&state, &name).await?;
    let last_slots = state.store().slots(&name, LAST_SLOTS).await?;
    let schedule = ScheduleView::with_next(record, state.now(), next);
    Ok(axum::Json(ScheduleDetail { schedule, last_slots }).into_response())
}

/// Makes a schedule
#[utoipa::path(
    post, path = "/v1/schedules", tag = "schedules", request_body = ScheduleRequest,
    responses(
        (status = 201, description = "Made", body = ScheduleView),
        (status = 404, description = "Unknown agent", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The name is taken", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(State(state): State<AppState>, Json(mut request): Json<ScheduleRequest>) -> Answer {
    let now = state.now();
    let name = request.name.take().ok_or_else(|| Problem::field("/name", "is missing"))?;
    let fits = !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !fits {
        return Err(Problem::field("/name", "use 1 to 64 letters, digits, `-`, `_` and `.`"));
    }
    let agent = request.agent.take().ok_or_else(|| Problem::field("/agent", "is missing"))?;
    let agent = state.intake().live(&agent).map_err(|why| not_live(&state, &why))?.name.clone();
    if state.store().schedule(&name).await?.is_some() {
        return Err(Problem::new(
            Code::ScheduleExists,
            format!("a schedule called `{name}` exists; change it with PATCH /v1/schedules/{name}"),
        ));
    }
    if state.store().schedules_since(u64::MAX).await?.total >= MAX_SCHEDULES {
        return Err(Problem::new(
            Code::QueueFull,
            format!("there are {MAX_SCHEDULES} schedules, the most that are kept; delete some"),
        ));
    }
    let timing = request.timing(None)?.ok_or_else(|| Problem::field("/cron", "give `cron` or `interval_seconds`"))?;
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
    request.apply(&mut spec)?;
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
    Ok((StatusCode::CREATED, location, axum::Json(ScheduleView::of(record, now))).into_response())
}

/// Changes, pauses or resumes a schedule
///
/// A schedule from an agent file can be paused and resumed here; anything else is changed in the file.
#[utoipa::path(
    patch, path = "/v1/schedules/{name}", tag = "schedules", params(("name" = String, Path)), request_body = ScheduleRequest,
    responses(
        (status = 200, description = "Changed", body = ScheduleView),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It comes from a file", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn change(
    State(state): State<AppState>,
    Id(name): Id<String>,
    Json(mut request): Json<ScheduleRequest>,
) -> Answer {
    let now = state.now();
    let mut record = find(&state, &name).await?;
    if !request.only_pauses() {
        if record.from_file {
            return Err(from_file(&record));
        }
        if request.name.as_ref().is_some_and(|new| *new != name) {
            return Err(Problem::field("/name", "a schedule keeps its name; make another one instead"));
        }
        if let Some(agent) = request.agent.take() {
            record.agent = state.intake().live(&agent).map_err(|why| not_live(&state, &why))?.name.clone();
        }
        if let Some(timing) = request.timing(Some(&record.spec.timing))? {
            check_timing(&timing, now)?;
            if timing != record.spec.timing {
                // A new timing starts now: slots of its past never fire.
                record.created_at = now;
            }
            record.spec.timing = timing;
        }
        request.apply(&mut record.spec)?;
        record = put(&state, record).await?;
    }
    if let Some(paused) = request.paused {
        record = state.store().set_paused(&name, paused, now).await?.ok_or_else(|| unknown(&name, &[]))?;
    }
    state.bus().signal(Signal::Schedules);
    Ok(axum::Json(ScheduleView::of(record, now)).into_response())
}

/// Keeps a record; as it is kept.
async fn put(state: &AppState, record: ScheduleRecord) -> Answer<ScheduleRecord> {
    let kept = state.store().put_schedules(vec![record]).await?.pop();
    kept.ok_or_else(|| Problem::new(Code::Internal, "the store gave no answer for the schedule"))
}

fn from_file(record: &ScheduleRecord) -> Problem {
    Problem::new(
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
        (status = 204, description = "It is gone"),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It comes from a file", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn delete(State(state): State<AppState>, Id(name): Id<String>) -> Answer<Response> {
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

/// Runs a schedule's task now
///
/// The task is an ordinary one with the schedule's input and timeout (`source.kind` is `api`); no slot is used up,
/// and a paused schedule can be triggered too.
#[utoipa::path(
    post, path = "/v1/schedules/{name}/trigger", tag = "schedules", params(("name" = String, Path)),
    responses(
        (status = 202, description = "Accepted; `Location` has the task", body = TaskReceipt),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The agent is invalid or disabled", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn trigger(State(state): State<AppState>, Id(name): Id<String>, Traced(place): Traced) -> Answer {
    let record = find(&state, &name).await?;
    let task = state.intake().trigger(&record, place.onward()).await.map_err(|refusal| refused(&state, refusal))?;
    Ok(accepted_reply(&TaskReceipt::of(&task)))
}
