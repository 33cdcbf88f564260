//! Clarifications: questions to humans.

use agentry_core::clarification::{Clarification, Resolution};
use agentry_core::id::ClarificationId;
use agentry_core::time::Timestamp;
use agentry_core::wake::Wake;
use async_trait::async_trait;

use super::Page;
use crate::StoreError;

/// Result of resolving a question.
#[derive(Debug, Clone, PartialEq)]
pub enum ResolveResult {
    /// The resolution stands. A waiting task without further open questions is queued again (`wake`); the owner of a
    /// running task finds the answer in the journal.
    Accepted {
        /// The resolved question.
        clarification: Box<Clarification>,
        /// Task to wake, if it was queued again.
        wake: Option<Wake>,
    },
    /// The question was resolved before; the first resolution stands.
    AlreadyResolved(Box<Clarification>),
    /// There is no such question.
    Unknown,
}

/// Returns the time of a resolution.
pub(crate) fn resolved_at(resolution: &Resolution) -> Timestamp {
    match resolution {
        Resolution::Answered { at, .. }
        | Resolution::Defaulted { at, .. }
        | Resolution::Expired { at }
        | Resolution::Withdrawn { at } => *at,
    }
}

/// Stores questions to humans.
#[async_trait]
pub trait ClarificationStore: Send + Sync + 'static {
    /// Resolves an open question and appends [`agentry_core::journal::JournalBody::Answered`] to its task's journal,
    /// with scope and attempt of the entry that asked. The first resolution wins.
    async fn resolve(&self, id: ClarificationId, resolution: Resolution) -> Result<ResolveResult, StoreError>;

    /// Returns a question.
    async fn clarification(&self, id: ClarificationId) -> Result<Option<Clarification>, StoreError>;

    /// Returns questions after `after`, oldest first, open ones only or all.
    async fn clarifications(
        &self,
        only_open: bool,
        after: Option<ClarificationId>,
        limit: usize,
    ) -> Result<Page<Clarification>, StoreError>;

    /// Records the thread of a question that was posted in a channel; the thread starts with the post itself. See
    /// [`agentry_core::slack::SlackAddress::thread_key`].
    async fn set_clarification_thread(&self, id: ClarificationId, thread: &str) -> Result<(), StoreError>;

    /// Returns up to `limit` questions that were asked in a thread, open or not, newest first.
    async fn clarifications_in_thread(&self, thread: &str, limit: usize) -> Result<Vec<Clarification>, StoreError>;

    /// Returns open questions whose deadline has passed at `now`.
    async fn expired_clarifications(&self, now: Timestamp, limit: usize) -> Result<Vec<Clarification>, StoreError>;
}
