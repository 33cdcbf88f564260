//! OpenAI's Responses and chat completions, and all servers that speak the latter.

mod reply;
mod request;
mod responses;
mod responses_reply;
mod schema;

use agentry_core::agent::LlmTarget;
use agentry_core::models::WireApi;
use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize as _;

use serde_json::Value;

use crate::wire::failure::{error, malformed, of_body};
use crate::wire::{
    Base, Bases, Draft, Frame, Framing, MissingRegion, Outgoing, Progress, Protocol, RequestChanges, failure,
};
use crate::{Call, LlmError, LlmErrorKind};

const OWN: &str = "https://api.openai.com/v1";

pub(crate) struct OpenAi {
    api_key: Option<SecretString>,
    bases: Bases,
}

impl OpenAi {
    /// Creates the protocol with a key, which is sent as a bearer token.
    pub fn new(api_key: Option<SecretString>, bases: Bases) -> Self {
        Self { api_key, bases: Bases { override_prefix: "/v1", ..bases } }
    }

    /// Returns the API of a call. Only OpenAI's own host speaks Responses; others speak chat completions.
    fn api(&self, call: &Call) -> WireApi {
        match self.bases.of(&call.target) {
            Base::Chosen(url) if url != OWN => WireApi::Chat,
            _ => call.traits.api,
        }
    }

    fn headers(&self, call: &Call, base: &Base) -> Result<HeaderMap, LlmError> {
        match (&self.api_key, base) {
            (_, Base::Override(_)) | (None, Base::Chosen(_)) => Ok(HeaderMap::new()),
            (None, Base::Own) => Err(no_key(call, "OPENAI_API_KEY")),
            (Some(key), _) => bearer(call, key, "OPENAI_API_KEY"),
        }
    }
}

pub(crate) fn no_key(call: &Call, variable: &str) -> LlmError {
    let message = format!("no API key: set {variable}, or start with --sim to answer without a key");
    error(call, LlmErrorKind::Authentication, message)
}

pub(crate) fn secret_header(call: &Call, text: &str, variable: &str) -> Result<HeaderValue, LlmError> {
    let mut value = HeaderValue::try_from(text).map_err(|_| {
        error(call, LlmErrorKind::Authentication, format!("{variable} has characters that no HTTP header takes"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

pub(crate) fn bearer(call: &Call, key: &SecretString, variable: &str) -> Result<HeaderMap, LlmError> {
    let value = secret_header(call, &format!("Bearer {}", key.expose_secret().trim()), variable)?;
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

#[async_trait]
impl Protocol for OpenAi {
    fn framing(&self) -> Framing {
        Framing::Sse
    }

    fn base_url(&self, target: &LlmTarget) -> Result<String, MissingRegion> {
        Ok(self.bases.of(target).or_own(OWN))
    }

    async fn outgoing(&self, call: &Call, stream: bool, changes: &RequestChanges) -> Result<Outgoing, LlmError> {
        let base = self.bases.of(&call.target);
        let headers = self.headers(call, &base)?;
        let api = self.api(call);
        let url = base.or_own(OWN);
        let (path, body) = match api {
            WireApi::Responses => ("responses", responses::body(call, stream)),
            _ => ("chat/completions", request::body(call, stream, url == OWN)),
        };
        let body = body.and_then(|body| changes.apply(body)).map_err(|problem| failure::unwritable(call, &problem))?;
        Ok(Outgoing { url: format!("{url}/{path}"), headers, body })
    }

    fn whole(&self, call: &Call, body: &[u8]) -> Result<Draft, LlmError> {
        let not_one = |what: &str, problem: serde_json::Error| {
            malformed(call, format!("the answer is not {what} ({problem}): {}", failure::excerpt(body)))
        };
        let mut draft = Draft::of(call);
        let value: Value = failure::document(body).map_err(|problem| not_one("JSON", problem))?;
        if self.api(call) == WireApi::Responses {
            let response = responses_reply::Response::deserialize(&value).map_err(|e| not_one("a response", e))?;
            responses_reply::whole(call, &mut draft, &value, response)?;
            return Ok(draft);
        }
        let completion = reply::Completion::deserialize(&value).map_err(|e| not_one("a chat completion", e))?;
        if let Some(reported) = completion.error(&value) {
            return Err(of_body(call, &reported, LlmErrorKind::Unavailable));
        }
        reply::whole(&mut draft, completion).ok_or_else(|| malformed(call, "the answer has no choices"))?;
        Ok(draft)
    }

    fn frame(&self, call: &Call, draft: &mut Draft, frame: &Frame) -> Result<Progress, LlmError> {
        if frame.data.trim_ascii() == b"[DONE]" {
            return Ok(Progress::Done);
        }
        if self.api(call) == WireApi::Responses {
            return responses_reply::event(call, draft, &frame.data, failure::piece(call, &frame.data)?);
        }
        let chunk: reply::Completion = failure::piece(call, &frame.data)?;
        if chunk.may_be_error() {
            let body: Value = failure::piece(call, &frame.data)?;
            if let Some(reported) = chunk.error(&body) {
                return Err(of_body(call, &reported, LlmErrorKind::Unavailable));
            }
        }
        reply::chunk(draft, chunk);
        Ok(Progress::More)
    }

    async fn secrets(&self) -> Vec<SecretString> {
        self.api_key.iter().cloned().collect()
    }
}
