//! AWS credentials: from the environment, else from a profile, else from the container or the instance. They are cached
//! until shortly before they expire; one caller at a time looks them up.

mod environment;
mod profile;
mod remote;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use agentry_http::Clients;
use aws_credential_types::Credentials;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tokio::time::Instant;

pub use environment::AwsEnvironment;

/// Remaining lifetime at which temporary credentials are renewed.
const REFRESH_BEFORE: Duration = Duration::from_secs(300);
/// Cache time of credentials without an expiry: a profile's file may change.
const KEEP: Duration = Duration::from_secs(300);
/// Cache time of a failure: a missing service costs a timeout per lookup.
const KEEP_FAILURE: Duration = Duration::from_secs(10);

/// Reason for which there are no AWS credentials, in words for an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct CredentialsError(String);

impl From<String> for CredentialsError {
    fn from(message: String) -> Self {
        Self(message)
    }
}

impl From<&str> for CredentialsError {
    fn from(message: &str) -> Self {
        Self(message.to_owned())
    }
}

impl From<agentry_http::ClientError> for CredentialsError {
    fn from(error: agentry_http::ClientError) -> Self {
        Self(error.to_string())
    }
}

pub(super) struct CredentialsChain {
    environment: AwsEnvironment,
    clients: Arc<Clients>,
    cached: Mutex<Option<CachedCredentials>>,
}

struct CachedCredentials {
    found: Result<Credentials, CredentialsError>,
    until: Instant,
}

impl CredentialsChain {
    pub fn new(environment: AwsEnvironment, clients: Arc<Clients>) -> Self {
        Self { environment, clients, cached: Mutex::new(None) }
    }

    pub async fn get(&self) -> Result<Credentials, CredentialsError> {
        let mut cached = self.cached.lock().await;
        if let Some(cached) = cached.as_ref().filter(|cached| Instant::now() < cached.until) {
            return cached.found.clone();
        }
        let found = self.find().await;
        let before = cached.as_ref().and_then(|cached| cached.found.as_ref().ok());
        let found = match (found, before) {
            // The old credentials are still valid, and the service may be back before they expire.
            (Err(problem), Some(before)) if remaining(before).is_none_or(|time| !time.is_zero()) => {
                tracing::warn!(%problem, "AWS credentials: renewal failed, the cached ones are still valid");
                let before = before.clone();
                *cached = Some(CachedCredentials { found: Ok(before.clone()), until: Instant::now() + KEEP_FAILURE });
                return Ok(before);
            }
            (found, _) => found,
        };
        let keep = match &found {
            Ok(credentials) => remaining(credentials).map_or(KEEP, |time| time.saturating_sub(REFRESH_BEFORE)),
            Err(_) => KEEP_FAILURE,
        };
        *cached = Some(CachedCredentials { found: found.clone(), until: Instant::now() + keep });
        found
    }

    /// Drops cached credentials after they were refused.
    pub async fn forget(&self) {
        *self.cached.lock().await = None;
    }

    /// Returns the parts that a server could repeat in an error message.
    pub async fn secrets(&self) -> Vec<SecretString> {
        let cached = self.cached.lock().await;
        let Some(found) = cached.as_ref().and_then(|cached| cached.found.as_ref().ok()) else { return Vec::new() };
        let secrets = [Some(found.access_key_id()), Some(found.secret_access_key()), found.session_token()];
        secrets.into_iter().flatten().map(|secret| SecretString::from(secret.to_owned())).collect()
    }

    pub fn region(&self) -> Option<String> {
        let named = |name| self.environment.get(name).map(|region| region.expose_secret().to_owned());
        named("AWS_REGION").or_else(|| named("AWS_DEFAULT_REGION")).or_else(|| profile::region(&self.environment))
    }

    async fn find(&self) -> Result<Credentials, CredentialsError> {
        let value = |name| self.environment.get(name).map(ExposeSecret::expose_secret);
        if let (Some(id), Some(secret)) = (value("AWS_ACCESS_KEY_ID"), value("AWS_SECRET_ACCESS_KEY")) {
            return Ok(permanent(id, secret, value("AWS_SESSION_TOKEN").map(str::to_owned)));
        }
        if let Some(credentials) = profile::credentials(&self.environment)? {
            return Ok(credentials);
        }
        if let Some(credentials) = remote::of_container(&self.environment, &self.clients).await? {
            return Ok(credentials);
        }
        let of_instance = remote::of_instance(&self.environment, &self.clients).await;
        of_instance.map_err(|problem| {
            CredentialsError(format!(
                "no AWS credentials: set AWS_BEARER_TOKEN_BEDROCK, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a \
                 profile in ~/.aws/credentials (AWS_PROFILE); the instance has none either: {problem}"
            ))
        })
    }
}

/// Creates credentials without an expiry.
fn permanent(id: &str, secret: &str, session_token: Option<String>) -> Credentials {
    Credentials::new(id, secret, session_token, None, "agentry")
}

/// Returns the remaining lifetime of temporary credentials; `None` for others.
fn remaining(credentials: &Credentials) -> Option<Duration> {
    let until = credentials.expiry()?;
    Some(until.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(environment: &[(&str, &str)]) -> CredentialsChain {
        CredentialsChain::new(AwsEnvironment::of(environment), Arc::new(Clients::new(1)))
    }

    #[tokio::test]
    async fn the_environment_comes_first_and_is_not_printed() {
        let chain = chain(&[
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI"),
            ("AWS_SESSION_TOKEN", "session-token"),
            ("AWS_DEFAULT_REGION", "eu-west-1"),
        ]);
        let found = chain.get().await.unwrap();
        assert_eq!((found.access_key_id(), found.session_token()), ("AKIDEXAMPLE", Some("session-token")));
        assert_eq!(chain.region().as_deref(), Some("eu-west-1"));
        assert!(!format!("{:?} {found:?}", chain.environment).contains("wJalr"));
        assert_eq!(chain.secrets().await.len(), 3);
    }

    #[tokio::test]
    async fn nothing_at_all_names_every_way() {
        let chain = chain(&[("AWS_EC2_METADATA_DISABLED", "true")]);
        let problem = chain.get().await.unwrap_err().to_string();
        for way in ["AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_EC2_METADATA_DISABLED"] {
            assert!(problem.contains(way), "{problem}");
        }
    }
}
