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

/// The time of a resolution.
pub(crate) fn resolved_at(resolution: &Resolution) -> Timestamp {
    match resolution {
        Resolution::Answered { at, .. }
        | Resolution::Defaulted { at, .. }
        | Resolution::Expired { at }
        | Resolution::Withdrawn { at } => *at,
    }
}

/// Clarifications.
#[async_trait]
pub trait ClarificationStore: Send + Sync + 'static {
    /// Resolves an open question and appends [`agentry_core::journal::JournalBody::Answered`] to its task's journal
    /// (scope and attempt of the entry that asked). The first resolution wins.
    async fn resolve(&self, id: ClarificationId, resolution: Resolution) -> Result<Answered, StoreError>;

    /// A question.
    async fn clarification(&self, id: ClarificationId) -> Result<Option<Clarification>, StoreError>;

    /// Questions, open or all; oldest first after `after`.
    async fn clarifications(
        &self,
        only_open: bool,
        after: Option<ClarificationId>,
        limit: usize,
    ) -> Result<Page<Clarification>, StoreError>;

    /// Notes the thread of a question that was asked in a channel: it began with the question's own post. See
    /// [`agentry_core::slack::SlackAddress::thread_key`].
    async fn asked_in(&self, id: ClarificationId, thread: &str) -> Result<(), StoreError>;

    /// Questions that were asked in a thread, open or not, newest first, at most `limit`.
    async fn clarifications_in(&self, thread: &str, limit: usize) -> Result<Vec<Clarification>, StoreError>;

    /// Open questions whose time is up at `now`.
    async fn expired_clarifications(&self, now: Timestamp, limit: usize) -> Result<Vec<Clarification>, StoreError>;
}
