//! `POST /v1/tasks/batch`: up to a thousand tasks in one group commit, each accepted or refused individually.

use agentry_api::{BatchReply, BatchRequest, BatchRow, TaskRequest};
use agentry_core::trace::{SpanContext, Trace};
use agentry_intake::{Order, SubmitResult};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::request::{order, refused};
use super::tasks::idempotency_key;
use crate::extract::{begin_trace, json_problem, parse, read_body, span_context};
use crate::problem::{ApiProblem, ApiResult, Code, ProblemBody};
use crate::state::AppState;

/// The most tasks of a batch.
const MAX_BATCH: usize = 1_000;

/// A batch whose tasks are parsed one by one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBatch<'a> {
    #[serde(borrow)]
    tasks: Vec<&'a RawValue>,
}

/// Submits a batch of tasks
///
/// Each task is accepted or refused individually; accepted ones are durable when the response arrives. With an
/// `Idempotency-Key` header each task without its own key gets the key `<header>/<index>`, so that the whole batch can be
/// retried.
#[utoipa::path(
    post, path = "/v1/tasks/batch", tag = "tasks",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes the batch safe to retry")),
    request_body = BatchRequest,
    responses(
        (status = 200, description = "The result of each task, in order", body = BatchReply),
        (status = 400, description = "Not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The queue is full or the store unavailable; nothing was accepted", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(State(state): State<AppState>, request: Request) -> ApiResult {
    let (headers, span) = (request.headers().clone(), span_context(request.extensions(), &state));
    let body = read_body(request, state.deps.limits.max_batch_bytes).await?;
    let mut arrivals = BatchSubmission::new(&headers, span)?;
    match serde_json::from_slice::<BatchRequest<'_>>(&body) {
        Ok(batch) => {
            check_size(batch.tasks.len())?;
            batch.tasks.into_iter().for_each(|task| arrivals.take(Ok(task)));
        }
        // A task is invalid: parse them one by one.
        Err(_) => {
            let batch: RawBatch<'_> = parse(&body)?;
            check_size(batch.tasks.len())?;
            for raw in batch.tasks {
                arrivals.take(serde_json::from_str(raw.get()).map_err(|error| json_problem(&error)));
            }
        }
    }
    let mut submitted = state.intake().submit(arrivals.orders).await?.into_iter();
    let settle = |row: Option<ApiProblem>| match row {
        Some(problem) => Err(problem),
        None => match submitted.next() {
            Some(Ok(submitted)) => Ok(row_of(submitted)),
            Some(Err(refusal)) => Err(refused(&state, refusal)),
            None => Err(ApiProblem::new(Code::Internal, "the store returned too few results")),
        },
    };
    let settled: Vec<Result<BatchRow<'_>, ApiProblem>> = arrivals.rows.into_iter().map(settle).collect();
    Ok(reply(settled, &span.trace.id.to_string()))
}

fn row_of(submitted: SubmitResult) -> BatchRow<'static> {
    match submitted {
        SubmitResult::New(task) => BatchRow::Accepted {
            id: task.id,
            trace_id: Some(task.trace_id),
            session: task.session.clone(),
            duplicate: false,
        },
        SubmitResult::Duplicate(id) => BatchRow::Accepted { id, trace_id: None, session: None, duplicate: true },
    }
}

fn check_size(tasks: usize) -> ApiResult<()> {
    if tasks == 0 || tasks > MAX_BATCH {
        let text = format!("there are {tasks}; a batch has 1 to {MAX_BATCH}: send several");
        return Err(ApiProblem::field("/tasks", text));
    }
    Ok(())
}

/// The parsed requests of a batch.
struct BatchSubmission {
    /// The caller's trace, for all tasks; else each begins its own.
    trace: Option<Trace>,
    key: Option<String>,
    orders: Vec<Order>,
    /// The problem of each request that was refused before submission.
    rows: Vec<Option<ApiProblem>>,
}

impl BatchSubmission {
    fn new(headers: &HeaderMap, span: SpanContext) -> ApiResult<Self> {
        let trace = span.trace.parent.map(|_| span.propagate());
        let key = idempotency_key(headers)?;
        Ok(Self { trace, key, orders: Vec::new(), rows: Vec::new() })
    }

    fn take(&mut self, request: ApiResult<TaskRequest<'_>>) {
        let index = self.rows.len();
        let ordered = request.and_then(|request| {
            let key = match (&self.key, &request.idempotency_key) {
                (Some(key), None) => Some(format!("{key}/{index}")),
                _ => None,
            };
            order(request, self.trace.unwrap_or_else(begin_trace), key)
        });
        self.rows.push(match ordered {
            Ok(order) => {
                self.orders.push(order);
                None
            }
            Err(problem) => Some(problem),
        });
    }
}

fn reply(settled: Vec<Result<BatchRow<'_>, ApiProblem>>, trace: &str) -> Response {
    let refused = settled.iter().filter(|row| row.is_err()).count();
    let (mut rows, mut problems) = (Vec::with_capacity(settled.len()), Vec::with_capacity(refused));
    for row in settled {
        match row {
            Ok(row) => rows.push(Some(row)),
            Err(problem) => {
                rows.push(None);
                problems.push(problem);
            }
        }
    }
    let mut errors = problems.iter().map(|problem| BatchRow::Refused { error: problem.body(trace) });
    let tasks: Vec<BatchRow<'_>> = rows.into_iter().filter_map(|row| row.or_else(|| errors.next())).collect();
    let body = BatchReply { accepted: tasks.len() - refused, refused, tasks };
    match serde_json::to_vec(&body) {
        Ok(bytes) => (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => ApiProblem::new(Code::Internal, format!("the reply cannot be written: {error}")).into_response(),
    }
}
