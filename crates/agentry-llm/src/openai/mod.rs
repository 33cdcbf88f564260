//! OpenAI's chat completions, and all servers that speak them.

mod reply;
mod request;

use agentry_core::agent::LlmTarget;
use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::wire::failure::{error, malformed, provider_message};
use crate::wire::{Base, Bases, Draft, Frame, Framing, MissingRegion, Outgoing, Progress, Protocol, failure};
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

    async fn outgoing(&self, call: &Call, stream: bool) -> Result<Outgoing, LlmError> {
        let base = self.bases.of(&call.target);
        let headers = self.headers(call, &base)?;
        let url = base.or_own(OWN);
        let body = request::body(call, stream, url == OWN).map_err(|problem| failure::unwritable(call, &problem))?;
        Ok(Outgoing { url: format!("{url}/chat/completions"), headers, body })
    }

    fn whole(&self, call: &Call, body: &[u8]) -> Result<Draft, LlmError> {
        let completion = serde_json::from_slice(body).map_err(|problem| {
            malformed(call, format!("the answer is not a chat completion ({problem}): {}", failure::excerpt(body)))
        })?;
        reply::whole(completion).ok_or_else(|| malformed(call, "the answer has no choices"))
    }

    fn frame(&self, call: &Call, draft: &mut Draft, frame: &Frame) -> Result<Progress, LlmError> {
        if &frame.data[..] == b"[DONE]" {
            return Ok(Progress::Done);
        }
        let chunk: reply::Chunk = failure::piece(call, &frame.data)?;
        if let Some(reported) = &chunk.error {
            let words = provider_message(reported).unwrap_or("an error without a message");
            let kind = LlmErrorKind::Unavailable;
            return Err(error(call, kind, format!("the stream ended with an error: {words}")));
        }
        reply::chunk(draft, chunk);
        Ok(Progress::More)
    }

    async fn secrets(&self) -> Vec<SecretString> {
        self.api_key.iter().cloned().collect()
    }
}
