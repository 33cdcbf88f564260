//! Code that all wire protocols share: sending, bounded reading, timeouts and errors.
//!
//! A [`Protocol`] formats requests and parses answers; [`Client`] does everything else once for all of them.

mod base;
mod classify;
mod client;
mod draft;
pub(crate) mod failure;
mod fields;
mod form;
mod frames;
pub(crate) mod lenient;
mod mend;
mod sse;
mod timeouts;
mod turns;

use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use secrecy::SecretString;

pub(crate) use base::{Base, Bases};
pub(crate) use client::Client;
pub use client::MAX_BODY_BYTES;
pub(crate) use draft::{ANSWER_TOOL, Draft, ToolDelta};
pub(crate) use fields::Fields;
pub(crate) use form::{AnswerBy, AnswerSchema, Form, answer_by, form, in_words, object_or_empty};
pub(crate) use frames::{Frame, Framing};
pub(crate) use mend::RequestChanges;
pub use timeouts::Timeouts;
#[cfg(test)]
pub(crate) use turns::prefix_of;
pub(crate) use turns::{OwnParts, Turn, offered, shown, turns, wire_id};

use crate::{Call, LlmError};

pub(crate) struct Outgoing {
    pub url: String,
    /// Headers in addition to those of every call; credentials among them are marked as sensitive.
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// A Bedrock target has no region, so its address is unknown.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("no AWS region: set `region` in the agent's llm_config, AWS_REGION, or `region` of the AWS profile")]
pub(crate) struct MissingRegion;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    More,
    Done,
}

#[async_trait]
pub(crate) trait Protocol: Send + Sync + 'static {
    fn framing(&self) -> Framing;

    fn base_url(&self, target: &agentry_core::agent::LlmTarget) -> Result<String, MissingRegion>;

    /// Writes the request, with the changes that the model is known to need.
    async fn outgoing(&self, call: &Call, stream: bool, changes: &RequestChanges) -> Result<Outgoing, LlmError>;

    fn whole(&self, call: &Call, body: &[u8]) -> Result<Draft, LlmError>;

    /// Applies the next frame of a stream to the answer.
    fn frame(&self, call: &Call, draft: &mut Draft, frame: &Frame) -> Result<Progress, LlmError>;

    fn refusal(&self, call: &Call, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> LlmError {
        failure::of_status(call, status, headers, body)
    }

    /// Returns the secrets that a server could repeat in an error message.
    async fn secrets(&self) -> Vec<SecretString>;

    /// Called after the provider refused the credentials.
    async fn credentials_refused(&self) {}

    /// Prepares everything but the connection for the first call.
    async fn warm(&self) {}
}
