//! `/v1/me`, `/v1/sign-in`, `/v1/sign-out`: how the dashboard learns who looks at it, and opens and ends a session.

use agentry_api::Me;
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
use crate::problem::{Answer, Code, Problem, ProblemBody};
use crate::state::AppState;

/// Says who asks
#[utoipa::path(
    get, path = "/v1/me", tag = "access",
    responses((status = 200, description = "The caller, as this server knows it", body = Me))
)]
pub(crate) async fn get(State(state): State<AppState>, headers: HeaderMap) -> Answer {
    let required = guard::required(&state).await?;
    let caller = match guard::caller(&state, &headers, false).await {
        Err(problem) if problem.code == Code::Unauthorized => None,
        other => other?,
    };
    let me = match caller {
        Some(caller) => {
            Me { required, signed_in: true, name: Some(caller.name), scope: Some(caller.scope), csrf: caller.csrf }
        }
        None => Me { required, signed_in: false, name: None, scope: (!required).then_some(Scope::Admin), csrf: None },
    };
    Ok(axum::Json(me).into_response())
}

/// A key to sign in with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignIn {
    /// The key.
    #[schema(value_type = String)]
    key: SecretString,
}

fn cookie(text: &str) -> Answer<[(header::HeaderName, HeaderValue); 1]> {
    let value =
        HeaderValue::from_str(text).map_err(|_| Problem::new(Code::Internal, "the cookie cannot be a header"))?;
    Ok([(header::SET_COOKIE, value)])
}

/// Opens a session
///
/// Sets a cookie that lasts twelve hours, and ends with the key or by signing out. Writes with the cookie carry `X-CSRF-Token`, which
/// `/v1/me` has.
#[utoipa::path(
    post, path = "/v1/sign-in", tag = "access", request_body = SignIn,
    responses(
        (status = 204, description = "Signed in"),
        (status = 401, description = "Not a good key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too many tries", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn sign_in(State(state): State<AppState>, Json(request): Json<SignIn>) -> Answer<Response> {
    let text = request.key.expose_secret();
    let caller = guard::by_key(&state, text).await?;
    let now = state.now();
    let known = state.keys.by_hash(state.store(), key::hash_of(text), now).await?;
    let key = known.ok_or_else(|| guard::unauthorized("the key was revoked just now"))?;
    let (token, session) = session::open(&key, now).map_err(|why| Problem::new(Code::Internal, why))?;
    if !state.store().add_browser_session(&session).await? {
        return Err(guard::unauthorized("the key was revoked just now"));
    }
    let cookie = cookie(&token.cookie(state.deps.access.tls))?;
    // The audit log names who signed in.
    Ok((StatusCode::NO_CONTENT, cookie, Extension(caller)).into_response())
}

/// Ends a session
///
/// This process refuses the cookie at once, others within two seconds, whoever has a copy of it.
#[utoipa::path(
    post, path = "/v1/sign-out", tag = "access",
    responses((status = 204, description = "Signed out, whoever asked"))
)]
pub(crate) async fn sign_out(State(state): State<AppState>, headers: HeaderMap) -> Answer<Response> {
    if let Some(token) = Token::of(&headers) {
        state.store().end_browser_session(token.hash()).await?;
        state.keys.forget();
    }
    Ok((StatusCode::NO_CONTENT, cookie(&session::close(state.deps.access.tls))?).into_response())
}
