//! What all wire protocols share: sending, reading within bounds and in time, and telling what went wrong.
//!
//! A [`Protocol`] writes requests and reads answers of one kind; [`Client`] does everything else once for all of them.

mod base;
mod client;
mod draft;
pub(crate) mod failure;
mod form;
mod frames;
mod timeouts;
mod turns;

use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use secrecy::SecretString;

pub(crate) use base::{Base, Bases};
pub(crate) use client::Client;
pub use client::MAX_BODY_BYTES;
pub(crate) use draft::{ANSWER_TOOL, Draft};
pub(crate) use form::{AnswerSchema, Form, form, object_or_empty};
pub(crate) use frames::{Frame, Framing};
pub use timeouts::Timeouts;
pub(crate) use turns::{Turn, turns};

use crate::{Call, LlmError};

/// A request as it leaves.
pub(crate) struct Outgoing {
    /// Where to.
    pub url: String,
    /// What the protocol adds to the headers that every call has; credentials among them are marked as sensitive.
    pub headers: HeaderMap,
    /// The body, in JSON.
    pub body: Vec<u8>,
}

/// Whether a stream goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is more.
    More,
    /// The answer is whole.
    Done,
}

/// One wire protocol.
#[async_trait]
pub(crate) trait Protocol: Send + Sync + 'static {
    /// How its streams are cut into frames.
    fn framing(&self) -> Framing;

    /// Where a target is reached.
    fn base_url(&self, target: &agentry_core::agent::LlmTarget) -> Result<String, String>;

    /// Writes a call.
    async fn outgoing(&self, call: &Call, stream: bool) -> Result<Outgoing, LlmError>;

    /// Reads a whole answer.
    fn whole(&self, call: &Call, body: &[u8]) -> Result<Draft, LlmError>;

    /// Takes the next frame of a stream into the answer.
    fn frame(&self, call: &Call, draft: &mut Draft, frame: &Frame) -> Result<Progress, LlmError>;

    /// What an answer other than success means.
    fn refusal(&self, call: &Call, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> LlmError {
        failure::of_status(call, status, headers, body)
    }

    /// What must not be shown, should a server repeat it.
    async fn secrets(&self) -> Vec<SecretString>;

    /// A call was refused for its credentials.
    async fn credentials_refused(&self) {}

    /// Gets ready what the first call would wait for besides a connection.
    async fn warm(&self) {}
}
