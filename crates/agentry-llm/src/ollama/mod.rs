//! Ollama's chat API.

mod reply;
mod request;

use agentry_core::agent::LlmTarget;
use async_trait::async_trait;
use reqwest::header::HeaderMap;
use secrecy::SecretString;

use crate::openai::bearer;
use crate::wire::failure::{error, malformed, of_body};
use crate::wire::{
    Base, Bases, Draft, Frame, Framing, MissingRegion, Outgoing, Progress, Protocol, RequestChanges, failure,
};
use crate::{Call, LlmError, LlmErrorKind};

const OWN: &str = "http://127.0.0.1:11434";

pub(crate) struct Ollama {
    api_key: Option<SecretString>,
    bases: Bases,
}

impl Ollama {
    /// Creates the protocol with a key, which only hosted servers require.
    pub fn new(api_key: Option<SecretString>, bases: Bases) -> Self {
        Self { api_key, bases: Bases { redundant: "/api", ..bases } }
    }
}

#[async_trait]
impl Protocol for Ollama {
    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn base_url(&self, target: &LlmTarget) -> Result<String, MissingRegion> {
        Ok(self.bases.of(target).or_own(OWN))
    }

    async fn outgoing(&self, call: &Call, stream: bool, changes: &RequestChanges) -> Result<Outgoing, LlmError> {
        let base = self.bases.of(&call.target);
        let headers = match (&self.api_key, &base) {
            (Some(key), Base::Chosen(_) | Base::Own) => bearer(call, key, "OLLAMA_API_KEY")?,
            _ => HeaderMap::new(),
        };
        let body = request::body(call, stream).and_then(|body| changes.apply(body));
        let body = body.map_err(|problem| failure::unwritable(call, &problem))?;
        Ok(Outgoing { url: format!("{}/api/chat", base.or_own(OWN)), headers, body })
    }

    fn whole(&self, call: &Call, body: &[u8]) -> Result<Draft, LlmError> {
        let line: reply::Part = serde_json::from_slice(body).map_err(|problem| {
            malformed(call, format!("the answer is not one of Ollama's ({problem}): {}", failure::excerpt(body)))
        })?;
        let mut draft = Draft::of(call);
        match take(call, &mut draft, line)? {
            Progress::Done => Ok(draft),
            Progress::More => Err(malformed(call, "the answer does not say that it is done")),
        }
    }

    fn frame(&self, call: &Call, draft: &mut Draft, frame: &Frame) -> Result<Progress, LlmError> {
        take(call, draft, failure::piece(call, &frame.data)?)
    }

    async fn secrets(&self) -> Vec<SecretString> {
        self.api_key.iter().cloned().collect()
    }
}

fn take(call: &Call, draft: &mut Draft, line: reply::Part) -> Result<Progress, LlmError> {
    if let Some(reported) = line.error.as_ref().filter(|reported| !reported.is_null()) {
        return Err(of_body(call, &serde_json::json!({ "error": reported }), LlmErrorKind::Unavailable));
    }
    if line.is_only_loaded() {
        return Err(error(call, LlmErrorKind::Unavailable, "the server loaded the model and did not answer"));
    }
    Ok(reply::part(draft, line))
}
