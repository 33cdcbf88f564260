//! What every request passes before its endpoint.

use agentry_core::access::Scope;
use axum::extract::Request;
use axum::http::{HeaderMap, header};

use super::policy::{Need, writes};
use super::session::Token;
use super::{Caller, key, origin};
use crate::problem::{Answer, Code, Problem};
use crate::state::AppState;

/// Checks a request and leaves its [`Caller`] with it. Open routes get one too when the request brings a good key.
pub(crate) async fn guard(state: &AppState, need: Need, request: &mut Request) -> Answer<()> {
    let access = &state.deps.access;
    let is_write = writes(request.method());
    if (need != Need::Nothing || is_write)
        && let Err(refusal) = origin::check_host(access, request.headers(), request.uri())
    {
        // Slack signs its requests, and signing in needs a key: neither is of use to a page that rebinds a name. The
        // store is asked for strange names only, so that a scrape tells of a store that is away.
        if access.loopback || (need != Need::Nothing && !required(state).await?) {
            return Err(refusal);
        }
    }
    if is_write {
        origin::check_page(request.headers(), request.uri())?;
    }
    let scope = match need {
        Need::Nothing => return Ok(()),
        Need::Scrape if access.loopback => return Ok(()),
        Need::Scrape => Scope::Read,
        Need::Scope(scope) => scope,
    };
    let caller = match caller(state, request.headers(), is_write).await? {
        Some(caller) => caller,
        None if !required(state).await? => Caller::anybody(),
        None => return Err(unauthorized("this server needs an API key: send `Authorization: Bearer agk_…`")),
    };
    // Known before it is refused, so that the audit log says who tried.
    let (name, has) = (caller.name.clone(), caller.scope);
    request.extensions_mut().insert(caller);
    if has < scope {
        let detail = format!("the key `{name}` has the scope {has}; this needs {scope}");
        return Err(Problem::new(Code::ScopeMissing, detail));
    }
    Ok(())
}

/// Whether callers need a key now.
pub(crate) async fn required(state: &AppState) -> Answer<bool> {
    Ok(state.deps.access.required || state.keys.needed(state.store(), state.now()).await?)
}

pub(crate) fn unauthorized(detail: &'static str) -> Problem {
    Problem::new(Code::Unauthorized, detail)
}

/// Who sent a request: by its key, else by its session; `None` when it brings neither.
pub(crate) async fn caller(state: &AppState, headers: &HeaderMap, is_write: bool) -> Answer<Option<Caller>> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let text = value.to_str().unwrap_or_default();
        let token = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let token = token.map_or("", |(_, token)| token.trim());
        return by_key(state, token).await.map(Some);
    }
    by_session(state, headers, is_write).await
}

/// The caller that a key names.
pub(crate) async fn by_key(state: &AppState, token: &str) -> Answer<Caller> {
    let now = state.now();
    if key::looks_like_one(token) && state.deps.access.own == Some(key::hash_of(token)) {
        return Ok(Caller { name: "this process".to_owned(), ..Caller::anybody() });
    }
    let known = match key::looks_like_one(token) {
        true => state.keys.by_hash(state.store(), key::hash_of(token), now).await?,
        false => None,
    };
    let Some(key) = known else {
        state.keys.admit_failure().map_err(|wait| too_many("failed tries to sign in", wait))?;
        return Err(unauthorized("the API key is unknown, revoked or has expired: `agentry keys` lists good ones"));
    };
    used(state, &key).await?;
    Ok(Caller { name: key.name.clone(), key: Some(key.id), scope: key.scope, csrf: None })
}

async fn by_session(state: &AppState, headers: &HeaderMap, is_write: bool) -> Answer<Option<Caller>> {
    let Some(token) = Token::of(headers) else { return Ok(None) };
    let now = state.now();
    let key = match state.keys.session(state.store(), token.hash(), now).await? {
        Some(session) => state.keys.by_id(state.store(), session.key, now).await?,
        None => None,
    };
    let Some(key) = key else {
        // A stale cookie is no reason to refuse where no key is needed.
        return if required(state).await? {
            Err(unauthorized("the session has ended: sign in again"))
        } else {
            Ok(None)
        };
    };
    if is_write && !token.carries_csrf(headers) {
        let detail = "`X-CSRF-Token` is not that of this session: reload the page, `/v1/me` has it";
        return Err(Problem::new(Code::CsrfRefused, detail));
    }
    used(state, &key).await?;
    let csrf = Some(token.csrf());
    Ok(Some(Caller { name: key.name.clone(), key: Some(key.id), scope: key.scope, csrf }))
}

async fn used(state: &AppState, key: &agentry_core::access::ApiKey) -> Answer<()> {
    state.keys.admit(key.id).map_err(|wait| too_many("requests with this key", wait))?;
    if state.keys.should_note(key.id)
        && let Err(error) = state.store().record_key_use(key.id, state.now()).await
    {
        tracing::warn!(%error, "the use of an API key could not be written down");
    }
    Ok(())
}

fn too_many(what: &str, wait: std::time::Duration) -> Problem {
    Problem::new(Code::RateLimited, format!("too many {what}: slow down")).retry_after(wait)
}
