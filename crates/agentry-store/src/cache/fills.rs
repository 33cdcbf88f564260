//! Writing entries: in the background, in batches, never awaited by a read or a write of the store.
//!
//! Entries are facts that cannot change, so it does not matter when or in which order they are written, nor whether.

use std::sync::Arc;
use std::time::Duration;

use redis::Pipeline;
use tokio::sync::mpsc;

use super::link::{Asked, Link};
use super::stats::{Counters, add};

/// Fills that wait at most; more are refused. With [`MAX_ENTRY_BYTES`] each they take 32 MiB.
const MAX_WAITING: usize = 256;
/// The largest entry. Beyond it one answer would hold up the others on the connection for longer than the store takes.
pub(super) const MAX_ENTRY_BYTES: usize = 128 * 1024;
/// A batch is sent once it holds so many bytes: a quarter of a millisecond on a loopback, well within the timeout.
const BATCH_BYTES: usize = 256 * 1024;
/// Commands in a batch at most.
const BATCH_FILLS: usize = 64;

/// Something to write.
pub(super) enum Fill {
    /// A value under a key.
    Value { key: String, value: Vec<u8> },
    /// Fields of a hash.
    Fields { key: String, fields: Vec<(u64, Vec<u8>)> },
    /// Keys to remove.
    Remove { keys: Vec<String> },
}

/// The queue before the task that writes. The task ends when this is dropped and what waits is written.
pub(super) struct Fills {
    queue: mpsc::Sender<Fill>,
    counters: Arc<Counters>,
}

impl Fills {
    /// Starts the task that writes. Must be called within a runtime.
    pub(super) fn start(link: Arc<Link>, ttl: Duration, counters: Arc<Counters>) -> Self {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        tokio::spawn(run(waiting, link, ttl, Arc::clone(&counters)));
        Self { queue, counters }
    }

    /// Hands over something to write, or drops it when it is too large or too much waits.
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

async fn run(mut waiting: mpsc::Receiver<Fill>, link: Arc<Link>, ttl: Duration, counters: Arc<Counters>) {
    // Redis refuses a life of nothing.
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
        match link.ask::<()>(&batch.pipeline).await {
            Asked::Answer(()) => {
                add(&counters.fills, batch.fills);
                add(&counters.invalidations, batch.removed);
            }
            Asked::Failed | Asked::Away => add(&counters.refused_fills, batch.fills + batch.removed),
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
