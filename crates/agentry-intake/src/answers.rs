//! Answers to clarifications.

use agentry_bus::Signal;
use agentry_core::clarification::{Clarification, Resolution};
use agentry_core::id::ClarificationId;
use agentry_core::time::Timestamp;
use agentry_core::wake::Wake;
use agentry_store::{ResolveResult, StoreError};

use crate::Intake;

/// A question with its resolution.
pub type ResolvedQuestion = Box<Clarification>;

/// The reason why an answer is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AnswerRefused {
    /// The question does not exist.
    #[error("no clarification has the id {0}")]
    Unknown(ClarificationId),
    /// The question has ended; the first answer counts.
    #[error("the question has ended")]
    Ended(Box<Clarification>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Returns whether a question may still be answered.
#[must_use]
pub fn is_open(question: &Clarification, now: Timestamp) -> bool {
    question.resolution.is_none() && question.expires_at > now
}

impl Intake {
    /// Resolves an open question with a person's answer; `check` may refuse it with an error of the caller's own. The
    /// task continues once all of its questions are resolved, and every channel in which the question was asked is
    /// updated.
    ///
    /// # Errors
    /// Fails with [`AnswerRefused`], or with the error of `check`.
    pub async fn answer<E: From<AnswerRefused>>(
        &self,
        id: ClarificationId,
        answer: String,
        by: String,
        check: impl FnOnce(&Clarification, &str) -> Result<(), E>,
    ) -> Result<ResolvedQuestion, E> {
        let now = self.now();
        let question = self.store().clarification(id).await.map_err(AnswerRefused::from)?;
        let question = question.ok_or(AnswerRefused::Unknown(id))?;
        if !is_open(&question, now) {
            return Err(AnswerRefused::Ended(Box::new(question)).into());
        }
        check(&question, &answer)?;
        Ok(self.resolve(id, Resolution::Answered { answer, by, at: now }).await?)
    }

    /// Resolves an expired question: with its default, or without an answer.
    ///
    /// # Errors
    /// See [`AnswerRefused`].
    pub async fn expire(&self, question: Clarification) -> Result<ResolvedQuestion, AnswerRefused> {
        let at = self.now();
        let resolution = match question.default {
            Some(answer) => Resolution::Defaulted { answer, at },
            None => Resolution::Expired { at },
        };
        self.resolve(question.id, resolution).await
    }

    async fn resolve(&self, id: ClarificationId, resolution: Resolution) -> Result<ResolvedQuestion, AnswerRefused> {
        match self.store().resolve(id, resolution).await? {
            ResolveResult::Accepted { clarification, wake } => {
                self.wake_again(wake);
                // The signal also notifies the relays, which update the channels in which the question was asked.
                self.bus().signal(Signal::Resolved(clarification.task));
                Ok(clarification)
            }
            ResolveResult::AlreadyResolved(question) => Err(AnswerRefused::Ended(question)),
            ResolveResult::Unknown => Err(AnswerRefused::Unknown(id)),
        }
    }

    /// Wakes workers for requeued tasks.
    pub fn wake_again(&self, wakes: impl IntoIterator<Item = Wake>) {
        let wakes: Vec<Wake> = wakes.into_iter().collect();
        if !wakes.is_empty() {
            self.bus().wake(wakes);
        }
    }
}
