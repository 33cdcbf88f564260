//! The protocols: how each reads a request and writes answers and errors. Nothing here decides anything.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

use super::answer::Answer;
use super::ask::{Ask, Tally};
use super::ids::Ids;
use super::limits::Levels;

pub(super) mod anthropic;
mod anthropic_request;
pub(super) mod bedrock;
mod bedrock_frame;
mod bedrock_request;
mod bedrock_sign;
mod blocks;
pub(super) mod ollama;
mod ollama_request;
pub(super) mod openai;
mod openai_reply;
mod openai_request;

/// A request as it came.
pub(super) struct Incoming<'a> {
    /// Its headers.
    pub(super) headers: &'a HeaderMap,
    /// Its body.
    pub(super) body: &'a [u8],
    /// The path, as it came.
    pub(super) path: &'a str,
    /// The query, as it came.
    pub(super) query: Option<&'a str>,
    /// The model, where the path names it.
    pub(super) model: Option<&'a str>,
    /// Whether the path asks for a stream.
    pub(super) stream: bool,
}

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The HTTP status, from which each protocol finds its own word.
    pub(super) status: u16,
    /// What is wrong, in the provider's words.
    pub(super) message: String,
    /// The field that is wrong, where a protocol tells.
    pub(super) param: Option<String>,
    /// When to come back, in seconds.
    pub(super) retry_after: Option<u32>,
}

impl Refusal {
    /// A refusal with this status.
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, retry_after: None }
    }

    /// A request that is wrong.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// Names the field that is wrong.
    pub(super) fn at(self, param: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    /// The status as HTTP has it.
    pub(super) fn code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// An answer with all that its shape needs.
pub(super) struct Reply<'a> {
    /// Its ids.
    pub(super) ids: &'a Ids,
    /// What was asked.
    pub(super) ask: &'a Ask<'a>,
    /// What is answered.
    pub(super) answer: &'a Answer,
    /// The tokens.
    pub(super) tally: Tally,
    /// When it was asked, since the Unix epoch.
    pub(super) asked_at: Duration,
    /// From there to the first token.
    pub(super) first: Duration,
    /// From there to the end.
    pub(super) total: Duration,
}

/// A piece of a stream, which goes out whole.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// As it goes over the wire.
    pub(super) bytes: Bytes,
    /// Tokens of the answer in it.
    pub(super) tokens: u64,
    /// Of those, reasoned.
    pub(super) reasoning: u64,
}

impl Piece {
    /// One without tokens.
    pub(super) fn frame(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), tokens: 0, reasoning: 0 }
    }

    /// One that carries tokens of the answer.
    pub(super) fn content(bytes: impl Into<Bytes>, tokens: u64) -> Self {
        Self { bytes: bytes.into(), tokens, reasoning: 0 }
    }

    /// One that carries reasoning.
    pub(super) fn reasoning(bytes: impl Into<Bytes>, tokens: u64) -> Self {
        Self { bytes: bytes.into(), tokens, reasoning: tokens }
    }
}

/// A key and how the protocol carries it.
pub(super) type Key<'a> = Option<&'a str>;

/// A protocol.
pub(super) trait Wire: Sync {
    /// Its name in the ledger.
    fn name(&self) -> &'static str;
    /// The key that a request brings.
    fn key<'a>(&self, headers: &'a HeaderMap) -> Key<'a>;
    /// Why a request without the right key is refused.
    fn no_key(&self, key: Key<'_>) -> Refusal;
    /// Checks the signature of a request that brings one; `secret` is what it must be made with.
    fn check_signature(&self, _incoming: &Incoming<'_>, _secret: &str) -> Result<(), Refusal> {
        Ok(())
    }
    /// Reads a request and checks it as strictly as the provider does.
    fn read<'a>(&self, incoming: &Incoming<'a>) -> Result<Ask<'a>, Refusal>;
    /// Why a model that is not there is refused.
    fn no_model(&self, model: &str) -> Refusal;
    /// Why tools are refused by a model that knows none.
    fn no_tools(&self, model: &str) -> Refusal;
    /// A whole answer.
    fn whole(&self, reply: &Reply<'_>) -> Result<Vec<u8>, serde_json::Error>;
    /// The pieces of a stream.
    fn stream(&self, reply: &Reply<'_>) -> Result<Vec<Piece>, serde_json::Error>;
    /// The media type of a stream.
    fn stream_type(&self) -> &'static str;
    /// The report of an error in the middle of a stream.
    fn broken(&self, refusal: &Refusal) -> Bytes;
    /// What is no frame.
    fn garbage(&self) -> Bytes;
    /// The body of an error.
    fn error(&self, refusal: &Refusal, ids: &Ids) -> Response;
    /// The headers of every response.
    fn stamp(&self, headers: &mut HeaderMap, ids: &Ids, levels: &Levels, now: Duration);
    /// The provider's id of a call, as the client is told it: of an answer, or of an error.
    fn id(&self, ids: &Ids, answered: bool) -> String;
}

/// An error with a JSON body.
fn json_error(refusal: &Refusal, body: &serde_json::Value) -> Response {
    let mut response = (refusal.code(), axum::Json(body)).into_response();
    if let Some(seconds) = refusal.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Sets a header whose value is made of our own digits and words.
fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// The key of `Authorization: Bearer KEY`.
fn bearer(headers: &HeaderMap) -> Key<'_> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
}

/// One event of a server-sent stream: its name, when it has one, and its data.
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
