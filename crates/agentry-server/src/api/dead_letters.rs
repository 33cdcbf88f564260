//! `/v1/dead-letters`: what was given up; look, edit, replay, drop.

use agentry_core::id::DeadLetterId;
use agentry_intake::{ReplayError, Replayed};
use agentry_store::DeadLetter;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::request::not_live;
use super::views::List;
use crate::extract::{Id, Json, Query, from_cursor, page_size, to_cursor};
use crate::problem::{Answer, Code, Problem, ProblemBody};
use crate::state::AppState;

/// Something that was given up: `id`, `origin` (`task` or `outbox`), `task`, `agent`, `reason`, `payload`,
/// `created_at`, `state` (`open`, `replayed` or `dropped`).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub(crate) struct DeadLetterView {
    /// The dead letter.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    letter: DeadLetter,
}

fn unknown(id: DeadLetterId) -> Problem {
    Problem::new(Code::UnknownDeadLetter, format!("no dead letter has the id {id}"))
}

async fn find(state: &AppState, id: DeadLetterId) -> Answer<DeadLetter> {
    state.store().dead_letter(id).await?.ok_or_else(|| unknown(id))
}

/// Why a change was refused: it is gone, or no longer open.
async fn refused(state: &AppState, id: DeadLetterId) -> Problem {
    match find(state, id).await {
        Ok(letter) => {
            let state = serde_json::to_value(letter.state).ok();
            let word = state.as_ref().and_then(Value::as_str).unwrap_or("closed");
            Problem::new(Code::DeadLetterClosed, format!("dead letter {id} is {word}: only open ones can be changed"))
        }
        Err(problem) => problem,
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Whether to list replayed and dropped ones too.
    #[serde(default)]
    all: bool,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Rows, 1 to 1,000; 50 when absent.
    limit: Option<usize>,
}

/// Lists dead letters, newest first
#[utoipa::path(
    get, path = "/v1/dead-letters", tag = "dead letters", params(ListQuery),
    responses((status = 200, description = "A page of dead letters: open ones, or all", body = List<DeadLetterView>))
)]
pub(crate) async fn list(State(state): State<AppState>, Query(query): Query<ListQuery>) -> Answer {
    let limit = page_size(query.limit)?;
    let before = from_cursor(query.cursor.as_deref())?;
    let page = state.store().dead_letters(!query.all, before, limit).await?;
    let next_cursor = page.items.last().filter(|_| page.more).map(|letter| to_cursor(&letter.id));
    let items = page.items.into_iter().map(|letter| DeadLetterView { letter }).collect();
    Ok(axum::Json(List { items, next_cursor }).into_response())
}

/// Shows a dead letter
#[utoipa::path(
    get, path = "/v1/dead-letters/{id}", tag = "dead letters", params(("id" = String, Path)),
    responses(
        (status = 200, description = "The dead letter", body = DeadLetterView),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(State(state): State<AppState>, Id(id): Id<DeadLetterId>) -> Answer {
    Ok(axum::Json(DeadLetterView { letter: find(&state, id).await? }).into_response())
}

/// A new payload.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EditRequest {
    /// A task's input, or a callback's `{url, payload}`, or an event.
    payload: Value,
}

/// Edits the payload of an open dead letter
#[utoipa::path(
    patch, path = "/v1/dead-letters/{id}", tag = "dead letters", params(("id" = String, Path)), request_body = EditRequest,
    responses(
        (status = 200, description = "Edited", body = DeadLetterView),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "No longer open", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn edit(
    State(state): State<AppState>,
    Id(id): Id<DeadLetterId>,
    Json(request): Json<EditRequest>,
) -> Answer {
    if !state.store().edit_dead_letter(id, request.payload).await? {
        return Err(refused(&state, id).await);
    }
    get(State(state), Id(id)).await
}

/// Drops an open dead letter
#[utoipa::path(
    delete, path = "/v1/dead-letters/{id}", tag = "dead letters", params(("id" = String, Path)),
    responses(
        (status = 204, description = "Dropped"),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "No longer open", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn delete(State(state): State<AppState>, Id(id): Id<DeadLetterId>) -> Answer<Response> {
    if !state.store().drop_dead_letter(id).await? {
        return Err(refused(&state, id).await);
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What a replay made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplayReply {
    /// The dead letter.
    #[schema(value_type = String)]
    id: DeadLetterId,
    /// The new task, when a task was replayed; absent: the message is in the outbox again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    task: Option<agentry_core::id::TaskId>,
}

/// Replays a dead letter
///
/// A task is accepted anew with the (edited) input, session, priority, timeout, budget and callback of the old one; a
/// callback or event goes back into the outbox with fresh tries.
#[utoipa::path(
    post, path = "/v1/dead-letters/{id}/replay", tag = "dead letters", params(("id" = String, Path)),
    responses(
        (status = 202, description = "Replayed; `Location` has the task", body = ReplayReply),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "No longer open, or its agent takes no tasks", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn replay(State(state): State<AppState>, Id(id): Id<DeadLetterId>) -> Answer {
    let letter = find(&state, id).await?;
    match state.intake().replay(letter).await {
        Ok(Replayed::Message) => Ok((StatusCode::ACCEPTED, axum::Json(ReplayReply { id, task: None })).into_response()),
        Ok(Replayed::Task(task)) => {
            let location = [(header::LOCATION, format!("/v1/tasks/{}", task.id))];
            Ok((StatusCode::ACCEPTED, location, axum::Json(ReplayReply { id, task: Some(task.id) })).into_response())
        }
        Err(ReplayError::Agent(why)) => Err(not_live(&state, &why)),
        Err(ReplayError::NotOpen) => Err(refused(&state, id).await),
        Err(ReplayError::Store(error)) => Err(error.into()),
    }
}
