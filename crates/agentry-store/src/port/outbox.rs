//! The outbox: messages are claimed before they are sent.

use agentry_core::id::{OutboxId, WorkerId};
use agentry_core::outbox::OutboxMessage;
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use crate::StoreError;

/// A message to send, claimed by the caller.
#[derive(Debug, Clone)]
pub struct PendingMessage {
    /// The message.
    pub message: OutboxMessage,
    /// Number of the attempt, from 1.
    pub attempt: u32,
}

/// Result of an attempt to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The message was sent.
    Sent,
    /// Try again, not before this time.
    RetryAt(Timestamp),
    /// The message is given up: it becomes a dead letter with this reason.
    Dead(String),
}

/// Stores outgoing messages.
#[async_trait]
pub trait OutboxStore: Send + Sync + 'static {
    /// Claims up to `limit` due messages, oldest first. A claim holds until it is settled or its owner is declared
    /// dead. Messages that this worker claimed before and that are not in `held` are claimed again, because the answer
    /// to that claim, or the settlement, was lost.
    async fn claim_outbox(
        &self,
        worker: WorkerId,
        now: Timestamp,
        limit: usize,
        held: &[OutboxId],
    ) -> Result<Vec<PendingMessage>, StoreError>;

    /// Settles claimed messages.
    async fn settle_outbox(&self, results: Vec<(OutboxId, Delivery)>, now: Timestamp) -> Result<(), StoreError>;

    /// Returns the time at which the next message is due; `None` when there is none.
    async fn next_outbox(&self) -> Result<Option<Timestamp>, StoreError>;
}
