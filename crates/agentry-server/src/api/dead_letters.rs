//! `/v1/dead-letters`: failed tasks and undeliverable messages; list, edit, replay, drop.

use agentry_api::{
    DeadLetterBody, DeadLetterView, EditRequest, LetterOrigin, LetterState, List, OpenItemQuery, ReplayReply,
};
use agentry_core::id::DeadLetterId;
use agentry_intake::{ReplayError, Replayed};
use agentry_store::{DeadLetter, DeadLetterOrigin, DeadLetterState};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::request::unavailable_agent;
use super::views::list_reply;
use crate::extract::{Json, PathParam, Query, from_cursor, page_size};
use crate::problem::{ApiProblem, ApiResult, Code, ProblemBody};
use crate::state::AppState;

fn letter_view(letter: DeadLetter) -> DeadLetterView {
    let DeadLetter { id, origin, task, agent, reason, payload, created_at, state } = letter;
    let origin = match origin {
        DeadLetterOrigin::Task => LetterOrigin::Task,
        DeadLetterOrigin::Outbox => LetterOrigin::Outbox,
    };
    let state = match state {
        DeadLetterState::Open => LetterState::Open,
        DeadLetterState::Replayed => LetterState::Replayed,
        DeadLetterState::Dropped => LetterState::Dropped,
    };
    DeadLetterView { letter: DeadLetterBody { id, origin, task, agent, reason, payload, created_at, state } }
}

fn unknown(id: DeadLetterId) -> ApiProblem {
    ApiProblem::new(Code::UnknownDeadLetter, format!("no dead letter has the id {id}"))
}

async fn find(state: &AppState, id: DeadLetterId) -> ApiResult<DeadLetter> {
    state.store().dead_letter(id).await?.ok_or_else(|| unknown(id))
}

/// Returns the problem of a change that was refused: the dead letter is unknown or not open.
async fn refused(state: &AppState, id: DeadLetterId) -> ApiProblem {
    match find(state, id).await {
        Ok(letter) => {
            let state = serde_json::to_value(letter.state).ok();
            let word = state.as_ref().and_then(Value::as_str).unwrap_or("closed");
            ApiProblem::new(
                Code::DeadLetterClosed,
                format!("dead letter {id} is {word}: only open ones can be changed"),
            )
        }
        Err(problem) => problem,
    }
}

/// Lists dead letters, newest first
#[utoipa::path(
    get, path = "/v1/dead-letters", tag = "dead letters", params(OpenItemQuery),
    responses((status = 200, description = "A page of open dead letters, or of all", body = List<DeadLetterView>))
)]
pub(crate) async fn list(State(state): State<AppState>, Query(query): Query<OpenItemQuery>) -> ApiResult {
    let limit = page_size(query.limit)?;
    let before = from_cursor(query.cursor.as_deref())?;
    let page = state.store().dead_letters(!query.all, before, limit).await?;
    list_reply(page, |letter| letter.id, letter_view)
}

/// Returns a dead letter
#[utoipa::path(
    get, path = "/v1/dead-letters/{id}", tag = "dead letters", params(("id" = String, Path)),
    responses(
        (status = 200, description = "The dead letter", body = DeadLetterView),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(State(state): State<AppState>, PathParam(id): PathParam<DeadLetterId>) -> ApiResult {
    Ok(axum::Json(letter_view(find(&state, id).await?)).into_response())
}

/// Edits the payload of an open dead letter
#[utoipa::path(
    patch, path = "/v1/dead-letters/{id}", tag = "dead letters", params(("id" = String, Path)), request_body = EditRequest,
    responses(
        (status = 200, description = "Edited", body = DeadLetterView),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Not open any more", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn edit(
    State(state): State<AppState>,
    PathParam(id): PathParam<DeadLetterId>,
    Json(request): Json<EditRequest>,
) -> ApiResult {
    if !state.store().edit_dead_letter(id, request.payload).await? {
        return Err(refused(&state, id).await);
    }
    get(State(state), PathParam(id)).await
}

/// Drops an open dead letter
#[utoipa::path(
    delete, path = "/v1/dead-letters/{id}", tag = "dead letters", params(("id" = String, Path)),
    responses(
        (status = 204, description = "Dropped"),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Not open any more", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn delete(
    State(state): State<AppState>,
    PathParam(id): PathParam<DeadLetterId>,
) -> ApiResult<Response> {
    if !state.store().drop_dead_letter(id).await? {
        return Err(refused(&state, id).await);
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Replays a dead letter
///
/// A failed task is submitted again with the (edited) input, session, priority, timeout, budget and callback of the old
/// one; a callback or event returns to the outbox with its retries reset.
#[utoipa::path(
    post, path = "/v1/dead-letters/{id}/replay", tag = "dead letters", params(("id" = String, Path)),
    responses(
        (status = 202, description = "Replayed; `Location` is the task", body = ReplayReply),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "No longer open, or its agent takes no tasks", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn replay(State(state): State<AppState>, PathParam(id): PathParam<DeadLetterId>) -> ApiResult {
    let letter = find(&state, id).await?;
    match state.intake().replay(letter).await {
        Ok(Replayed::Message) => Ok((StatusCode::ACCEPTED, axum::Json(ReplayReply { id, task: None })).into_response()),
        Ok(Replayed::Task(task)) => {
            let location = [(header::LOCATION, format!("/v1/tasks/{}", task.id))];
            Ok((StatusCode::ACCEPTED, location, axum::Json(ReplayReply { id, task: Some(task.id) })).into_response())
        }
        Err(ReplayError::Agent(why)) => Err(unavailable_agent(&state, &why)),
        Err(ReplayError::NotOpen) => Err(refused(&state, id).await),
        Err(ReplayError::Store(error)) => Err(error.into()),
    }
}
