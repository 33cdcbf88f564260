//! The protocols: each parses requests and formats answers and errors. Decisions are made elsewhere.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

use super::answer::Answer;
use super::ids::{Ids, Thought};
use super::limits::BucketLevels;
use super::prompt::{Prompt, TokenCounts};
use super::signature;

/// Refuses a request with a formatted message.
macro_rules! bad {
    ($($message:tt)*) => {
        Err(super::Refusal::bad(format!($($message)*)))
    };
}

pub(super) mod anthropic;
mod anthropic_request;
mod anthropic_rules;
pub(super) mod bedrock;
mod bedrock_frame;
mod bedrock_request;
mod bedrock_rules;
mod bedrock_sign;
mod blocks;
mod functions;
pub(super) mod gemini;
mod gemini_request;
mod gemini_rules;
pub(super) mod ollama;
mod ollama_request;
pub(super) mod openai;
mod openai_reply;
mod openai_request;
mod openai_rules;
mod openai_schemas;
pub(super) mod responses;
mod responses_items;
mod responses_reply;
mod responses_request;
mod responses_rules;
mod thinking;

pub(super) struct Incoming<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) model: Option<&'a str>,
    pub(super) stream: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// Error message in the provider's words.
    pub(super) message: String,
    /// Field that is wrong, in protocols that report it.
    pub(super) param: Option<String>,
    /// Code of the error, in protocols that report it beside the status.
    pub(super) code: Option<&'static str>,
    /// `Retry-After`, in seconds.
    pub(super) retry_after: Option<u32>,
}

impl Refusal {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code: None, retry_after: None }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    pub(super) fn at(self, param: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    pub(super) fn with_code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    pub(super) fn http_status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// An answer and everything that a protocol needs to format it.
pub(super) struct Reply<'a> {
    pub(super) ids: &'a Ids,
    pub(super) prompt: &'a Prompt<'a>,
    pub(super) answer: &'a Answer,
    pub(super) counts: TokenCounts,
    /// The answer reports its usage.
    pub(super) has_usage: bool,
    /// Arrival of the request, since the Unix epoch.
    pub(super) asked_at: Duration,
    /// Time from arrival to the first token.
    pub(super) first: Duration,
    /// Time from arrival to the end.
    pub(super) total: Duration,
}

impl Reply<'_> {
    /// Returns the id of a call, which tells of the reasoning before it.
    fn call_id(&self, kind: &str, index: usize) -> String {
        self.ids.call(kind, index, Thought::of(&self.prompt.model, &self.answer.thinking))
    }

    /// Signs the reasoning of the answer.
    fn signature(&self) -> String {
        signature::sign(&self.prompt.model, &self.answer.thinking, self.prompt.chain.prefix())
    }
}

#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    /// Output tokens in it.
    pub(super) tokens: u64,
    /// Output tokens in it that are reasoning.
    pub(super) reasoning: u64,
}

impl Piece {
    pub(super) fn frame(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), tokens: 0, reasoning: 0 }
    }

    pub(super) fn content(bytes: impl Into<Bytes>, tokens: u64) -> Self {
        Self { bytes: bytes.into(), tokens, reasoning: 0 }
    }

    pub(super) fn reasoning(bytes: impl Into<Bytes>, tokens: u64) -> Self {
        Self { bytes: bytes.into(), tokens, reasoning: tokens }
    }
}

/// Key of a request, taken from the header that the protocol uses.
pub(super) type Key<'a> = Option<&'a str>;

pub(super) trait Wire: Sync {
    fn name(&self) -> &'static str;
    fn key<'a>(&self, headers: &'a HeaderMap) -> Key<'a>;
    /// Returns the error for a request without the right key.
    fn no_key(&self, key: Key<'_>) -> Refusal;
    /// Verifies the signature of a request, if it has one, against `secret`.
    fn check_signature(&self, _incoming: &Incoming<'_>, _secret: &str) -> Result<(), Refusal> {
        Ok(())
    }
    fn read<'a>(&self, incoming: &Incoming<'a>) -> Result<Prompt<'a>, Refusal>;
    /// Returns the error for a model that does not exist.
    fn no_model(&self, model: &str) -> Refusal;
    /// Returns the error for a model that was switched off.
    fn retired(&self, model: &str) -> Refusal {
        self.no_model(model)
    }
    /// Returns the error for tools sent to a model that does not support them.
    fn no_tools(&self, model: &str) -> Refusal;
    fn whole(&self, reply: &Reply<'_>) -> Result<Vec<u8>, serde_json::Error>;
    fn stream(&self, reply: &Reply<'_>) -> Result<Vec<Piece>, serde_json::Error>;
    fn stream_type(&self) -> &'static str;
    /// Returns the error event of a stream.
    fn broken(&self, refusal: &Refusal) -> Bytes;
    fn garbage(&self) -> Bytes;
    fn error(&self, refusal: &Refusal, ids: &Ids) -> Response;
    fn stamp(&self, headers: &mut HeaderMap, ids: &Ids, levels: &BucketLevels, now: Duration);
    /// Returns the provider's id of an answer or of an error, as sent to the client.
    fn id(&self, ids: &Ids, answered: bool) -> String;
}

fn json_error(refusal: &Refusal, body: &serde_json::Value) -> Response {
    let mut response = (refusal.http_status(), axum::Json(body)).into_response();
    if let Some(seconds) = refusal.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Sets a header whose name and value are known to be valid.
fn set(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

/// Returns the key of `Authorization: Bearer KEY`.
fn bearer(headers: &HeaderMap) -> Key<'_> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
}

fn sse(event: Option<&str>, data: &impl Serialize) -> Result<Bytes, serde_json::Error> {
    let mut line = Vec::with_capacity(256);
    if let Some(event) = event {
        line.extend_from_slice(b"event: ");
        line.extend_from_slice(event.as_bytes());
        line.push(b'\n');
    }
    line.extend_from_slice(b"data: ");
    serde_json::to_writer(&mut line, data)?;
    line.extend_from_slice(b"\n\n");
    Ok(Bytes::from(line))
}
