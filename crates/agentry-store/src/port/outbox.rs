//! The outbox: claimed before it is sent.

use agentry_core::id::{OutboxId, WorkerId};
use agentry_core::outbox::OutboxMessage;
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use crate::StoreError;

/// A message to send, claimed by the caller.
#[derive(Debug, Clone)]
pub struct PendingMessage {
    /// What to send.
    pub message: OutboxMessage,
    /// Which try this is, from 1.
    pub attempt: u32,
}

/// What became of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// It arrived.
    Sent,
    /// Again, not before this moment.
    RetryAt(Timestamp),
    /// Given up: it becomes a dead letter with this reason.
    Dead(String),
}

/// The outbox.
#[async_trait]
pub trait OutboxStore: Send + Sync + 'static {
    /// Claims due messages, oldest first, at most `limit`. A claim holds until it is settled or its owner is dead. Messages
    /// that this worker claimed before and that are not among `held` come again: the answer to that claim, or the settling,
    /// was lost.
    async fn claim_outbox(
        &self,
        worker: WorkerId,
        now: Timestamp,
        limit: usize,
        held: &[OutboxId],
    ) -> Result<Vec<PendingMessage>, StoreError>;

    /// Says what became of claimed messages.
    async fn settle_outbox(&self, results: Vec<(OutboxId, Delivery)>, now: Timestamp) -> Result<(), StoreError>;

    /// When the next message will be due; `None` when none waits.
    async fn next_outbox(&self) -> Result<Option<Timestamp>, StoreError>;
}
