//! Redis in front of a store: it answers reads whose answer is proved current, and nothing else.
//!
//! [`CachedStore`] implements the whole port over any backend. Writes go to the store, and so do reads of mutable data,
//! except as described below. Redis is never authoritative: losing it, flushing it, or finding old entries in it only
//! changes the latency of reads.
//!
//! # Why no stale entry is served
//!
//! The rule: a read that starts after a write was acknowledged, by any process, sees that write. Invalidation cannot
//! keep it: the writer may die between commit and invalidation, may fail to reach Redis while readers do, may be
//! overtaken by a reader that fills in the old value, and Redis may come back with old data. Marking entries before
//! each commit keeps it only if a writer that cannot reach Redis waits until entries have expired, on every write. So
//! here **no entry is ever invalidated for correctness**: every entry is a fact that stays true, under a key that names
//! the fact, and a reader uses it only when it knows that this fact is its answer. Fills may then race, repeat, be late
//! or be lost.
//!
//! 1. *Ended tasks.* Nothing follows a terminal status ([`may_become`](agentry_core::task::TaskStatus::may_become)): no
//!    lease is valid any more, a cancellation answers "already ended", open questions were withdrawn with the end. So
//!    the record and the journal that a store returns after the end are final. A record is filled only when the store
//!    returned it as ended; a journal page only when this process knew before the read that the task had ended. An
//!    entry that exists is therefore current. Other tasks are read from the store: they are written more often than
//!    read, and nothing a reader has would prove a copy current.
//! 2. *Agent versions.* A version is named by the hash of its content and never replaced. Versions are also kept in
//!    this process.
//! 3. *Messages of a session.* Messages are only appended, numbered without gaps; message *n* of one life of a session
//!    never changes. Entries are filed under the session's name **and creation time** (`created_at`). A reader needs a
//!    *proof*: a session record that the store gave to this process (`session`, `claim_session`) in a call that started
//!    at most [`PROOF_LIFE`] ago. Only ranges that end at or before the proof's last message are served: they are
//!    complete whatever was appended since. Appending cannot make them stale; only deleting the session can. Therefore
//!    [`SessionStore::delete_session`](crate::SessionStore::delete_session) acknowledges [`DELETE_WAIT`] after the
//!    commit: by then every proof from before the commit has expired, in every process, whether or not it can reach
//!    Redis. The age of a proof is measured by the monotonic and the wall clock, so that a suspended machine does not
//!    trust an old one. Messages enter in two ways: the owner whose turn was acknowledged knows their numbers, because
//!    task and fence were valid from its claim to its write (and only if that claim wrote to the session once); or a
//!    reader's range ended exactly at its proof's last message, and that message was written at the proof's last update
//!    of the session, so that the range belongs to the proved life.
//!
//! Everything served is checked against the request: the id of the task, the name and version of the agent, the numbers
//! of the messages. An entry is written only if it decodes to an equal value.
//!
//! # Assumptions
//!
//! - All processes of a deployment delete sessions through a [`CachedStore`] as long as one of them reads through one.
//! - A store reads a task's record from one snapshot, so that a record with the end has everything that came with it.
//! - One prefix belongs to one database. After the database was restored to an earlier state, change the prefix or
//!   flush Redis: ended tasks may then run again.
//! - A session that is deleted and created again does not get the same creation time, in microseconds. Deletion also
//!   removes its entries as far as Redis is reachable; the rest expires.
//! - Pruning by age is not a change: a pruned task may be returned until its TTL is over.
//! - The clocks of two machines run equally fast within a factor of two over half a second (they need not show the same
//!   time).
//!
//! # When Redis fails
//!
//! A failed or slow answer becomes a read of the store; the caller never sees it. After a few in a row, or one that
//! shows a broken connection, Redis is given up until it answers again (the `redis_link` module). Starting never waits
//! for it.

mod bounded_map;
mod fills;
mod fleet;
mod keys;
mod options;
mod proofs;
mod redis_link;
mod sessions;
mod stats;
mod tasks;

use std::sync::Arc;

use redis::Pipeline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::StateStore;
use crate::layer::{
    AccessLayer, BudgetLayer, ClarificationLayer, DeadLetterLayer, EventLayer, Layer, OutboxLayer, RecentTaskLayer,
    RetentionLayer, ScheduleLayer, UsageLayer,
};
use fills::{Fill, Fills, MAX_ENTRY_BYTES};
use keys::Keys;
pub use options::{DEFAULT_PREFIX, DEFAULT_TIMEOUT, DEFAULT_TTL, InvalidRedisUrl, RedisOptions};
pub use proofs::{DELETE_WAIT, PROOF_LIFE};
use redis_link::{RedisLink, RedisReply};
use stats::{Answer, Counters, ReadKind, add};
pub use stats::{CacheStats, LATENCY_BOUNDS_US, Latency, ReadStats};

/// A store behind a cache.
pub struct CachedStore {
    inner: Arc<dyn StateStore>,
    link: Arc<RedisLink>,
    fills: Fills,
    keys: Keys,
    counters: Arc<Counters>,
    seen: tasks::TaskStates,
    versions: fleet::Versions,
    proofs: proofs::Proofs,
    turns: proofs::ClaimedSessions,
}

impl Layer for CachedStore {
    fn inner(&self) -> &dyn StateStore {
        &*self.inner
    }
}

// Not cached: these reads are of mutable data, and nothing would prove a copy current. (A server caches keys by itself,
// for seconds.)
impl AccessLayer for CachedStore {}
impl BudgetLayer for CachedStore {}
impl ClarificationLayer for CachedStore {}
impl DeadLetterLayer for CachedStore {}
impl EventLayer for CachedStore {}
impl OutboxLayer for CachedStore {}
impl RecentTaskLayer for CachedStore {}
impl RetentionLayer for CachedStore {}
impl ScheduleLayer for CachedStore {}
impl UsageLayer for CachedStore {}

impl CachedStore {
    /// Puts a cache in front of a store. Returns at once: Redis is connected in the background, and until then, or if
    /// it never answers, every call goes to the store. Must be called within a Tokio runtime.
    #[must_use]
    pub fn connect(inner: Arc<dyn StateStore>, options: RedisOptions) -> Self {
        let counters = Arc::new(Counters::default());
        let link = Arc::new(RedisLink::open(&options, Arc::clone(&counters)));
        Self {
            inner,
            fills: Fills::start(Arc::clone(&link), options.ttl, Arc::clone(&counters)),
            link,
            keys: Keys::new(&options.prefix),
            counters,
            seen: tasks::seen(),
            versions: fleet::versions(),
            proofs: proofs::Proofs::new(),
            turns: proofs::ClaimedSessions::new(),
        }
    }

    /// Returns the counters of the cache.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.counters.stats()
    }

    /// Returns the entry under a key when Redis has one that `fits`. Counts the read, unless it is a hit that the
    /// caller refuses.
    async fn lookup<T: DeserializeOwned>(&self, kind: ReadKind, key: &str, fits: impl FnOnce(&T) -> bool) -> Option<T> {
        let mut get = Pipeline::with_capacity(1);
        get.cmd("GET").arg(key);
        let (found, answer) = match self.link.query_timed::<(Option<Vec<u8>>,)>(&get).await {
            RedisReply::Answer((Some(bytes),)) => match self.decode(&bytes).filter(fits) {
                Some(value) => (Some(value), Answer::Hit),
                None => (None, Answer::Miss),
            },
            RedisReply::Answer((None,)) | RedisReply::Failed => (None, Answer::Miss),
            RedisReply::Unavailable => (None, Answer::Bypass),
        };
        self.counters.read(kind, answer);
        found
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Option<T> {
        let decoded = serde_json::from_slice(bytes);
        if decoded.is_err() {
            // Written by another version of Agentry, or damaged: the store answers, and the entry is overwritten.
            add(&self.counters.errors, 1);
        }
        decoded.ok()
    }

    /// Writes an entry in the background.
    fn fill<T: Serialize + DeserializeOwned + PartialEq>(&self, key: String, value: &T) {
        if !self.link.is_up() {
            return;
        }
        match encode(value) {
            Some(value) => self.fills.put(Fill::Value { key, value }),
            None => add(&self.counters.refused_fills, 1),
        }
    }
}

/// Encodes a value, if it is not too large and decodes to an equal one, which is not guaranteed: the shortest text of a
/// floating-point number may decode to its neighbour.
fn encode<T: Serialize + DeserializeOwned + PartialEq>(value: &T) -> Option<Vec<u8>> {
    let bytes = serde_json::to_vec(value).ok().filter(|bytes| bytes.len() <= MAX_ENTRY_BYTES)?;
    let back: T = serde_json::from_slice(&bytes).ok()?;
    (back == *value).then_some(bytes)
}
