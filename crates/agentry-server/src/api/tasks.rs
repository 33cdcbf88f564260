//! `/v1/tasks`: submit, read and cancel tasks.

use std::time::Duration;

use agentry_api::{
    CancelReply, List, SubmitQuery, TaskDetail, TaskDetailQuery, TaskQuery, TaskReceipt, TaskRequest, TaskView,
};
use agentry_bus::{ReceiveOutcome, Signal, Signals};
use agentry_core::agent::AgentName;
use agentry_core::id::TaskId;
use agentry_core::session::SessionId;
use agentry_core::task::{TaskRecord, TaskStatus};
use agentry_core::words::UnknownWord;
use agentry_intake::{CancelOutcome, Prepared, SubmitResult};
use agentry_store::{MAX_PAGE, TaskFilter};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::request::{order, refused};
use super::views::{brief, list_reply};
use crate::extract::{PathParam, Query, from_cursor, page_size, parse, read_body, span_context};
use crate::problem::{ApiProblem, ApiResult, Code, ProblemBody};
use crate::sse::{MAX_RECHECK, RECHECK, task_stream};
use crate::state::AppState;

/// The most journal entries of a reply; the event stream has all of them.
const MAX_JOURNAL: usize = 10_000;

/// Submits a task
///
/// The task is durable when the response arrives. A `traceparent` header continues its trace.
#[utoipa::path(
    post, path = "/v1/tasks", tag = "tasks",
    params(
        SubmitQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "The same key with the same request is the same task for 24 h"),
    ),
    request_body = TaskRequest,
    responses(
        (status = 202, description = "Accepted; `Location` is the task", body = TaskReceipt),
        (status = 200, description = "It ended within `wait`", body = TaskView),
        (status = 400, description = "Not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "Unknown agent", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The agent is invalid or disabled", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is invalid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The queue is full; see `Retry-After`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    State(state): State<AppState>,
    Query(query): Query<SubmitQuery>,
    request: Request,
) -> ApiResult {
    let wait = query.wait.map(|seconds| check_wait(seconds, state.deps.limits.max_wait)).transpose()?;
    let (trace, key) = (span_context(request.extensions(), &state).propagate(), idempotency_key(request.headers())?);
    let body = read_body(request, state.deps.limits.max_body_bytes).await?;
    let order = order(parse::<TaskRequest<'_>>(&body)?, trace, key)?;
    let prepared = state.intake().prepare(vec![order]);
    // Watched before it is accepted, so that an immediate end is not missed.
    let id = prepared.first().and_then(Prepared::task).map(|task| task.id);
    let watch = id.filter(|_| wait.is_some()).map(|id| state.bus().watch(id));
    match state.intake().accept(prepared).await?.pop() {
        Some(Ok(SubmitResult::New(task))) => {
            if let (Some(wait), Some(watch)) = (wait, watch)
                && let Some(record) = wait_for_end(&state, task.id, watch, wait).await?
            {
                return Ok(axum::Json(TaskView::from(&record)).into_response());
            }
            Ok(accepted_reply(&TaskReceipt::from(&*task)))
        }
        Some(Ok(SubmitResult::Duplicate(id))) => replay(&state, id, wait).await,
        Some(Err(refusal)) => Err(refused(&state, refusal)),
        None => Err(ApiProblem::new(Code::Internal, "the store returned no result for the task")),
    }
}

/// Returns the reply to a repeated idempotency key: the existing task.
async fn replay(state: &AppState, id: TaskId, wait: Option<Duration>) -> ApiResult {
    let ended = match wait {
        Some(wait) => wait_for_end(state, id, state.bus().watch(id), wait).await?,
        None => None,
    };
    let mut response = match ended {
        Some(record) => axum::Json(TaskView::from(&record)).into_response(),
        None => {
            let record = find(state, id).await?;
            let task = record.task;
            accepted_reply(&TaskReceipt { id, status: record.status, trace_id: task.trace_id, session: task.session })
        }
    };
    response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    Ok(response)
}

pub(crate) fn accepted_reply(receipt: &TaskReceipt) -> Response {
    let location = format!("/v1/tasks/{}", receipt.id);
    (StatusCode::ACCEPTED, [(header::LOCATION, location)], axum::Json(receipt)).into_response()
}

fn check_wait(seconds: f64, most: Duration) -> ApiResult<Duration> {
    if (0.0..=most.as_secs_f64()).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    let most = most.as_secs_f64();
    Err(ApiProblem::new(Code::InvalidQuery, format!("`wait` is {seconds}: use 0 to {most} seconds")))
}

/// Returns the `Idempotency-Key` header.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> ApiResult<Option<String>> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text =
        value.to_str().map_err(|_| ApiProblem::field("/idempotency_key", "the header is not printable ASCII"))?;
    Ok(Some(text.to_owned()))
}

/// Waits until a task has ended, the time is up or the server shuts down. `watch` must be older than the first read.
/// Transient errors of the store are retried: the task was accepted, and an error would hide that.
async fn wait_for_end(
    state: &AppState,
    id: TaskId,
    mut watch: Box<dyn Signals>,
    wait: Duration,
) -> ApiResult<Option<TaskRecord>> {
    let deadline = tokio::time::Instant::now() + wait;
    let mut recheck = RECHECK;
    loop {
        match state.store().task(id).await {
            Ok(Some(record)) if record.status.is_terminal() => return Ok(Some(record)),
            Ok(Some(_)) => {}
            Ok(None) => return Err(unknown(id)),
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(error.into()),
        }
        let moved = async {
            loop {
                match watch.next().await {
                    ReceiveOutcome::Signal(Signal::Progress { status, .. }) if status.is_terminal() => break,
                    ReceiveOutcome::Signal(_) => {}
                    ReceiveOutcome::Missed => break,
                    ReceiveOutcome::Closed => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            () = moved => {}
            // Signals may be lost.
            () = tokio::time::sleep(recheck) => recheck = (recheck * 2).min(MAX_RECHECK),
            () = tokio::time::sleep_until(deadline) => return Ok(None),
            () = state.shutdown.cancelled() => return Ok(None),
        }
    }
}

/// Returns a task, or the problem of an unknown id.
pub(crate) async fn find(state: &AppState, id: TaskId) -> ApiResult<TaskRecord> {
    let record = state.store().task(id).await?;
    record.ok_or_else(|| unknown(id))
}

fn unknown(id: TaskId) -> ApiProblem {
    ApiProblem::new(Code::UnknownTask, format!("no task has the id {id}"))
}

fn filter(query: &TaskQuery) -> ApiResult<TaskFilter> {
    let bad = |text: String| ApiProblem::new(Code::InvalidQuery, text);
    let unknown = |word: UnknownWord| bad(word.to_string());
    let agent = query.agent.as_deref().map(AgentName::new).transpose().map_err(|error| bad(error.to_string()))?;
    let status = query.status.as_deref().map(str::parse).transpose().map_err(unknown)?;
    let mode = query.mode.as_deref().map(str::parse).transpose().map_err(unknown)?;
    let session = match query.session.as_deref() {
        Some(text) => Some(SessionId::parse(text).ok_or_else(|| bad("`session` is written `agent:key`".into()))?),
        None => None,
    };
    Ok(TaskFilter { agent, status, mode, session })
}

/// Lists tasks, newest first
#[utoipa::path(
    get, path = "/v1/tasks", tag = "tasks", params(TaskQuery),
    responses(
        (status = 200, description = "A page of tasks", body = List<TaskView>),
        (status = 422, description = "A parameter is invalid", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(State(state): State<AppState>, Query(query): Query<TaskQuery>) -> ApiResult {
    let (filter, limit) = (filter(&query)?, page_size(query.limit)?);
    let before = from_cursor(query.cursor.as_deref())?;
    let page = state.store().tasks(&filter, before, limit).await?;
    let view = |record| if query.brief { brief(&record) } else { TaskView::from(&record) };
    list_reply(page, |record| record.task.id, view)
}

/// Returns a task
#[utoipa::path(
    get, path = "/v1/tasks/{id}", tag = "tasks", params(("id" = String, Path), TaskDetailQuery),
    responses(
        (status = 200, description = "The task", body = TaskDetail),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(
    State(state): State<AppState>,
    PathParam(id): PathParam<TaskId>,
    Query(query): Query<TaskDetailQuery>,
) -> ApiResult {
    let record = find(&state, id).await?;
    let mut journal = None;
    if query.journal {
        let entries = journal.insert(Vec::new());
        while entries.len() < MAX_JOURNAL {
            let after = entries.last().map_or(0, |entry: &agentry_core::journal::JournalEntry| entry.seq);
            let page = state.store().journal(id, after, MAX_PAGE).await?;
            let whole = page.len() < MAX_PAGE;
            entries.extend(page);
            if whole {
                break;
            }
        }
    }
    Ok(axum::Json(TaskDetail { task: TaskView::from(&record), journal }).into_response())
}

/// Streams a task
///
/// Server-sent events: each journal entry as an event named by its kind, with its number as `id`; `status` on each change;
/// `delta` with partial output of a model (live only); and `end` with the task. `Last-Event-ID` resumes the stream on any
/// replica.
#[utoipa::path(
    get, path = "/v1/tasks/{id}/events", tag = "tasks",
    params(
        ("id" = String, Path),
        ("Last-Event-ID" = Option<u32>, Header, description = "Resume after this journal entry"),
    ),
    responses(
        (status = 200, description = "The stream", body = String, content_type = "text/event-stream"),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Too many streams", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn events(
    State(state): State<AppState>,
    PathParam(id): PathParam<TaskId>,
    headers: HeaderMap,
) -> ApiResult {
    let after = match headers.get("last-event-id") {
        None => 0,
        Some(value) => value.to_str().ok().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
            ApiProblem::new(Code::InvalidRequest, "`Last-Event-ID` is not the number of a journal entry")
        })?,
    };
    let permit = state.stream_permit()?;
    find(&state, id).await?;
    Ok(task_stream(&state, id, after, permit))
}

/// Cancels a task
///
/// A task that is not running ends at once; the worker of a running one is asked to stop.
#[utoipa::path(
    post, path = "/v1/tasks/{id}/cancel", tag = "tasks", params(("id" = String, Path)),
    responses(
        (status = 200, description = "Cancelled", body = CancelReply),
        (status = 202, description = "Cancellation requested", body = CancelReply),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Already ended", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn cancel(State(state): State<AppState>, PathParam(id): PathParam<TaskId>) -> ApiResult {
    match state.intake().cancel(id).await? {
        CancelOutcome::Ended => Ok(axum::Json(CancelReply { id, status: TaskStatus::Cancelled }).into_response()),
        CancelOutcome::Requested => {
            let body = axum::Json(CancelReply { id, status: TaskStatus::Running });
            Ok((StatusCode::ACCEPTED, body).into_response())
        }
        CancelOutcome::AlreadyEnded(status) => {
            Err(ApiProblem::new(Code::TaskEnded, format!("task {id} is {status}: there is nothing to cancel")))
        }
        CancelOutcome::Unknown => Err(unknown(id)),
    }
}
