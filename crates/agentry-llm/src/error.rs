//! What can go wrong with a provider call, split by who must react.

use std::time::Duration;

use agentry_core::chat::Usage;
use agentry_core::task::{ErrorCode, TaskError};

/// A provider call that failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{provider} {model}: {message}")]
pub struct LlmError {
    /// What kind of failure.
    pub kind: LlmErrorKind,
    /// The provider's word.
    pub provider: &'static str,
    /// The model asked for.
    pub model: String,
    /// The provider's own message, cut to a bound, never with a key in it.
    pub message: String,
    /// Tokens that the provider counted before it failed.
    pub usage: Usage,
}

/// What kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum LlmErrorKind {
    /// Too many requests; with the provider's `Retry-After`.
    RateLimited {
        /// How long to wait, when it said so.
        retry_after: Option<Duration>,
    },
    /// No connection, a server error, a timeout, a stream cut off.
    Unavailable,
    /// The credentials were refused or are missing.
    Authentication,
    /// The request was refused.
    InvalidRequest,
    /// The answer is not what the protocol says.
    Malformed,
}

impl LlmError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, LlmErrorKind::RateLimited { .. } | LlmErrorKind::Unavailable | LlmErrorKind::Malformed)
    }

    /// The error as a task shows it.
    #[must_use]
    pub fn to_task_error(&self) -> TaskError {
        let code = match self.kind {
            LlmErrorKind::RateLimited { .. } => ErrorCode::ProviderRateLimited,
            LlmErrorKind::Unavailable => ErrorCode::ProviderUnavailable,
            LlmErrorKind::Authentication => ErrorCode::ProviderAuthentication,
            LlmErrorKind::InvalidRequest => ErrorCode::ProviderInvalidRequest,
            LlmErrorKind::Malformed => ErrorCode::ProviderMalformedReply,
        };
        TaskError::new(code, self.to_string())
    }
}
