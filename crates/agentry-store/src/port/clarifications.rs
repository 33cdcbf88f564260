//! Clarifications: questions to humans.

use agentry_core::clarification::{Clarification, Resolution};
use agentry_core::id::ClarificationId;
use agentry_core::time::Timestamp;
use agentry_core::wake::Wake;
use async_trait::async_trait;

use super::Page;
use crate::StoreError;

/// What became of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Answered {
    /// It stands. The task is queued again when it was waiting and no other question of it is open (`wake`); when it
    /// still runs, its owner finds the answer in the journal.
    Accepted {
        /// The question, resolved.
        clarification: Box<Clarification>,
        /// The task to wake.
        wake: Option<Wake>,
    },
    /// The question had ended before; the first answer stands.
    AlreadyResolved(Box<Clarification>),
    /// There is no such question.
    Unknown,
}

/// Clarifications.
#[async_trait]
pub trait ClarificationStore: Send + Sync + 'static {
    /// Resolves an open question and appends [`agentry_core::journal::JournalBody::Answered`] to its task's journal
    /// (scope and attempt of the entry that asked). The first resolution wins.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn resolve(&self, id: ClarificationId, resolution: Resolution) -> Result<Answered, StoreError>;

    /// A question.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn clarification(&self, id: ClarificationId) -> Result<Option<Clarification>, StoreError>;

    /// Questions, open or all; oldest first after `after`.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn clarifications(
        &self,
        only_open: bool,
        after: Option<ClarificationId>,
        limit: usize,
    ) -> Result<Page<Clarification>, StoreError>;

    /// Notes the thread of a question that was asked in a channel: it began with the question's own post. See
    /// [`agentry_core::slack::SlackPlace::thread_key`].
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn asked_in(&self, id: ClarificationId, thread: &str) -> Result<(), StoreError>;

    /// Questions that were asked in a thread, open or not, newest first, at most `limit`.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn clarifications_in(&self, thread: &str, limit: usize) -> Result<Vec<Clarification>, StoreError>;

    /// Open questions whose time is up at `now`.
    ///
    /// # Errors
    /// When the store is unavailable.
    async fn expired_clarifications(&self, now: Timestamp, limit: usize) -> Result<Vec<Clarification>, StoreError>;
}
