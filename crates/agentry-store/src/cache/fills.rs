//! Writes of cache entries: in the background, in batches, never awaited by a read or a write of the store.
//!
//! Entries are facts that cannot change, so the time and order of their writes do not matter, nor does a lost one.

use std::sync::Arc;
use std::time::Duration;

use redis::Pipeline;
use tokio::sync::mpsc;

use super::redis_link::{RedisLink, RedisReply};
use super::stats::{Counters, add};

/// Largest number of waiting fills; further ones are dropped. With [`MAX_ENTRY_BYTES`] each they take 32 MiB.
const MAX_WAITING: usize = 256;
/// Largest entry, in bytes. A larger one would hold up other answers on the connection for longer than the store takes.
pub(super) const MAX_ENTRY_BYTES: usize = 128 * 1024;
/// Size at which a batch is sent, in bytes: a quarter of a millisecond on a loopback, well within the timeout.
const BATCH_BYTES: usize = 256 * 1024;
/// Largest number of commands per batch.
const BATCH_FILLS: usize = 64;

/// A write to the cache.
pub(super) enum Fill {
    /// A value under a key.
    Value { key: String, value: Vec<u8> },
    /// Fields of a hash.
    Fields { key: String, fields: Vec<(u64, Vec<u8>)> },
    /// Keys to remove.
    Remove { keys: Vec<String> },
}

/// The queue of the writing task, which ends when this is dropped and the queue is empty.
pub(super) struct Fills {
    queue: mpsc::Sender<Fill>,
    counters: Arc<Counters>,
}

impl Fills {
    /// Starts the writing task. Must be called within a runtime.
    pub(super) fn start(link: Arc<RedisLink>, ttl: Duration, counters: Arc<Counters>) -> Self {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        tokio::spawn(run(waiting, link, ttl, Arc::clone(&counters)));
        Self { queue, counters }
    }

    /// Enqueues a fill, or drops it when it is too large or the queue is full.
    pub(super) fn put(&self, fill: Fill) {
        if fill.bytes() > MAX_ENTRY_BYTES || self.queue.try_send(fill).is_err() {
            add(&self.counters.refused_fills, 1);
        }
    }
}

impl Fill {
    fn bytes(&self) -> usize {
        match self {
            Self::Value { value, .. } => value.len(),
            Self::Fields { fields, .. } => fields.iter().map(|(_, value)| value.len()).sum(),
            Self::Remove { .. } => 0,
        }
    }
}

async fn run(mut waiting: mpsc::Receiver<Fill>, link: Arc<RedisLink>, ttl: Duration, counters: Arc<Counters>) {
    // Redis refuses a lifetime of zero.
    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, i64::MAX as u64 / 4);
    while let Some(first) = waiting.recv().await {
        let mut batch = Batch::default();
        batch.add(first, ttl_ms);
        while batch.bytes < BATCH_BYTES
            && batch.commands < BATCH_FILLS
            && let Ok(more) = waiting.try_recv()
        {
            batch.add(more, ttl_ms);
        }
        match link.query::<()>(&batch.pipeline).await {
            RedisReply::Answer(()) => {
                add(&counters.fills, batch.fills);
                add(&counters.invalidations, batch.removed);
            }
            RedisReply::Failed | RedisReply::Unavailable => add(&counters.refused_fills, batch.fills + batch.removed),
        }
    }
}

#[derive(Default)]
struct Batch {
    pipeline: Pipeline,
    commands: usize,
    bytes: usize,
    fills: u64,
    removed: u64,
}

impl Batch {
    fn add(&mut self, fill: Fill, ttl_ms: u64) {
        self.commands += 1;
        self.bytes += fill.bytes();
        match fill {
            Fill::Value { key, value } => {
                self.fills += 1;
                self.pipeline.cmd("SET").arg(key).arg(value).arg("PX").arg(ttl_ms).ignore();
            }
            Fill::Fields { key, fields } => {
                self.fills += fields.len() as u64;
                let set = self.pipeline.cmd("HSET").arg(&key);
                for (field, value) in fields {
                    set.arg(field).arg(value);
                }
                set.ignore();
                self.pipeline.cmd("PEXPIRE").arg(key).arg(ttl_ms).ignore();
            }
            Fill::Remove { keys } => {
                self.removed += keys.len() as u64;
                self.pipeline.cmd("UNLINK").arg(keys).ignore();
            }
        }
    }
}
