//! Callbacks, signed as Standard Webhooks: `webhook-id`, `webhook-timestamp`,
//! `webhook-signature: v1,<base64 HMAC-SHA256 of id.timestamp.body>`.

use std::time::Duration;

use agentry_core::id::OutboxId;
use agentry_core::time::Timestamp;
use agentry_http::{Clients, with_causes};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::Sha256;

/// Time for one delivery (Standard Webhooks advises 15 to 30 s).
const TIMEOUT: Duration = Duration::from_secs(15);
/// Idle connections kept for each receiver: as many callbacks as the relay has under way to one at most.
const MAX_IDLE_CONNECTIONS: usize = 16;

/// The reason why a callback was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CallbackError(pub String);

/// A sender of callbacks.
#[async_trait]
pub trait CallbackSender: Send + Sync + 'static {
    /// Sends a callback; `id` is the same for every attempt, `traceparent` is the span of the delivery.
    ///
    /// # Errors
    /// Fails without a 2xx answer in time.
    async fn post(
        &self,
        url: &str,
        id: OutboxId,
        at: Timestamp,
        traceparent: Option<&str>,
        payload: &Value,
    ) -> Result<(), CallbackError>;
}

/// Sends callbacks over HTTP.
pub struct HttpCallbacks {
    clients: Clients,
    secret: Option<SecretString>,
}

impl HttpCallbacks {
    /// Returns a sender that signs every callback with this secret; without one none is signed.
    #[must_use]
    pub fn new(secret: Option<SecretString>) -> Self {
        Self { clients: Clients::new(MAX_IDLE_CONNECTIONS), secret }
    }
}

#[async_trait]
impl CallbackSender for HttpCallbacks {
    async fn post(
        &self,
        url: &str,
        id: OutboxId,
        at: Timestamp,
        traceparent: Option<&str>,
        payload: &Value,
    ) -> Result<(), CallbackError> {
        let body = payload.to_string();
        let seconds = at.millis().div_euclid(1_000);
        let mut request = self
            .clients
            .client(url)
            .map_err(|error| CallbackError(error.to_string()))?
            .post(url)
            .timeout(TIMEOUT)
            .header("content-type", "application/json")
            .header("webhook-id", id.to_string())
            .header("webhook-timestamp", seconds.to_string());
        if let Some(secret) = &self.secret {
            request = request.header("webhook-signature", signature(secret, id, seconds, &body));
        }
        if let Some(traceparent) = traceparent {
            request = request.header("traceparent", traceparent);
        }
        let response = request.body(body).send().await.map_err(|error| {
            CallbackError(format!("{url} did not take the callback: {}", with_causes(&error.without_url())))
        })?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(CallbackError(format!("{url} answered {}", response.status())))
        }
    }
}

/// Returns the signature. A secret with the standard's `whsec_` prefix is decoded; any other is used as it is.
fn signature(secret: &SecretString, id: OutboxId, seconds: i64, body: &str) -> String {
    let text = secret.expose_secret();
    let key = text.strip_prefix("whsec_").and_then(|rest| STANDARD.decode(rest).ok());
    let key = key.unwrap_or_else(|| text.as_bytes().to_vec());
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else { return String::new() };
    mac.update(format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2, shows the primitive; the layout is the standard's.
    #[test]
    fn the_signature_is_over_id_timestamp_and_body() {
        let id = OutboxId::from_parts(0, 0);
        let key = SecretString::from("Jefe");
        let ours = signature(&key, id, 5, "{}");
        let mut mac = Hmac::<Sha256>::new_from_slice(b"Jefe").unwrap();
        mac.update(format!("{id}.5.{{}}").as_bytes());
        let tag = mac.finalize().into_bytes();
        assert_eq!(ours, format!("v1,{}", STANDARD.encode(tag)));
        let encoded = SecretString::from(format!("whsec_{}", STANDARD.encode("Jefe")));
        assert_eq!(signature(&encoded, id, 5, "{}"), ours, "a prefixed secret is decoded");
    }
}
