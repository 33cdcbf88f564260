//! `/v1/me`, `/v1/sign-in`, `/v1/sign-out`: the caller, and the sessions of the dashboard.

use agentry_api::CallerView;
use agentry_core::access::Scope;
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::auth::session::{self, Token};
use crate::auth::{guard, key};
use crate::extract::Json;
use crate::problem::{ApiProblem, ApiResult, Code, ProblemBody};
use crate::state::AppState;

/// Returns the caller
#[utoipa::path(
    get, path = "/v1/me", tag = "access",
    responses((status = 200, description = "The caller", body = CallerView))
)]
pub(crate) async fn get(State(state): State<AppState>, headers: HeaderMap) -> ApiResult {
    let required = guard::required(&state).await?;
    let caller = match guard::caller(&state, &headers, false).await {
        Err(problem) if problem.code == Code::Unauthorized => None,
        other => other?,
    };
    let me = match caller {
        Some(caller) => CallerView {
            required,
            signed_in: true,
            name: Some(caller.name),
            scope: Some(caller.scope),
            csrf: caller.csrf,
        },
        None => CallerView {
            required,
            signed_in: false,
            name: None,
            scope: (!required).then_some(Scope::Admin),
            csrf: None,
        },
    };
    Ok(axum::Json(me).into_response())
}

/// The key to sign in with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignIn {
    /// The key.
    #[schema(value_type = String)]
    key: SecretString,
}

fn cookie(text: &str) -> ApiResult<[(header::HeaderName, HeaderValue); 1]> {
    let value =
        HeaderValue::from_str(text).map_err(|_| ApiProblem::new(Code::Internal, "the cookie cannot be a header"))?;
    Ok([(header::SET_COOKIE, value)])
}

/// Opens a session
///
/// Sets a cookie that is valid for twelve hours, until sign-out or the end of the key. Writes with the cookie must carry
/// the `X-CSRF-Token` of `/v1/me`.
#[utoipa::path(
    post, path = "/v1/sign-in", tag = "access", request_body = SignIn,
    responses(
        (status = 204, description = "Signed in"),
        (status = 401, description = "Invalid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too many attempts", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn sign_in(State(state): State<AppState>, Json(request): Json<SignIn>) -> ApiResult<Response> {
    let text = request.key.expose_secret();
    let caller = guard::by_key(&state, text).await?;
    let now = state.now();
    let known = state.keys.by_hash(state.store(), key::hash_of(text), now).await?;
    let key = known.ok_or_else(|| guard::unauthorized("the key was revoked just now"))?;
    let (token, session) = session::open(&key, now)
        .map_err(|error| ApiProblem::new(Code::Internal, format!("no random bytes for a session: {error}")))?;
    if !state.store().add_browser_session(&session).await? {
        return Err(guard::unauthorized("the key was revoked just now"));
    }
    let cookie = cookie(&token.cookie(state.deps.access.tls))?;
    // For the audit log.
    Ok((StatusCode::NO_CONTENT, cookie, Extension(caller)).into_response())
}

/// Ends a session
///
/// This process refuses the cookie at once, others within two seconds.
#[utoipa::path(
    post, path = "/v1/sign-out", tag = "access",
    responses((status = 204, description = "Signed out"))
)]
pub(crate) async fn sign_out(State(state): State<AppState>, headers: HeaderMap) -> ApiResult<Response> {
    if let Some(token) = Token::of(&headers) {
        state.store().end_browser_session(token.hash()).await?;
        state.keys.invalidate();
    }
    Ok((StatusCode::NO_CONTENT, cookie(&session::close(state.deps.access.tls))?).into_response())
}
