//! Who may reach this process: from settings to what the server checks, and the first key.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::SystemTime;

use agentry_config::Settings;
use agentry_core::access::{KeyHash, Scope};
use agentry_core::time::Timestamp;
use agentry_server::{Access, new_key};
use agentry_store::{StateStore, StoreError};
use secrecy::SecretString;

use crate::failure::Failure;

/// What the first key is called.
const FIRST: &str = "first";

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// A key of this process for itself, known to nobody else and kept nowhere.
///
/// # Errors
/// When the operating system gives no random bytes.
pub fn own_key() -> Result<(SecretString, KeyHash), Failure> {
    let (key, text) = new_key("this process", Scope::Admin, now(), None).map_err(Failure::new)?;
    Ok((text, key.hash))
}

/// What the server checks.
pub fn of(settings: &Settings, address: SocketAddr, tls: bool, own: KeyHash) -> Access {
    let beyond = !address.ip().is_loopback();
    Access {
        // Keys that are all revoked leave a public server shut, not open.
        required: settings.auth_required || (beyond && !settings.allow_unauthenticated),
        loopback: !beyond,
        tls,
        hosts: settings.allowed_hosts.clone(),
        rate: NonZeroU32::new(settings.key_requests_per_second),
        own: Some(own),
    }
}

fn unavailable(error: StoreError) -> Failure {
    Failure::new(format!("API keys cannot be looked at: {error}"))
}

/// Whether a key is needed and none is good. Where nobody would see the one that is then made, that is refused: it would
/// end in a log.
///
/// # Errors
/// When a key is needed, there is none, and standard error is no terminal.
pub async fn lacks_key(settings: &Settings, store: &dyn StateStore) -> Result<bool, Failure> {
    let beyond = !settings.listen.ip().is_loopback() && !settings.allow_unauthenticated;
    if (!beyond && !settings.auth_required) || store.has_active_keys(now()).await.map_err(unavailable)? {
        return Ok(false);
    }
    if std::io::stderr().is_terminal() { Ok(true) } else { Err(refusal(settings, beyond)) }
}

/// Makes the first key, to be shown once.
///
/// # Errors
/// When it cannot be kept.
pub async fn first_key(store: &dyn StateStore) -> Result<SecretString, Failure> {
    let (key, text) = new_key(FIRST, Scope::Admin, now(), None).map_err(Failure::new)?;
    store.add_key(&key).await.map_err(unavailable)?;
    Ok(text)
}

fn refusal(settings: &Settings, beyond: bool) -> Failure {
    let make = "make one before it starts: `agentry keys create ops --scope admin --local`";
    if !beyond {
        return Failure::new("auth is required and there is no API key").help(make);
    }
    let message =
        format!("cannot listen on {}: without API keys only this machine may reach the server", settings.listen);
    let advice = format!(
        "{make}; or use --listen 127.0.0.1:{}; --allow-unauthenticated lets everybody who reaches the address run \
         agents, spend money and read everything",
        settings.listen.port()
    );
    Failure::new(message).help(advice)
}
