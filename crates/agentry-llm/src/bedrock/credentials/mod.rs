//! AWS credentials: from the environment, else from a profile, else from the container or the instance that this runs in.
//! Kept until shortly before they run out, looked up by one caller at a time.

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

/// Temporary credentials are replaced when they have less time left than this.
const REFRESH_BEFORE: Duration = Duration::from_secs(300);
/// How long credentials without an end are kept: a profile's file may be written anew.
const KEEP: Duration = Duration::from_secs(300);
/// How long nothing is looked for again after nothing was found: a service that is not there costs a timeout.
const KEEP_FAILURE: Duration = Duration::from_secs(10);

/// The chain.
pub(super) struct Chain {
    environment: AwsEnvironment,
    clients: Arc<Clients>,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    found: Result<Credentials, String>,
    until: Instant,
}

impl Chain {
    /// A chain over an environment.
    pub fn new(environment: AwsEnvironment, clients: Arc<Clients>) -> Self {
        Self { environment, clients, kept: Mutex::new(None) }
    }

    /// Credentials that are valid now.
    pub async fn get(&self) -> Result<Credentials, String> {
        let mut kept = self.kept.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| Instant::now() < kept.until) {
            return kept.found.clone();
        }
        let found = self.find().await;
        let before = kept.as_ref().and_then(|kept| kept.found.as_ref().ok());
        let found = match (found, before) {
            // Still good for a while: the service that gives new ones may be back by then.
            (Err(problem), Some(before)) if left(before).is_none_or(|left| !left.is_zero()) => {
                tracing::warn!(%problem, "AWS credentials could not be renewed; the old ones are still valid");
                *kept = Some(Kept { found: Ok(before.clone()), until: Instant::now() + KEEP_FAILURE });
                return kept.as_ref().map_or_else(|| Err(String::new()), |kept| kept.found.clone());
            }
            (found, _) => found,
        };
        let keep = match &found {
            Ok(credentials) => left(credentials).map_or(KEEP, |left| left.saturating_sub(REFRESH_BEFORE)),
            Err(_) => KEEP_FAILURE,
        };
        *kept = Some(Kept { found: found.clone(), until: Instant::now() + keep });
        found
    }

    /// They were refused: the next call looks again.
    pub async fn forget(&self) {
        *self.kept.lock().await = None;
    }

    /// What of them could be repeated by a server.
    pub async fn secrets(&self) -> Vec<SecretString> {
        let kept = self.kept.lock().await;
        let Some(found) = kept.as_ref().and_then(|kept| kept.found.as_ref().ok()) else { return Vec::new() };
        let secrets = [Some(found.access_key_id()), Some(found.secret_access_key()), found.session_token()];
        secrets.into_iter().flatten().map(|secret| SecretString::from(secret.to_owned())).collect()
    }

    /// The region of the environment or of the profile.
    pub fn region(&self) -> Option<String> {
        let named = |name| self.environment.get(name).map(|region| region.expose_secret().to_owned());
        named("AWS_REGION").or_else(|| named("AWS_DEFAULT_REGION")).or_else(|| profile::region(&self.environment))
    }

    async fn find(&self) -> Result<Credentials, String> {
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
            format!(
                "no AWS credentials: set AWS_BEARER_TOKEN_BEDROCK, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a \
                 profile in ~/.aws/credentials (AWS_PROFILE); and this is no instance that has them: {problem}"
            )
        })
    }
}

/// Credentials that do not say when they end.
fn permanent(id: &str, secret: &str, session_token: Option<String>) -> Credentials {
    Credentials::new(id, secret, session_token, None, "agentry")
}

/// The time that temporary credentials have left; `None` for others.
fn left(credentials: &Credentials) -> Option<Duration> {
    let until = credentials.expiry()?;
    Some(until.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(environment: &[(&str, &str)]) -> Chain {
        Chain::new(AwsEnvironment::of(environment), Arc::new(Clients::new(1)))
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
        let problem = chain.get().await.unwrap_err();
        for way in ["AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_EC2_METADATA_DISABLED"] {
            assert!(problem.contains(way), "{problem}");
        }
    }
}
