//! Group commit: callers wait on one queue per kind of write; the queue is sent as one statement with one commit.
//!
//! A write waits only while a batch is in flight: a lone caller's write is sent at once. Meanwhile further writes
//! gather, so that batches grow with the load.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::accept::AcceptBatch;
use super::advance::{EndBatch, StepBatch, TurnBatch};
use super::claim::ClaimBatch;
use super::events::EventBatch;
use super::failure::Failure;
use super::pool::{Db, Tries};
use super::sessions_claim::SessionClaimBatch;
use crate::StoreError;

/// Largest number of waiting callers per kind of write; further ones fail with [`StoreError::Full`].
pub const MAX_WAITING_WRITES: usize = 16_384;
/// Number of rows after which a batch is closed: beyond some hundred the cost per row falls no further, and the first
/// caller of the batch waits for the last row.
const MAX_BATCH_ROWS: usize = 400;
/// Largest number of batches of one kind in flight.
const MAX_IN_FLIGHT: usize = 2;
/// Time after which the next batch is sent beside one in flight. A commit takes less, and writes that gather meanwhile
/// make a larger, cheaper batch; a batch that waits for a lock takes longer, and must not hold up the others.
const OVERTAKE_AFTER: Duration = Duration::from_millis(5);
/// Retry delay for callers beyond [`MAX_WAITING_WRITES`]: the queue is empty well within it.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A kind of write that is sent in batches.
#[async_trait]
pub(super) trait BatchKind: Send + Sync + 'static {
    /// Write of one caller.
    type Item: Send + Sync + 'static;
    /// Result for the caller.
    type Answer: Send + 'static;
    /// Key of items that must not share a batch: the task or the session.
    type Key: Eq + std::hash::Hash + Send;

    /// Returns the approximate number of rows that an item writes.
    fn rows(item: &Self::Item) -> usize;

    /// Returns the key of an item; items with equal keys never share a batch.
    fn key(item: &Self::Item) -> Option<Self::Key>;

    /// Writes all items with one commit and returns the results in their order. An error means that nothing was
    /// written, or that this is unknown (then `tries` says so in the next run).
    async fn run(db: &Db, items: &[Self::Item], tries: Tries) -> Result<Vec<Self::Answer>, Failure>;
}

pub(super) struct Batches {
    pub(super) accepts: Queue<AcceptBatch>,
    pub(super) claims: Queue<ClaimBatch>,
    pub(super) steps: Queue<StepBatch>,
    pub(super) ends: Queue<EndBatch>,
    pub(super) turns: Queue<TurnBatch>,
    pub(super) session_claims: Queue<SessionClaimBatch>,
    pub(super) events: Queue<EventBatch>,
}

impl Batches {
    /// Starts the queues on the current runtime; each ends when it is dropped and empty.
    pub(super) fn start(db: &Arc<Db>) -> Self {
        Self {
            accepts: Queue::start(db),
            claims: Queue::start(db),
            steps: Queue::start(db),
            ends: Queue::start(db),
            turns: Queue::start(db),
            session_claims: Queue::start(db),
            events: Queue::start(db),
        }
    }
}

struct Waiting<K: BatchKind> {
    item: K::Item,
    reply: oneshot::Sender<Result<K::Answer, StoreError>>,
}

/// Sending end of a queue.
pub(super) struct Queue<K: BatchKind> {
    waiting: mpsc::Sender<Waiting<K>>,
}

impl<K: BatchKind> Queue<K> {
    fn start(db: &Arc<Db>) -> Self {
        let (waiting, arrivals) = mpsc::channel(MAX_WAITING_WRITES);
        tokio::spawn(serve::<K>(Arc::clone(db), arrivals));
        Self { waiting }
    }

    /// Writes an item with the next batch; returns once it is committed.
    pub(super) async fn call(&self, item: K::Item) -> Result<K::Answer, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.waiting.try_send(Waiting { item, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Full {
                what: "the store's write queue",
                bound: MAX_WAITING_WRITES as u64,
                retry_after: RETRY_AFTER,
            },
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

fn stopped() -> StoreError {
    StoreError::Unavailable("the store's write queue has stopped; restart Agentry".to_owned())
}

/// Sends batches until the queue is closed and everything is answered.
async fn serve<K: BatchKind>(db: Arc<Db>, mut arrivals: mpsc::Receiver<Waiting<K>>) {
    let mut in_flight = FuturesUnordered::new();
    // Items whose key was in the batch already; they come first in the next one.
    let mut held_back: Vec<Waiting<K>> = Vec::new();
    loop {
        if in_flight.len() >= MAX_IN_FLIGHT || (!held_back.is_empty() && !in_flight.is_empty()) {
            in_flight.next().await;
            continue;
        }
        if !in_flight.is_empty() && timeout(OVERTAKE_AFTER, in_flight.next()).await.is_ok() {
            continue;
        }
        if held_back.is_empty() {
            tokio::select! {
                biased;
                Some(()) = in_flight.next(), if !in_flight.is_empty() => continue,
                first = arrivals.recv() => match first {
                    Some(first) => held_back.push(first),
                    None => break,
                },
            }
        }
        in_flight.push(flush(&db, gather(&mut held_back, &mut arrivals)));
    }
    while in_flight.next().await.is_some() {}
}

/// Takes waiting items, up to a batch; conflicting ones stay in `held_back`.
fn gather<K: BatchKind>(held_back: &mut Vec<Waiting<K>>, arrivals: &mut mpsc::Receiver<Waiting<K>>) -> Vec<Waiting<K>> {
    let (mut batch, mut keys, mut rows) = (Vec::new(), std::collections::HashSet::new(), 0);
    let mut waiting = std::mem::take(held_back).into_iter();
    while rows < MAX_BATCH_ROWS
        && let Some(next) = waiting.next().or_else(|| arrivals.try_recv().ok())
    {
        if K::key(&next.item).is_none_or(|key| keys.insert(key)) {
            rows += K::rows(&next.item);
            batch.push(next);
        } else {
            held_back.push(next);
        }
    }
    held_back.extend(waiting);
    batch
}

/// Writes a batch and answers it. When the batch fails because of its content, each item is written alone, so that it
/// fails alone.
async fn flush<K: BatchKind>(db: &Db, batch: Vec<Waiting<K>>) {
    let (items, replies): (Vec<_>, Vec<_>) = batch.into_iter().map(|one| (one.item, one.reply)).unzip();
    let mut last = Tries::default();
    let once = |tries| {
        last = tries;
        K::run(db, &items, tries)
    };
    let answers = match db.retrying(once).await {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(StoreError::Broken(_)) if items.len() > 1 => one_by_one::<K>(db, &items, last).await,
        Err(error) => items.iter().map(|_| Err(error.clone())).collect::<Vec<_>>(),
    };
    for (reply, answer) in replies.into_iter().zip(answers) {
        // A caller that has gone does not change the outcome.
        let _ = reply.send(answer);
    }
}

/// Writes each item alone; `before` says what is known of the tries of the whole batch.
async fn one_by_one<K: BatchKind>(db: &Db, items: &[K::Item], before: Tries) -> Vec<Result<K::Answer, StoreError>> {
    let mut answers = Vec::with_capacity(items.len());
    for item in items {
        let alone = db.retrying(|tries| K::run(db, std::slice::from_ref(item), tries.or(before))).await;
        answers.push(alone.and_then(|mut answers| answers.pop().ok_or_else(stopped)));
    }
    answers
}
