//! Input and result of [`crate::Providers::chat`].

use std::time::Duration;

use agentry_core::agent::LlmTarget;
use agentry_core::id::CallId;
use agentry_core::task::TaskError;
use async_trait::async_trait;

use crate::{Call, LlmError, TimedReply};

/// Decisions of the caller during a chat. Ids and randomness come from it, so that a test can control them.
#[async_trait]
pub trait Hooks: Send + Sync {
    /// Called before a call leaves the process; the call is made only when this returns `Ok`. It journals the call
    /// durably and reserves its budget. Not called for providers inside the process.
    ///
    /// # Errors
    /// [`Abort`] ends the chat before the call.
    async fn before(&self, call: &Call) -> Result<(), Abort>;

    /// Called after a call failed; another one may follow.
    fn failed(&self, attempt: &Attempt);

    /// Returns the id of the next call. The first call has the id it was given.
    fn new_call_id(&self) -> CallId;

    /// Returns the share of the backoff bound to wait, from 0 to 1.
    fn jitter(&self) -> f64;
}

/// The caller stops the chat.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Abort(pub TaskError);

/// One call that was made: a row of the ledger.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Id of the call.
    pub call: CallId,
    /// Provider and model of the call.
    pub target: LlmTarget,
    /// Answer or error.
    pub result: Result<TimedReply, LlmError>,
    /// Time from the start of the chat to the start of this call.
    pub started_after: Duration,
    /// Duration of the call, also when it failed.
    pub duration: Duration,
}

/// Result of a chat.
#[derive(Debug, Clone)]
pub struct ChatOutcome {
    /// All calls, in order. The last one succeeded unless `error` is set.
    pub attempts: Vec<Attempt>,
    /// Error of a chat without an answer.
    pub error: Option<ChatError>,
}

/// Reason for which a chat has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ChatError {
    /// No target answered; this is the error of the last one.
    #[error(transparent)]
    Failed(#[from] LlmError),
    /// [`Hooks::before`] stopped the chat.
    #[error(transparent)]
    Aborted(#[from] Abort),
}

impl ChatError {
    /// Converts the error for display in a task.
    #[must_use]
    pub fn to_task_error(&self) -> TaskError {
        match self {
            Self::Failed(error) => error.to_task_error(),
            Self::Aborted(Abort(error)) => error.clone(),
        }
    }
}

impl ChatOutcome {
    /// Returns the successful call and its answer.
    ///
    /// # Errors
    /// The chat has no answer.
    pub fn answer(&self) -> Result<(&Attempt, &TimedReply), TaskError> {
        if let Some(error) = &self.error {
            return Err(error.to_task_error());
        }
        let answered = self.attempts.last().and_then(|attempt| Some((attempt, attempt.result.as_ref().ok()?)));
        answered.ok_or_else(|| {
            TaskError::new(
                agentry_core::task::ErrorCode::Internal,
                "a chat ended without an answer and without an error",
            )
        })
    }
}
