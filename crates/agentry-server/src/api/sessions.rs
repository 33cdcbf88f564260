//! `/v1/sessions`: conversations of continuous agents.

use std::convert::Infallible;
use std::str::FromStr;

use agentry_core::agent::AgentName;
use agentry_core::session::{SessionId, SessionMessage, Summary};
use agentry_core::time::Timestamp;
use agentry_store::SessionView as StoredSession;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::views::List;
use crate::extract::{Id, Query, from_cursor, page_size, to_cursor};
use crate::problem::{Answer, Code, Problem, ProblemBody};
use crate::state::AppState;

/// A session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub(crate) struct SessionView {
    /// `agent:key`.
    #[schema(value_type = String)]
    id: SessionId,
    /// Its agent.
    agent: String,
    /// Its key within the agent.
    key: String,
    /// Messages kept.
    messages: u64,
    /// Turns completed.
    turns: u64,
    /// Tasks in its inbox that have not ended.
    open_tasks: u64,
    /// What was summarised away, when its agent summarises.
    #[schema(value_type = Option<Object>)]
    summary: Option<Summary>,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When a turn last ended.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<StoredSession> for SessionView {
    fn from(stored: StoredSession) -> Self {
        let record = stored.record;
        Self {
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
}

/// A session with a page of its messages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionDetail {
    /// The session.
    #[serde(flatten)]
    session: SessionView,
    /// Messages numbered above `after`, oldest first.
    #[schema(value_type = Vec<Object>)]
    history: Vec<SessionMessage>,
    /// Pass it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_after: Option<u64>,
}

/// A session's name in a path or cursor.
pub(crate) struct Name(Result<SessionId, String>);

impl FromStr for Name {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(SessionId::parse(text).ok_or_else(|| text.chars().take(80).collect())))
    }
}

fn unknown(id: &str) -> Problem {
    Problem::new(Code::UnknownSession, format!("there is no session `{id}`; sessions are written `agent:key`"))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Sessions of this agent.
    agent: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Rows, 1 to 1,000; 50 when absent.
    limit: Option<usize>,
}

/// Lists sessions, last touched first
#[utoipa::path(
    get, path = "/v1/sessions", tag = "sessions", params(ListQuery),
    responses((status = 200, description = "A page of sessions", body = List<SessionView>))
)]
pub(crate) async fn list(State(state): State<AppState>, Query(query): Query<ListQuery>) -> Answer {
    let limit = page_size(query.limit)?;
    let agent = query.agent.as_deref().map(AgentName::new).transpose();
    let agent = agent.map_err(|error| Problem::new(Code::InvalidQuery, error.to_string()))?;
    let before = from_cursor::<Name>(query.cursor.as_deref())?.and_then(|name| name.0.ok());
    let page = state.store().sessions(agent.as_ref(), before.as_ref(), limit).await?;
    let next_cursor = page.items.last().filter(|_| page.more).map(|session| to_cursor(&session.record.id));
    Ok(axum::Json(List { items: page.items.into_iter().map(SessionView::from).collect(), next_cursor }).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct GetQuery {
    /// Messages numbered above this one; 0 when absent.
    #[serde(default)]
    after: u64,
    /// Messages, 1 to 1,000; 50 when absent.
    limit: Option<usize>,
}

/// Shows a session with its messages
#[utoipa::path(
    get, path = "/v1/sessions/{id}", tag = "sessions", params(("id" = String, Path, description = "`agent:key`, percent-encoded"), GetQuery),
    responses(
        (status = 200, description = "The session", body = SessionDetail),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(State(state): State<AppState>, Id(name): Id<Name>, Query(query): Query<GetQuery>) -> Answer {
    let limit = page_size(query.limit)?;
    let id = name.0.map_err(|text| unknown(&text))?;
    let stored = state.store().session(&id).await?.ok_or_else(|| unknown(id.as_str()))?;
    let history = state.store().messages(&id, query.after, limit).await?;
    let next_after = history.last().map(|message| message.number).filter(|last| *last < stored.record.messages);
    Ok(axum::Json(SessionDetail { session: stored.into(), history, next_after }).into_response())
}

/// Deletes a session and its messages
#[utoipa::path(
    delete, path = "/v1/sessions/{id}", tag = "sessions", params(("id" = String, Path, description = "`agent:key`, percent-encoded")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It has open tasks", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn delete(State(state): State<AppState>, Id(name): Id<Name>) -> Answer<Response> {
    let id = name.0.map_err(|text| unknown(&text))?;
    if state.store().delete_session(&id).await? {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    // Refused: either there is none, or its inbox is not empty.
    match state.store().session(&id).await? {
        None => Err(unknown(id.as_str())),
        Some(session) => Err(Problem::new(
            Code::SessionBusy,
            format!("session `{id}` has {} open tasks; cancel them or wait for their end", session.open_tasks),
        )),
    }
}
