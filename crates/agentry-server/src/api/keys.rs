//! `/v1/keys` and `/v1/audit`: who may do what, and who did what.

use std::time::Duration;

use agentry_api::{AuditView, KeyList, KeyMade, KeyRequest, KeyView, List, PageQuery};
use agentry_core::access::{ApiKey, Scope};
use agentry_core::id::{AuditId, KeyId};
use agentry_core::time::Timestamp;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use secrecy::ExposeSecret as _;

use super::views::list_reply;
use crate::auth::new_key;
use crate::extract::{Id, Json, Query, from_cursor, page_size};
use crate::problem::{Answer, Code, Problem, ProblemBody};
use crate::state::AppState;

/// The longest life of a key that has an end, in days.
const MAX_DAYS: u32 = 3_650;
/// How long a key goes on after it was rotated: time to change over whatever uses it.
const ROTATION_OVERLAP: Duration = Duration::from_secs(3_600);

fn key_view(key: ApiKey, now: Timestamp) -> KeyView {
    KeyView {
        active: key.is_good(now),
        id: key.id,
        name: key.name,
        scope: key.scope,
        created_at: key.created_at,
        last_used_at: key.last_used_at,
        expires_at: key.expires_at,
        revoked_at: key.revoked_at,
    }
}

/// Lists API keys
#[utoipa::path(
    get, path = "/v1/keys", tag = "access",
    responses((status = 200, description = "Every key, without the keys themselves", body = KeyList))
)]
pub(crate) async fn list(State(state): State<AppState>) -> Answer {
    let now = state.now();
    let items = state.store().keys().await?.into_iter().map(|key| key_view(key, now)).collect();
    Ok(axum::Json(KeyList { items }).into_response())
}

/// Makes an API key
///
/// From the first one on every route but the probes asks for a key, on this machine too.
#[utoipa::path(
    post, path = "/v1/keys", tag = "access", request_body = KeyRequest,
    responses(
        (status = 201, description = "The key, shown once", body = KeyMade),
        (status = 403, description = "The caller's key has not the scope admin", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(State(state): State<AppState>, Json(request): Json<KeyRequest>) -> Answer {
    let now = state.now();
    let expires_at = match request.expires_days {
        None => None,
        Some(days @ 1..=MAX_DAYS) => Some(now.after(Duration::from_secs(86_400 * u64::from(days)))),
        Some(days) => return Err(Problem::field("/expires_days", format!("is {days}: use 1 to {MAX_DAYS}"))),
    };
    if request.scope != Scope::Admin && !crate::auth::guard::required(&state).await? {
        let text = "the first key must have the scope admin: with a lesser one nobody could make another";
        return Err(Problem::field("/scope", text));
    }
    make(&state, &request.name, request.scope, expires_at).await
}

async fn make(state: &AppState, name: &str, scope: Scope, expires_at: Option<Timestamp>) -> Answer {
    let now = state.now();
    let (key, text) = new_key(name, scope, now, expires_at).map_err(|why| Problem::field("/name", why))?;
    state.store().add_key(&key).await?;
    state.keys.forget();
    let made = KeyMade { key: text.expose_secret().to_owned(), view: key_view(key, now) };
    Ok((StatusCode::CREATED, axum::Json(made)).into_response())
}

async fn find(state: &AppState, id: KeyId) -> Answer<ApiKey> {
    let key = state.store().key(id).await?;
    key.ok_or_else(|| Problem::new(Code::UnknownKey, format!("no API key has the id {id}")))
}

/// Rotates an API key
///
/// Makes another with the same name, scope and end. The old one goes on for an hour.
#[utoipa::path(
    post, path = "/v1/keys/{id}/rotate", tag = "access", params(("id" = String, Path)),
    responses(
        (status = 201, description = "The new key, shown once", body = KeyMade),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It is no longer good", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn rotate(State(state): State<AppState>, Id(id): Id<KeyId>) -> Answer {
    let (old, now) = (find(&state, id).await?, state.now());
    if !old.is_good(now) {
        return Err(Problem::new(
            Code::KeyEnded,
            format!("the key `{}` is revoked or has expired: make another", old.name),
        ));
    }
    let made = make(&state, &old.name, old.scope, old.expires_at).await?;
    state.store().revoke_key(id, now.after(ROTATION_OVERLAP)).await?;
    state.keys.forget();
    Ok(made)
}

/// Revokes an API key
///
/// It is refused within seconds everywhere, and sessions that were opened with it end.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "access", params(("id" = String, Path)),
    responses(
        (status = 204, description = "Revoked"),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It is the last key with the scope admin", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn revoke(State(state): State<AppState>, Id(id): Id<KeyId>) -> Answer<Response> {
    let (key, now) = (find(&state, id).await?, state.now());
    let good: Vec<ApiKey> =
        state.store().keys().await?.into_iter().filter(|one| one.is_good(now) && one.id != id).collect();
    // The last of all may go: then nobody needs a key, unless the settings ask for one.
    let locks_out =
        !good.iter().any(|one| one.scope == Scope::Admin) && (!good.is_empty() || state.deps.access.required);
    if key.is_good(now) && key.scope == Scope::Admin && locks_out {
        let detail = format!("`{}` is the last key with the scope admin: make another first", key.name);
        return Err(Problem::new(Code::LastAdminKey, detail));
    }
    state.store().revoke_key(id, now).await?;
    state.keys.forget();
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Lists changes, newest first
///
/// Every request that could change something, allowed or not, but for those that accept work: a task is its own record.
#[utoipa::path(
    get, path = "/v1/audit", tag = "access", params(PageQuery),
    responses((status = 200, description = "A page of the audit log", body = List<AuditView>))
)]
pub(crate) async fn audit(State(state): State<AppState>, Query(query): Query<PageQuery>) -> Answer {
    let limit = page_size(query.limit)?;
    let before = from_cursor::<AuditId>(query.cursor.as_deref())?;
    let page = state.store().audit_log(before, limit).await?;
    list_reply(page, |entry| entry.id, |entry| AuditView { entry })
}
