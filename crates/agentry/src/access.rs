//! Access to this process: the access settings of the server, and the first key.

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

/// The name of the first key.
const FIRST: &str = "first";

/// Returns the time of the operating system.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Returns a key of this process for itself, which is not stored.
pub fn own_key() -> Result<(SecretString, KeyHash), Failure> {
    let (key, text) = new_key("this process", Scope::Admin, now(), None)?;
    Ok((text, key.hash))
}

/// Returns the access settings of the server.
pub fn of(settings: &Settings, address: SocketAddr, tls: bool, own: KeyHash) -> Access {
    let beyond = !address.ip().is_loopback();
    Access {
        // A public server whose keys are all revoked stays closed.
        required: settings.auth_required || (beyond && !settings.allow_unauthenticated),
        loopback: !beyond,
        tls,
        hosts: settings.allowed_hosts.clone(),
        rate: NonZeroU32::new(settings.key_requests_per_second),
        own: Some(own),
    }
}

fn unavailable(error: StoreError) -> Failure {
    Failure::new(format!("cannot read the API keys: {error}"))
}

/// Returns whether the first key must be created: one is required and none is valid.
///
/// # Errors
/// Fails when standard error is no terminal: the key would end up in a log.
pub async fn lacks_key(settings: &Settings, store: &dyn StateStore) -> Result<bool, Failure> {
    let beyond = !settings.listen.ip().is_loopback() && !settings.allow_unauthenticated;
    if (!beyond && !settings.auth_required) || store.has_active_keys(now()).await.map_err(unavailable)? {
        return Ok(false);
    }
    if std::io::stderr().is_terminal() { Ok(true) } else { Err(refusal(settings, beyond)) }
}

/// Creates the first key, which is shown once.
pub async fn first_key(store: &dyn StateStore) -> Result<SecretString, Failure> {
    let (key, text) = new_key(FIRST, Scope::Admin, now(), None)?;
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
