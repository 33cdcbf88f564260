//! `POST /v1/tasks/batch`: up to a thousand tasks in one group commit, each accepted or refused by itself.

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
use crate::extract::{json_problem, new_trace, parse, place_of, read_body};
use crate::problem::{Answer, Code, Problem, ProblemBody};
use crate::state::AppState;

/// Tasks of a batch at most.
const MAX_BATCH: usize = 1_000;

/// The same, when not every task can be read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBatch<'a> {
    #[serde(borrow)]
    tasks: Vec<&'a RawValue>,
}

/// Accepts many tasks at once
///
/// Each task is accepted or refused by itself; those accepted are durable when the answer arrives. With an
/// `Idempotency-Key` header each task gets the key `<header>/<index>` unless it has one of its own, so that a batch
/// can be sent again whole.
#[utoipa::path(
    post, path = "/v1/tasks/batch", tag = "tasks",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes the batch repeatable")),
    request_body = BatchRequest,
    responses(
        (status = 200, description = "What became of each task, in their order", body = BatchReply),
        (status = 400, description = "Not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "Too large", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Full or unavailable: nothing was accepted", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(State(state): State<AppState>, request: Request) -> Answer {
    let (headers, place) = (request.headers().clone(), place_of(request.extensions(), &state));
    let body = read_body(request, state.deps.limits.max_batch_bytes).await?;
    let mut arrivals = Arrivals::new(&headers, place)?;
    match serde_json::from_slice::<BatchRequest<'_>>(&body) {
        Ok(batch) => {
            bound(batch.tasks.len())?;
            batch.tasks.into_iter().for_each(|task| arrivals.take(Ok(task)));
        }
        // Something in it cannot be read: find out what, task by task.
        Err(_) => {
            let batch: RawBatch<'_> = parse(&body)?;
            bound(batch.tasks.len())?;
            for raw in batch.tasks {
                arrivals.take(serde_json::from_str(raw.get()).map_err(|error| json_problem(&error)));
            }
        }
    }
    let mut submitted = state.intake().submit(arrivals.orders).await?.into_iter();
    let settle = |row: Option<Problem>| match row {
        Some(problem) => Err(problem),
        None => match submitted.next() {
            Some(Ok(submitted)) => Ok(row_of(submitted)),
            Some(Err(refusal)) => Err(refused(&state, refusal)),
            None => Err(Problem::new(Code::Internal, "the store lost an answer")),
        },
    };
    let settled: Vec<Result<BatchRow<'_>, Problem>> = arrivals.rows.into_iter().map(settle).collect();
    Ok(reply(settled, &place.trace.id.to_string()))
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

fn bound(tasks: usize) -> Answer<()> {
    if tasks == 0 || tasks > MAX_BATCH {
        let text = format!("there are {tasks}; a batch has 1 to {MAX_BATCH}: send several");
        return Err(Problem::field("/tasks", text));
    }
    Ok(())
}

/// The requests of a batch, read and checked.
struct Arrivals {
    /// That of the caller, for all of them; else each begins its own.
    trace: Option<Trace>,
    key: Option<String>,
    orders: Vec<Order>,
    /// One for each request: why it was refused before it was submitted, or `None`.
    rows: Vec<Option<Problem>>,
}

impl Arrivals {
    fn new(headers: &HeaderMap, place: SpanContext) -> Answer<Self> {
        let trace = place.trace.parent.map(|_| place.propagate());
        let key = idempotency_key(headers)?;
        Ok(Self { trace, key, orders: Vec::new(), rows: Vec::new() })
    }

    fn take(&mut self, request: Answer<TaskRequest<'_>>) {
        let index = self.rows.len();
        let ordered = request.and_then(|request| {
            let key = match (&self.key, &request.idempotency_key) {
                (Some(key), None) => Some(format!("{key}/{index}")),
                _ => None,
            };
            order(request, self.trace.unwrap_or_else(new_trace), key)
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

fn reply(settled: Vec<Result<BatchRow<'_>, Problem>>, trace: &str) -> Response {
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
        Err(error) => Problem::new(Code::Internal, format!("the reply cannot be written: {error}")).into_response(),
    }
}
