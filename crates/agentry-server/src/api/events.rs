//! `/v1/events`: publish an event, follow the tail of all.

use std::sync::Arc;
use std::time::Duration;

use agentry_bus::Wake;
use agentry_core::event::Event;
use agentry_core::id::TaskId;
use agentry_core::task::Task;
use agentry_core::topic::{TopicPattern, check_topic};
use agentry_store::{EventAccepted, NewTask};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::extract::{Json, Query, Traced};
use crate::problem::{Answer, Code, Problem, ProblemBody};
use crate::sse::event_tail;
use crate::state::AppState;

/// The source of events whose publisher does not say who it is.
const SOURCE: &str = "api";
/// The type of events whose publisher does not say what kind they are.
const KIND: &str = "dev.agentry.event.published.v1";
/// The longest id, source or type, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// How long the answer to a publisher waits for the bus.
const TELL_TIMEOUT: Duration = Duration::from_secs(1);
/// Past events that a tail begins with at most.
const MAX_RECENT: usize = 1_000;

/// An event to publish.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventRequest {
    /// Words apart by dots, such as `customer.ticket.created`.
    topic: String,
    /// What happened; the input of the tasks it starts.
    data: Value,
    /// Unique within its source: the same one is taken once. A new one when absent.
    id: Option<String>,
    /// Who says so; `api` when absent.
    source: Option<String>,
    /// What kind, as in CloudEvents.
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// An event that is durable.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventReceipt {
    /// Its id.
    id: String,
    /// Its source.
    source: String,
    /// Whether (source, id) was known: then nothing was done.
    duplicate: bool,
    /// The tasks it started.
    tasks: Vec<StartedTask>,
}

/// A task that an event started.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StartedTask {
    /// Its id.
    #[schema(value_type = String)]
    id: TaskId,
    /// Who does it.
    agent: String,
}

fn checked(pointer: &str, given: Option<String>, default: impl FnOnce() -> String) -> Answer<String> {
    match given {
        None => Ok(default()),
        Some(text) if text.is_empty() || text.len() > MAX_NAME_BYTES || text.chars().any(char::is_control) => {
            Err(Problem::field(pointer, format!("has 1 to {MAX_NAME_BYTES} bytes and no control characters")))
        }
        Some(text) => Ok(text),
    }
}

/// Publishes an event
///
/// It and the tasks of its subscribers are durable when the answer arrives.
#[utoipa::path(
    post, path = "/v1/events", tag = "events", request_body = EventRequest,
    responses(
        (status = 202, description = "Durable", body = EventReceipt),
        (status = 200, description = "Known: nothing was done", body = EventReceipt),
        (status = 422, description = "A field is wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Full: nothing was accepted", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn publish(
    State(state): State<AppState>,
    Traced(place): Traced,
    Json(request): Json<EventRequest>,
) -> Answer {
    check_topic(&request.topic).map_err(|error| Problem::field("/topic", error.to_string()))?;
    let trace = place.onward();
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
    let tasks = tasks_of(&state, &event);
    let accepted = state.store().accept_event(&event, tasks.clone()).await?;
    let Event { id, source, .. } = event.clone();
    if accepted == EventAccepted::Duplicate {
        let receipt = EventReceipt { id, source, duplicate: true, tasks: Vec::new() };
        return Ok((StatusCode::OK, axum::Json(receipt)).into_response());
    }
    let started = tasks.iter().map(|new| StartedTask { id: new.task.id, agent: new.task.agent.to_string() }).collect();
    if !tasks.is_empty() {
        state.bus().wake(tasks.into_iter().map(|new| Wake::of(new.task)).collect());
    }
    // Its tasks are durable whatever the bus says; listeners outside see it late or not at all.
    match tokio::time::timeout(TELL_TIMEOUT, state.bus().publish(&event)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, topic = %event.topic, "an accepted event did not reach listeners"),
        Err(_) => tracing::warn!(topic = %event.topic, "the bus did not confirm an accepted event in time"),
    }
    let receipt = EventReceipt { id, source, duplicate: false, tasks: started };
    Ok((StatusCode::ACCEPTED, axum::Json(receipt)).into_response())
}

/// One task for each agent that subscribes to the event's topic.
fn tasks_of(state: &AppState, event: &Event) -> Vec<NewTask> {
    let fleet = state.deps.fleet.current();
    let names = fleet.subscribers(&event.topic);
    let specs = names.iter().filter_map(|name| fleet.live(name));
    specs
        .map(|spec| Task::of_event(event, spec, TaskId::generate(), event.time))
        .map(|task| NewTask { task: Arc::new(task), idempotency: None, ready_at: None })
        .collect()
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TailQuery {
    /// Only events on topics that match this AMQP pattern (`*` one word, `#` any number).
    topic: Option<String>,
    /// Begin with this many past events, at most 1,000; 0 when absent.
    #[serde(default)]
    recent: usize,
}

/// Follows events
///
/// Server-sent events named `event`, with the event as JSON. Live only: after a break begin again with `recent`. A
/// tail that was too slow gets `missed`.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", params(TailQuery),
    responses(
        (status = 200, description = "The stream", body = String, content_type = "text/event-stream"),
        (status = 422, description = "Not a pattern", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Too many streams", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn tail(State(state): State<AppState>, Query(query): Query<TailQuery>) -> Answer {
    let bad = |text: String| Problem::new(Code::InvalidQuery, text);
    let pattern = query.topic.as_deref().map(TopicPattern::new).transpose().map_err(|error| bad(error.to_string()))?;
    if query.recent > MAX_RECENT {
        return Err(bad(format!("`recent` is {}: use 0 to {MAX_RECENT}", query.recent)));
    }
    let permit = state.stream_permit()?;
    // Heard before the past is read: an event in between may come twice, but is not lost.
    let signals = state.bus().tail();
    let mut recent = if query.recent > 0 { state.store().recent_events(query.recent).await? } else { Vec::new() };
    recent.reverse();
    Ok(event_tail(&state, signals, recent, pattern, permit))
}
