//! `/v1/keys` and `/v1/audit`: API keys and the audit log.

use std::time::Duration;

use agentry_api::{AuditView, CreatedKey, KeyRequest, KeyView, List, PageQuery};
use agentry_core::access::{ApiKey, Scope};
use agentry_core::id::{AuditId, KeyId};
use agentry_core::time::Timestamp;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use secrecy::ExposeSecret as _;

use super::views::list_reply;
use crate::auth::new_key;
use crate::extract::{Json, PathParam, Query, from_cursor, page_size};
use crate::problem::{ApiProblem, ApiResult, Code, ProblemBody};
use crate::state::AppState;

/// The longest lifetime of a key with an expiry, in days.
const MAX_DAYS: u32 = 3_650;
/// The time for which a rotated key stays valid, so that its users can be migrated.
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
    responses((status = 200, description = "The keys, without their secrets", body = List<KeyView>))
)]
pub(crate) async fn list(State(state): State<AppState>) -> ApiResult {
    let now = state.now();
    let items = state.store().keys().await?.into_iter().map(|key| key_view(key, now)).collect::<Vec<_>>();
    Ok(axum::Json(List::from(items)).into_response())
}

/// Creates an API key
///
/// As soon as one key exists, every route except probes requires a key, also on loopback.
#[utoipa::path(
    post, path = "/v1/keys", tag = "access", request_body = KeyRequest,
    responses(
        (status = 201, description = "The key, which is shown only once", body = CreatedKey),
        (status = 403, description = "The caller's key lacks the scope admin", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is invalid", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(State(state): State<AppState>, Json(request): Json<KeyRequest>) -> ApiResult {
    let now = state.now();
    let expires_at = match request.expires_days {
        None => None,
        Some(days @ 1..=MAX_DAYS) => Some(now.after(Duration::from_secs(86_400 * u64::from(days)))),
        Some(days) => return Err(ApiProblem::field("/expires_days", format!("is {days}: use 1 to {MAX_DAYS}"))),
    };
    if request.scope != Scope::Admin && !crate::auth::guard::required(&state).await? {
        let text = "the first key must have the scope admin: with a lesser one nobody could make another";
        return Err(ApiProblem::field("/scope", text));
    }
    make(&state, &request.name, request.scope, expires_at).await
}

async fn make(state: &AppState, name: &str, scope: Scope, expires_at: Option<Timestamp>) -> ApiResult {
    let now = state.now();
    let (key, text) =
        new_key(name, scope, now, expires_at).map_err(|error| ApiProblem::field("/name", error.to_string()))?;
    state.store().add_key(&key).await?;
    state.keys.invalidate();
    let made = CreatedKey { key: text.expose_secret().to_owned(), view: key_view(key, now) };
    Ok((StatusCode::CREATED, axum::Json(made)).into_response())
}

async fn find(state: &AppState, id: KeyId) -> ApiResult<ApiKey> {
    let key = state.store().key(id).await?;
    key.ok_or_else(|| ApiProblem::new(Code::UnknownKey, format!("no API key has the id {id}")))
}

/// Rotates an API key
///
/// Creates a key with the same name, scope and expiry. The old key stays valid for an hour.
#[utoipa::path(
    post, path = "/v1/keys/{id}/rotate", tag = "access", params(("id" = String, Path)),
    responses(
        (status = 201, description = "The new key, which is shown only once", body = CreatedKey),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Not valid any more", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn rotate(State(state): State<AppState>, PathParam(id): PathParam<KeyId>) -> ApiResult {
    let (old, now) = (find(&state, id).await?, state.now());
    if !old.is_good(now) {
        return Err(ApiProblem::new(
            Code::KeyEnded,
            format!("the key `{}` is revoked or has expired: make another", old.name),
        ));
    }
    let made = make(&state, &old.name, old.scope, old.expires_at).await?;
    state.store().revoke_key(id, now.after(ROTATION_OVERLAP)).await?;
    state.keys.invalidate();
    Ok(made)
}

/// Revokes an API key
///
/// All replicas refuse it within seconds, and its sessions end.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "access", params(("id" = String, Path)),
    responses(
        (status = 204, description = "Revoked"),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The last key with the scope admin", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn revoke(State(state): State<AppState>, PathParam(id): PathParam<KeyId>) -> ApiResult<Response> {
    let (key, now) = (find(&state, id).await?, state.now());
    let good: Vec<ApiKey> =
        state.store().keys().await?.into_iter().filter(|one| one.is_good(now) && one.id != id).collect();
    // The very last key may be revoked: then no key is required, unless the settings say so.
    let locks_out =
        !good.iter().any(|one| one.scope == Scope::Admin) && (!good.is_empty() || state.deps.access.required);
    if key.is_good(now) && key.scope == Scope::Admin && locks_out {
        let detail = format!("`{}` is the last key with the scope admin: make another first", key.name);
        return Err(ApiProblem::new(Code::LastAdminKey, detail));
    }
    state.store().revoke_key(id, now).await?;
    state.keys.invalidate();
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Lists the audit log, newest first
///
/// Every write, allowed or refused, except submissions: a task is its own record.
#[utoipa::path(
    get, path = "/v1/audit", tag = "access", params(PageQuery),
    responses((status = 200, description = "A page of the audit log", body = List<AuditView>))
)]
pub(crate) async fn audit(State(state): State<AppState>, Query(query): Query<PageQuery>) -> ApiResult {
    let limit = page_size(query.limit)?;
    let before = from_cursor::<AuditId>(query.cursor.as_deref())?;
    let page = state.store().audit_log(before, limit).await?;
    list_reply(page, |entry| entry.id, |entry| AuditView { entry })
}
