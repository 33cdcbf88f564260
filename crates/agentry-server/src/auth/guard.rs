//! The checks of a request before its endpoint.

use agentry_core::access::Scope;
use axum::extract::Request;
use axum::http::{HeaderMap, header};

use super::policy::{RouteAccess, writes};
use super::session::Token;
use super::{Principal, key, origin};
use crate::problem::{ApiProblem, ApiResult, Code};
use crate::state::AppState;

/// Checks a request and adds its [`Principal`] to the extensions.
pub(crate) async fn guard(state: &AppState, need: RouteAccess, request: &mut Request) -> ApiResult<()> {
    let access = &state.deps.access;
    let is_write = writes(request.method());
    if (need != RouteAccess::Open || is_write)
        && let Err(refusal) = origin::check_host(access, request.headers(), request.uri())
    {
        // Requests of Slack are signed, and signing in needs a key: neither helps a page that rebinds a name. The store
        // is asked for unknown hosts only, so that a scrape works while it is unavailable.
        if access.loopback || (need != RouteAccess::Open && !required(state).await?) {
            return Err(refusal);
        }
    }
    if is_write {
        origin::check_page(request.headers(), request.uri())?;
    }
    let scope = match need {
        RouteAccess::Open => return Ok(()),
        RouteAccess::Scrape if access.loopback => return Ok(()),
        RouteAccess::Scrape => Scope::Read,
        RouteAccess::Scope(scope) => scope,
    };
    let caller = match caller(state, request.headers(), is_write).await? {
        Some(caller) => caller,
        None if !required(state).await? => Principal::anybody(),
        None => return Err(unauthorized("this server needs an API key: send `Authorization: Bearer agk_…`")),
    };
    // Added before the refusal, so that the audit log names the caller.
    let (name, has) = (caller.name.clone(), caller.scope);
    request.extensions_mut().insert(caller);
    if has < scope {
        let detail = format!("the key `{name}` has the scope {has}; this needs {scope}");
        return Err(ApiProblem::new(Code::ScopeMissing, detail));
    }
    Ok(())
}

/// Returns whether callers need a key now.
pub(crate) async fn required(state: &AppState) -> ApiResult<bool> {
    Ok(state.deps.access.required || state.keys.needed(state.store(), state.now()).await?)
}

pub(crate) fn unauthorized(detail: &'static str) -> ApiProblem {
    ApiProblem::new(Code::Unauthorized, detail)
}

/// Returns the caller by key, else by session; `None` without either.
pub(crate) async fn caller(state: &AppState, headers: &HeaderMap, is_write: bool) -> ApiResult<Option<Principal>> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let text = value.to_str().unwrap_or_default();
        let token = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let token = token.map_or("", |(_, token)| token.trim());
        return by_key(state, token).await.map(Some);
    }
    by_session(state, headers, is_write).await
}

/// Returns the caller with this key.
pub(crate) async fn by_key(state: &AppState, token: &str) -> ApiResult<Principal> {
    let now = state.now();
    if key::is_well_formed(token) && state.deps.access.own == Some(key::hash_of(token)) {
        return Ok(Principal { name: "this process".to_owned(), ..Principal::anybody() });
    }
    let known = match key::is_well_formed(token) {
        true => state.keys.by_hash(state.store(), key::hash_of(token), now).await?,
        false => None,
    };
    let Some(key) = known else {
        state.keys.admit_failure().map_err(|wait| too_many("failed tries to sign in", wait))?;
        return Err(unauthorized("the API key is unknown, revoked or has expired: `agentry keys` lists good ones"));
    };
    record_use(state, &key).await?;
    Ok(Principal { name: key.name.clone(), key: Some(key.id), scope: key.scope, csrf: None })
}

async fn by_session(state: &AppState, headers: &HeaderMap, is_write: bool) -> ApiResult<Option<Principal>> {
    let Some(token) = Token::of(headers) else { return Ok(None) };
    let now = state.now();
    let key = match state.keys.session(state.store(), token.hash(), now).await? {
        Some(session) => state.keys.by_id(state.store(), session.key, now).await?,
        None => None,
    };
    let Some(key) = key else {
        // A stale cookie is ignored where no key is required.
        return if required(state).await? {
            Err(unauthorized("the session has ended: sign in again"))
        } else {
            Ok(None)
        };
    };
    if is_write && !token.carries_csrf(headers) {
        let detail = "`X-CSRF-Token` is not that of this session: reload the page, `/v1/me` has it";
        return Err(ApiProblem::new(Code::CsrfRefused, detail));
    }
    record_use(state, &key).await?;
    let csrf = Some(token.csrf());
    Ok(Some(Principal { name: key.name.clone(), key: Some(key.id), scope: key.scope, csrf }))
}

async fn record_use(state: &AppState, key: &agentry_core::access::ApiKey) -> ApiResult<()> {
    state.keys.admit(key.id).map_err(|wait| too_many("requests with this key", wait))?;
    if state.keys.should_record_use(key.id)
        && let Err(error) = state.store().record_key_use(key.id, state.now()).await
    {
        tracing::warn!(%error, "recording the use of an API key failed");
    }
    Ok(())
}

fn too_many(what: &str, wait: std::time::Duration) -> ApiProblem {
    ApiProblem::new(Code::RateLimited, format!("too many {what}: slow down")).retry_after(wait)
}
