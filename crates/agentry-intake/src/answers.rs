//! Answers of people to questions of tasks.

use agentry_bus::Signal;
use agentry_core::clarification::{Clarification, Resolution};
use agentry_core::id::ClarificationId;
use agentry_core::time::Timestamp;
use agentry_core::wake::Wake;
use agentry_store::{Answered, StoreError};

use crate::Intake;

/// A question with its resolution.
pub type ResolvedQuestion = Box<Clarification>;

/// Why an answer is not taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AnswerRefused {
    /// There is no such question.
    #[error("no clarification has the id {0}")]
    Unknown(ClarificationId),
    /// It has ended; the first answer stands.
    #[error("the question has ended")]
    Ended(Box<Clarification>),
    /// The store's answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether a question may still be answered.
#[must_use]
pub fn is_open(question: &Clarification, now: Timestamp) -> bool {
    question.resolution.is_none() && question.expires_at > now
}

impl Intake {
    /// Takes a person's answer to an open question; `check` may refuse it with an error of the caller's own. The task
    /// goes on when no other question of it is open, and every place where the question was asked is told.
    ///
    /// # Errors
    /// See [`AnswerRefused`]; or what `check` returned.
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

    /// Ends a question whose time is up: with its default, or without an answer.
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
            Answered::Accepted { clarification, wake } => {
                self.wake_again(wake);
                // Also rings the relays, which tell where the question was asked.
                self.bus().signal(Signal::Resolved(clarification.task));
                Ok(clarification)
            }
            Answered::AlreadyResolved(question) => Err(AnswerRefused::Ended(question)),
            Answered::Unknown => Err(AnswerRefused::Unknown(id)),
        }
    }

    /// Wakes workers for tasks that were queued again.
    pub fn wake_again(&self, wakes: impl IntoIterator<Item = Wake>) {
        let wakes: Vec<Wake> = wakes.into_iter().collect();
        if !wakes.is_empty() {
            self.bus().wake(wakes);
        }
    }
}
