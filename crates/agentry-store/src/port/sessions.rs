//! Sessions: one writer at a time, ordered inbox.

use agentry_core::agent::AgentName;
use agentry_core::id::WorkerId;
use agentry_core::session::{SessionId, SessionMessage, SessionRecord};
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use super::{Claimed, Page};
use crate::StoreError;

/// What a worker gets of a session.
#[derive(Debug, Clone)]
pub enum SessionClaim {
    /// The oldest task of its inbox, and the session's state as of now.
    Claimed {
        /// The task, with its body.
        claimed: Box<Claimed>,
        /// The session; `fence` is the owner's token.
        session: Box<SessionRecord>,
    },
    /// Another live worker owns it, or its oldest task runs.
    Busy,
    /// The oldest task waits for a human; later ones wait behind it.
    Waiting,
    /// The oldest task is not due before this moment; later ones wait behind it.
    NotBefore(Timestamp),
    /// The inbox is empty; the session has no owner now.
    Empty,
}

/// A session with what lists show.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionView {
    /// What is kept of it.
    pub record: SessionRecord,
    /// Tasks in its inbox that have not ended.
    pub open_tasks: u64,
}

/// Sessions.
#[async_trait]
pub trait SessionStore: Send + Sync + 'static {
    /// Claims the oldest task of a session's inbox that has not ended, and with it the session. The fence grows
    /// whenever the owner changes. A session that does not exist yet is made.
    async fn claim_session(
        &self,
        worker: WorkerId,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<SessionClaim, StoreError>;

    /// Messages of a session numbered above `after`, oldest first, at most `limit`.
    async fn messages(&self, session: &SessionId, after: u64, limit: usize) -> Result<Vec<SessionMessage>, StoreError>;

    /// A session.
    async fn session(&self, session: &SessionId) -> Result<Option<SessionView>, StoreError>;

    /// Sessions, last touched first, of an agent or of all; those touched before the one named `before`.
    async fn sessions(
        &self,
        agent: Option<&AgentName>,
        before: Option<&SessionId>,
        limit: usize,
    ) -> Result<Page<SessionView>, StoreError>;

    /// Removes a session and its messages; refused (`false`) while its inbox holds a task that has not ended.
    async fn delete_session(&self, session: &SessionId) -> Result<bool, StoreError>;
}
