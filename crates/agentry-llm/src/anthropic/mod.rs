//! Anthropic's Messages API.

mod reply;
mod request;

use agentry_core::agent::LlmTarget;
use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

pub(crate) use request::ANSWER_DESCRIPTION;

use crate::openai::{no_key, secret_header};
use crate::wire::failure::{error, malformed};
use crate::wire::{Base, Bases, Draft, Frame, Framing, MissingRegion, Outgoing, Progress, Protocol, failure};
use crate::{Call, LlmError, LlmErrorKind};

const OWN: &str = "https://api.anthropic.com";
const VERSION: &str = "2023-06-01";
const KEY_VARIABLE: &str = "ANTHROPIC_API_KEY";

pub(crate) struct Anthropic {
    api_key: Option<SecretString>,
    bases: Bases,
}

impl Anthropic {
    pub fn new(api_key: Option<SecretString>, bases: Bases) -> Self {
        Self { api_key, bases: Bases { redundant: "/v1", ..bases } }
    }

    fn headers(&self, call: &Call, base: &Base) -> Result<HeaderMap, LlmError> {
        let mut headers = HeaderMap::new();
        headers.insert("anthropic-version", HeaderValue::from_static(VERSION));
        match (&self.api_key, base) {
            (_, Base::Override(_)) | (None, Base::Chosen(_)) => {}
            (None, Base::Own) => return Err(no_key(call, KEY_VARIABLE)),
            (Some(key), _) => {
                headers.insert("x-api-key", secret_header(call, key.expose_secret().trim(), KEY_VARIABLE)?);
            }
        }
        Ok(headers)
    }
}

/// Returns the kind of an error with this name (Anthropic, "Errors"), where the HTTP status alone does not tell it.
fn kind_of(name: &str) -> Option<LlmErrorKind> {
    Some(match name {
        "overloaded_error" => LlmErrorKind::Overloaded { retry_after: None },
        "rate_limit_error" => LlmErrorKind::RateLimited { retry_after: None },
        "api_error" => LlmErrorKind::Unavailable,
        "timeout_error" => LlmErrorKind::Timeout,
        "authentication_error" | "permission_error" => LlmErrorKind::Authentication,
        "billing_error" => LlmErrorKind::QuotaExhausted,
        "invalid_request_error" | "not_found_error" | "request_too_large" => LlmErrorKind::InvalidRequest,
        _ => return None,
    })
}

#[async_trait]
impl Protocol for Anthropic {
    fn framing(&self) -> Framing {
        Framing::Sse
    }

    fn base_url(&self, target: &LlmTarget) -> Result<String, MissingRegion> {
        Ok(self.bases.of(target).or_own(OWN))
    }

    async fn outgoing(&self, call: &Call, stream: bool) -> Result<Outgoing, LlmError> {
        let base = self.bases.of(&call.target);
        let headers = self.headers(call, &base)?;
        let body = request::body(call, stream).map_err(|problem| failure::unwritable(call, &problem))?;
        Ok(Outgoing { url: format!("{}/v1/messages", base.or_own(OWN)), headers, body })
    }

    fn whole(&self, call: &Call, body: &[u8]) -> Result<Draft, LlmError> {
        let message = serde_json::from_slice(body).map_err(|problem| {
            malformed(call, format!("the answer is not a message ({problem}): {}", failure::excerpt(body)))
        })?;
        Ok(reply::whole(call, message))
    }

    fn frame(&self, call: &Call, draft: &mut Draft, frame: &Frame) -> Result<Progress, LlmError> {
        match failure::piece(call, &frame.data)? {
            reply::Event::Error { error: detail } => {
                let kind = kind_of(&detail.kind).unwrap_or(LlmErrorKind::Unavailable);
                let message = format!("the stream ended with an error: {}: {}", detail.kind, detail.message);
                Err(error(call, kind, message))
            }
            event => Ok(reply::event(draft, event)),
        }
    }

    fn refusal(&self, call: &Call, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> LlmError {
        let mut refusal = failure::of_status(call, status, headers, body);
        let parsed = serde_json::from_slice::<serde_json::Value>(body).ok();
        let name = parsed.as_ref().and_then(|parsed| parsed.pointer("/error/type")?.as_str());
        // The status already gave a kind with a delay.
        if refusal.kind.retry_after().is_none()
            && let Some(kind) = name.and_then(kind_of)
        {
            refusal.kind = kind;
        }
        refusal
    }

    async fn secrets(&self) -> Vec<SecretString> {
        self.api_key.iter().cloned().collect()
    }
}
