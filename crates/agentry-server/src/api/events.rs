//! `/v1/events`: publishing and following events.

use std::sync::Arc;

use agentry_api::{EventReceipt, EventRequest, StartedTask, TailQuery};
use agentry_core::event::Event;
use agentry_core::id::TaskId;
use agentry_core::task::Task;
use agentry_core::topic::{TopicPattern, check_topic};
use agentry_intake::{Audience, PublishError};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;

use crate::extract::{Json, Query, RequestSpan};
use crate::problem::{ApiProblem, ApiResult, Code, ProblemBody};
use crate::sse::event_tail;
use crate::state::AppState;

/// The default source.
const SOURCE: &str = "api";
/// The default type.
const KIND: &str = "dev.agentry.event.published.v1";
/// The longest id, source or type, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// The most past events of a tail.
const MAX_RECENT: usize = 1_000;

fn checked(pointer: &str, given: Option<String>, default: impl FnOnce() -> String) -> ApiResult<String> {
    match given {
        None => Ok(default()),
        Some(text) if text.is_empty() || text.len() > MAX_NAME_BYTES || text.chars().any(char::is_control) => {
            Err(ApiProblem::field(pointer, format!("has 1 to {MAX_NAME_BYTES} bytes and no control characters")))
        }
        Some(text) => Ok(text),
    }
}

/// Publishes an event
///
/// The event, the tasks of its subscribers and its delivery to external listeners are durable when the response arrives.
#[utoipa::path(
    post, path = "/v1/events", tag = "events", request_body = EventRequest,
    responses(
        (status = 202, description = "Stored", body = EventReceipt),
        (status = 200, description = "Known; nothing was changed", body = EventReceipt),
        (status = 422, description = "A field is invalid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The queue is full; nothing was accepted", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn publish(
    State(state): State<AppState>,
    RequestSpan(span): RequestSpan,
    Json(request): Json<EventRequest>,
) -> ApiResult {
    check_topic(&request.topic).map_err(|error| ApiProblem::field("/topic", error.to_string()))?;
    let trace = span.propagate();
    let event = Event {
        id: checked("/id", request.id, || TaskId::generate().to_string())?,
        source: checked("/source", request.source, || SOURCE.to_owned())?,
        kind: checked("/type", request.kind, || KIND.to_owned())?,
        topic: request.topic,
        time: state.now(),
        trace_id: trace.id,
        parent: trace.parent,
        hops: 0,
        data: request.data,
    };
    let published = state.intake().publish(&event, Audience::Subscribers).await.map_err(unpublished)?;
    let started = |task: &Arc<Task>| StartedTask { id: task.id, agent: task.agent.to_string() };
    let tasks = published.tasks.iter().map(started).collect();
    let receipt = EventReceipt { id: event.id, source: event.source, duplicate: published.duplicate, tasks };
    let status = if published.duplicate { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, axum::Json(receipt)).into_response())
}

/// Returns the problem of an event that was not accepted.
pub(crate) fn unpublished(error: PublishError) -> ApiProblem {
    match error {
        PublishError::TooManyHops { .. } => ApiProblem::new(Code::InvalidRequest, error.to_string()),
        PublishError::Store(error) => error.into(),
    }
}

/// Follows events
///
/// Server-sent events named `event`, with the event as JSON. The stream is live only; reconnect with `recent`. A client
/// that is too slow gets `missed`.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", params(TailQuery),
    responses(
        (status = 200, description = "The stream", body = String, content_type = "text/event-stream"),
        (status = 422, description = "Invalid pattern", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Too many open streams", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn tail(State(state): State<AppState>, Query(query): Query<TailQuery>) -> ApiResult {
    let bad = |text: String| ApiProblem::new(Code::InvalidQuery, text);
    let pattern = query.topic.as_deref().map(TopicPattern::new).transpose().map_err(|error| bad(error.to_string()))?;
    if query.recent > MAX_RECENT {
        return Err(bad(format!("`recent` is {}: use 0 to {MAX_RECENT}", query.recent)));
    }
    let permit = state.stream_permit()?;
    // Subscribed before past events are read: an event in between may come twice, but is not lost.
    let signals = state.bus().tail();
    let mut recent = if query.recent > 0 { state.store().recent_events(query.recent).await? } else { Vec::new() };
    recent.reverse();
    Ok(event_tail(&state, signals, recent, pattern, permit))
}
