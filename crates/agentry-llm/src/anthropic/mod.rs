//! Anthropic's Messages API.

mod reply;
mod request;

use agentry_core::agent::LlmTarget;
use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize as _;

pub(crate) use request::{ANSWER_DESCRIPTION, output_config, thinking};

use crate::openai::{no_key, secret_header};
use crate::wire::failure::{malformed, of_body};
use crate::wire::{
    Base, Bases, Draft, Frame, Framing, MissingRegion, Outgoing, Progress, Protocol, RequestChanges, failure,
};
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

#[async_trait]
impl Protocol for Anthropic {
    fn framing(&self) -> Framing {
        Framing::Sse
    }

    fn base_url(&self, target: &LlmTarget) -> Result<String, MissingRegion> {
        Ok(self.bases.of(target).or_own(OWN))
    }

    async fn outgoing(&self, call: &Call, stream: bool, changes: &RequestChanges) -> Result<Outgoing, LlmError> {
        let base = self.bases.of(&call.target);
        let headers = self.headers(call, &base)?;
        let body = request::body(call, stream).and_then(|body| changes.apply(body));
        let body = body.map_err(|problem| failure::unwritable(call, &problem))?;
        Ok(Outgoing { url: format!("{}/v1/messages", base.or_own(OWN)), headers, body })
    }

    fn whole(&self, call: &Call, body: &[u8]) -> Result<Draft, LlmError> {
        let not_one = |problem: serde_json::Error| {
            malformed(call, format!("the answer is not a message ({problem}): {}", failure::excerpt(body)))
        };
        let value = failure::document(body).map_err(not_one)?;
        if value.get("error").is_some_and(|error| !error.is_null()) {
            return Err(of_body(call, &value, LlmErrorKind::Unavailable));
        }
        if value.get("content").is_none() && value.get("stop_reason").is_none() {
            return Err(malformed(call, format!("the answer is not a message: {}", failure::excerpt(body))));
        }
        Ok(reply::whole(call, reply::WireReply::deserialize(value).map_err(not_one)?))
    }

    fn frame(&self, call: &Call, draft: &mut Draft, frame: &Frame) -> Result<Progress, LlmError> {
        match failure::piece(call, &frame.data)? {
            reply::Event::Error { error } => {
                Err(of_body(call, &serde_json::json!({ "error": error }), LlmErrorKind::Unavailable))
            }
            event => Ok(reply::event(draft, event)),
        }
    }

    fn refusal(&self, call: &Call, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> LlmError {
        let mut refusal = failure::of_status(call, status, headers, body);
        // A limit that time heals says when; the spending limit of an account's tier does not.
        if (refusal.kind == LlmErrorKind::RateLimited { retry_after: None }) && !headers.contains_key(RETRY_AFTER) {
            refusal.kind = LlmErrorKind::QuotaExhausted;
        }
        refusal
    }

    async fn secrets(&self) -> Vec<SecretString> {
        self.api_key.iter().cloned().collect()
    }
}
