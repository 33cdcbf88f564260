//! Sessions: one writer at a time, and an ordered inbox.

use agentry_core::agent::AgentName;
use agentry_core::id::WorkerId;
use agentry_core::session::{SessionId, SessionMessage, SessionRecord};
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use super::{ClaimedTask, Page};
use crate::StoreError;

/// Result of claiming a session.
#[derive(Debug, Clone)]
pub enum SessionClaim {
    /// The caller owns the session and the oldest task of its inbox.
    Claimed {
        /// The task, with its body.
        claimed: Box<ClaimedTask>,
        /// The current session; `fence` is the owner's token.
        session: Box<SessionRecord>,
    },
    /// Another live worker owns the session, or its oldest task is running.
    Busy,
    /// The oldest task is waiting for a human; later ones wait behind it.
    Waiting,
    /// The oldest task is not due before this time; later ones wait behind it.
    NotBefore(Timestamp),
    /// The inbox is empty; the session has no owner now.
    Empty,
}

/// A session as shown in lists.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionView {
    /// The stored session.
    pub record: SessionRecord,
    /// Number of tasks in its inbox that have not ended.
    pub open_tasks: u64,
}

/// Stores sessions.
#[async_trait]
pub trait SessionStore: Send + Sync + 'static {
    /// Claims the oldest task of a session's inbox that has not ended, and with it the session. The fence grows
    /// whenever the owner changes. A missing session is created.
    async fn claim_session(
        &self,
        worker: WorkerId,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<SessionClaim, StoreError>;

    /// Returns up to `limit` messages of a session with numbers above `after`, oldest first.
    async fn messages(&self, session: &SessionId, after: u64, limit: usize) -> Result<Vec<SessionMessage>, StoreError>;

    /// Returns a session.
    async fn session(&self, session: &SessionId) -> Result<Option<SessionView>, StoreError>;

    /// Returns sessions by last activity, latest first, of one agent or of all, starting after the session `before`.
    async fn sessions(
        &self,
        agent: Option<&AgentName>,
        before: Option<&SessionId>,
        limit: usize,
    ) -> Result<Page<SessionView>, StoreError>;

    /// Deletes a session and its messages. Returns false, and deletes nothing, while its inbox holds a task that has
    /// not ended.
    async fn delete_session(&self, session: &SessionId) -> Result<bool, StoreError>;
}
