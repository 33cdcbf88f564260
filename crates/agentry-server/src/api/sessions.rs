//! `/v1/sessions`: conversations of continuous agents.

use std::convert::Infallible;
use std::str::FromStr;

use agentry_api::{List, SessionDetail, SessionDetailQuery, SessionQuery, SessionView};
use agentry_core::agent::AgentName;
use agentry_core::session::SessionId;
use agentry_store::SessionView as StoredSession;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::views::list_reply;
use crate::extract::{PathParam, Query, from_cursor, page_size};
use crate::problem::{ApiProblem, ApiResult, Code, ProblemBody};
use crate::state::AppState;

fn session_view(stored: StoredSession) -> SessionView {
    let record = stored.record;
    SessionView {
        agent: record.id.agent().to_owned(),
        key: record.id.key().to_owned(),
        id: record.id,
        messages: record.messages,
        turns: record.turns,
        open_tasks: stored.open_tasks,
        summary: record.summary,
        created_at: record.created_at,
        updated_at: record.updated_at,
    }
}

/// The id of a session in a path or cursor.
pub(crate) struct SessionParam(Result<SessionId, String>);

impl FromStr for SessionParam {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(SessionId::parse(text).ok_or_else(|| text.chars().take(80).collect())))
    }
}

fn unknown(id: &str) -> ApiProblem {
    ApiProblem::new(Code::UnknownSession, format!("there is no session `{id}`; sessions are written `agent:key`"))
}

/// Lists sessions, most recently used first
#[utoipa::path(
    get, path = "/v1/sessions", tag = "sessions", params(SessionQuery),
    responses((status = 200, description = "A page of sessions", body = List<SessionView>))
)]
pub(crate) async fn list(State(state): State<AppState>, Query(query): Query<SessionQuery>) -> ApiResult {
    let limit = page_size(query.limit)?;
    let agent = query.agent.as_deref().map(AgentName::new).transpose();
    let agent = agent.map_err(|error| ApiProblem::new(Code::InvalidQuery, error.to_string()))?;
    let before = from_cursor::<SessionParam>(query.cursor.as_deref())?.and_then(|name| name.0.ok());
    let page = state.store().sessions(agent.as_ref(), before.as_ref(), limit).await?;
    list_reply(page, |session| session.record.id.clone(), session_view)
}

/// Returns a session with its messages
#[utoipa::path(
    get, path = "/v1/sessions/{id}", tag = "sessions", params(("id" = String, Path, description = "`agent:key`, percent-encoded"), SessionDetailQuery),
    responses(
        (status = 200, description = "The session", body = SessionDetail),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(
    State(state): State<AppState>,
    PathParam(name): PathParam<SessionParam>,
    Query(query): Query<SessionDetailQuery>,
) -> ApiResult {
    let limit = page_size(query.limit)?;
    let id = name.0.map_err(|text| unknown(&text))?;
    let stored = state.store().session(&id).await?.ok_or_else(|| unknown(id.as_str()))?;
    let history = state.store().messages(&id, query.after, limit).await?;
    let next_after = history.last().map(|message| message.number).filter(|last| *last < stored.record.messages);
    Ok(axum::Json(SessionDetail { session: session_view(stored), history, next_after }).into_response())
}

/// Deletes a session and its messages
#[utoipa::path(
    delete, path = "/v1/sessions/{id}", tag = "sessions", params(("id" = String, Path, description = "`agent:key`, percent-encoded")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It has open tasks", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn delete(
    State(state): State<AppState>,
    PathParam(name): PathParam<SessionParam>,
) -> ApiResult<Response> {
    let id = name.0.map_err(|text| unknown(&text))?;
    if state.store().delete_session(&id).await? {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    // Not deleted: either it does not exist, or it has open tasks.
    match state.store().session(&id).await? {
        None => Err(unknown(id.as_str())),
        Some(session) => Err(ApiProblem::new(
            Code::SessionBusy,
            format!("session `{id}` has {} open tasks; cancel them or wait for their end", session.open_tasks),
        )),
    }
}
