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
    /// Too many requests, by the provider's count or by a limit of the settings.
    RateLimited {
        /// How long to wait, when the provider said so.
        retry_after: Option<Duration>,
    },
    /// The account has nothing left to spend: waiting does not help, another provider may.
    QuotaExhausted,
    /// The provider is up and has no room for the model.
    Overloaded {
        /// How long to wait, when the provider said so.
        retry_after: Option<Duration>,
    },
    /// The provider failed so often that it is left alone for a while; no call was made.
    CircuitOpen {
        /// How long until it is tried again.
        retry_after: Duration,
    },
    /// No answer, no first token, no next token or no end in time.
    Timeout,
    /// No connection, a server error, a stream cut off.
    Unavailable,
    /// The credentials were refused or are missing.
    Authentication,
    /// The request was refused: the model, a parameter, a tool that the model does not take.
    InvalidRequest,
    /// The answer is not what the protocol says.
    Malformed,
}

impl LlmErrorKind {
    /// Every class of errors, as metrics name them.
    pub const CLASSES: [&str; 9] = [
        "rate_limited",
        "quota_exhausted",
        "overloaded",
        "circuit_open",
        "timeout",
        "unavailable",
        "authentication",
        "invalid_request",
        "malformed",
    ];

    /// The place of its class in [`LlmErrorKind::CLASSES`].
    #[must_use]
    pub fn class(self) -> usize {
        match self {
            Self::RateLimited { .. } => 0,
            Self::QuotaExhausted => 1,
            Self::Overloaded { .. } => 2,
            Self::CircuitOpen { .. } => 3,
            Self::Timeout => 4,
            Self::Unavailable => 5,
            Self::Authentication => 6,
            Self::InvalidRequest => 7,
            Self::Malformed => 8,
        }
    }

    /// How long the provider, or the breaker before it, asks to be left alone.
    #[must_use]
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } | Self::Overloaded { retry_after } => retry_after,
            Self::CircuitOpen { retry_after } => Some(retry_after),
            _ => None,
        }
    }

    /// Whether it says that the provider itself is in trouble, whoever asks.
    #[must_use]
    pub fn is_outage(self) -> bool {
        matches!(self, Self::Overloaded { .. } | Self::Timeout | Self::Unavailable | Self::Malformed)
    }
}

impl LlmError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind.is_outage()
            || matches!(self.kind, LlmErrorKind::RateLimited { .. } | LlmErrorKind::CircuitOpen { .. })
    }

    /// Whether another model may be asked instead. Not after a refused request or key: that is for people to correct.
    #[must_use]
    pub fn may_fall_back(&self) -> bool {
        self.is_retryable() || self.kind == LlmErrorKind::QuotaExhausted
    }

    /// The error as a task shows it.
    #[must_use]
    pub fn to_task_error(&self) -> TaskError {
        let code = match self.kind {
            LlmErrorKind::RateLimited { .. } | LlmErrorKind::QuotaExhausted => ErrorCode::ProviderRateLimited,
            LlmErrorKind::Overloaded { .. }
            | LlmErrorKind::CircuitOpen { .. }
            | LlmErrorKind::Timeout
            | LlmErrorKind::Unavailable => ErrorCode::ProviderUnavailable,
            LlmErrorKind::Authentication => ErrorCode::ProviderAuthentication,
            LlmErrorKind::InvalidRequest => ErrorCode::ProviderInvalidRequest,
            LlmErrorKind::Malformed => ErrorCode::ProviderMalformedReply,
        };
        TaskError::new(code, self.to_string())
    }
}
