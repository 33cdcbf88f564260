//! What the caller of [`crate::Providers::chat`] brings, and what it gets back.

use std::time::Duration;

use agentry_core::agent::LlmTarget;
use agentry_core::id::CallId;
use agentry_core::task::TaskError;
use async_trait::async_trait;

use crate::{Call, LlmError, Timed};

/// What the caller decides during a chat: ids and randomness come from it, so that a test can own them.
#[async_trait]
pub trait Hooks: Send + Sync {
    /// A call is about to leave the process. It is made only when this returns `Ok`: the place to journal it durably
    /// and to reserve its budget. Not called for providers that answer inside the process.
    ///
    /// # Errors
    /// [`Abort`]: the chat ends here and the call is not made.
    async fn before(&self, call: &Call) -> Result<(), Abort>;

    /// A call that left has failed; another one may follow it.
    fn failed(&self, attempt: &Attempt);

    /// The id of the next call after the first one, which carries the id it was given.
    fn new_call_id(&self) -> CallId;

    /// A number from 0 to 1 by which the wait before a retry is shortened.
    fn jitter(&self) -> f64;
}

/// The caller does not want the call made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Abort(pub TaskError);

/// One call that was made: a row of the ledger.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Its id.
    pub call: CallId,
    /// Whom it went to.
    pub target: LlmTarget,
    /// How it ended.
    pub result: Result<Timed, LlmError>,
    /// From the start of the chat to the start of this call.
    pub started_after: Duration,
    /// How long it took, also when it failed.
    pub duration: Duration,
}

/// How a chat ended.
#[derive(Debug, Clone)]
pub struct ChatOutcome {
    /// Every call that was made, in order. The last one succeeded unless `error` says otherwise.
    pub attempts: Vec<Attempt>,
    /// Why there is no answer.
    pub error: Option<ChatError>,
}

/// Why a chat has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ChatError {
    /// No target answered; this is what the last one said.
    #[error(transparent)]
    Failed(#[from] LlmError),
    /// [`Hooks::before`] stopped it.
    #[error(transparent)]
    Aborted(#[from] Abort),
}

impl ChatError {
    /// The error as a task shows it.
    #[must_use]
    pub fn to_task_error(&self) -> TaskError {
        match self {
            Self::Failed(error) => error.to_task_error(),
            Self::Aborted(Abort(error)) => error.clone(),
        }
    }
}

impl ChatOutcome {
    /// The call that was answered, with its answer.
    ///
    /// # Errors
    /// Why there is none.
    pub fn answer(&self) -> Result<(&Attempt, &Timed), TaskError> {
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
