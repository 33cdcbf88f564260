//! Errors of provider calls, split by who must react.

use std::time::Duration;

use agentry_core::chat::Usage;
use agentry_core::task::{ErrorCode, TaskError};

/// A provider call that failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{provider} {model}: {message}")]
pub struct LlmError {
    /// Kind of failure.
    pub kind: LlmErrorKind,
    /// Name of the provider.
    pub provider: &'static str,
    /// Requested model.
    pub model: String,
    /// The provider's message, shortened, without keys.
    pub message: String,
    /// Tokens that the provider counted before the failure.
    pub usage: Usage,
    /// True when the answer had begun and the provider did not count it.
    pub is_uncounted: bool,
}

/// Kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum LlmErrorKind {
    /// Too many requests, by the provider's limit or by `llm.limits` of the settings.
    RateLimited {
        /// Delay that the provider asked for.
        retry_after: Option<Duration>,
    },
    /// The account has no credit left. Waiting does not help; another provider may.
    QuotaExhausted,
    /// The provider has no capacity for the model.
    Overloaded {
        /// Delay that the provider asked for.
        retry_after: Option<Duration>,
    },
    /// The circuit breaker is open; no call was made.
    CircuitOpen {
        /// Time until the next probe.
        retry_after: Duration,
    },
    /// No answer, first token, next token or end in time.
    Timeout,
    /// No connection, a server error, or a stream that was cut off.
    Unavailable,
    /// The credentials are missing or were refused.
    Authentication,
    /// The provider refused a parameter, a tool or the conversation.
    InvalidRequest,
    /// The answer violates the protocol.
    Malformed,
    /// The model does not exist, or not any more.
    ModelGone,
    /// The model refused to answer, or the provider withheld the answer.
    Refused,
    /// The conversation does not fit the model's context.
    ContextExceeded,
}

impl LlmErrorKind {
    /// Error classes, as metrics name them.
    pub const CLASSES: [&str; 12] = [
        "rate_limited",
        "quota_exhausted",
        "overloaded",
        "circuit_open",
        "timeout",
        "unavailable",
        "authentication",
        "invalid_request",
        "malformed",
        "model_gone",
        "refused",
        "context_exceeded",
    ];

    /// Returns the index of the class in [`LlmErrorKind::CLASSES`].
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
            Self::ModelGone => 9,
            Self::Refused => 10,
            Self::ContextExceeded => 11,
        }
    }

    /// Returns the delay that the provider or the breaker asked for.
    #[must_use]
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } | Self::Overloaded { retry_after } => retry_after,
            Self::CircuitOpen { retry_after } => Some(retry_after),
            _ => None,
        }
    }

    /// Returns the kind with the delay that the provider asked for, where the kind has one.
    pub(crate) fn with_delay(self, retry_after: Option<Duration>) -> Self {
        match self {
            Self::RateLimited { .. } => Self::RateLimited { retry_after },
            Self::Overloaded { .. } => Self::Overloaded { retry_after },
            other => other,
        }
    }

    /// Returns true when the failure is the provider's, whoever calls it.
    #[must_use]
    pub fn is_outage(self) -> bool {
        matches!(self, Self::Overloaded { .. } | Self::Timeout | Self::Unavailable | Self::Malformed)
    }
}

impl LlmError {
    /// Returns true when the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind.is_outage()
            || matches!(self.kind, LlmErrorKind::RateLimited { .. } | LlmErrorKind::CircuitOpen { .. })
    }

    /// Returns true when a fallback model may be called: another model may take what this one refused. A refused key
    /// must be corrected by a person.
    #[must_use]
    pub fn may_fall_back(&self) -> bool {
        self.kind != LlmErrorKind::Authentication
    }

    /// Converts the error for display in a task.
    #[must_use]
    pub fn to_task_error(&self) -> TaskError {
        let code = match self.kind {
            LlmErrorKind::RateLimited { .. } | LlmErrorKind::QuotaExhausted => ErrorCode::ProviderRateLimited,
            LlmErrorKind::Overloaded { .. }
            | LlmErrorKind::CircuitOpen { .. }
            | LlmErrorKind::Timeout
            | LlmErrorKind::Unavailable => ErrorCode::ProviderUnavailable,
            LlmErrorKind::Authentication => ErrorCode::ProviderAuthentication,
            LlmErrorKind::InvalidRequest | LlmErrorKind::ModelGone => ErrorCode::ProviderInvalidRequest,
            LlmErrorKind::Refused => ErrorCode::Refused,
            LlmErrorKind::ContextExceeded => ErrorCode::ContextExceeded,
            LlmErrorKind::Malformed => ErrorCode::ProviderMalformedReply,
        };
        TaskError::new(code, self.to_string())
    }
}
