//! Caches for tests, and the tasks and turns behind them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentry_core::id::{TaskId, WorkerId};
use agentry_core::session::{SessionId, SessionRecord};
use agentry_core::task::TaskStatus;
use agentry_store::cache::{CacheStats, CachedStore, RedisOptions};
use agentry_store::contract::build::{self, AgeHeartbeats, accept, agent, claim, finish, message, take_session, task};
use agentry_store::sqlite::{SqliteOptions, SqliteStore};
use agentry_store::{ClaimedTask, Lease, StateStore};

use super::server::{Prefix, shared_url};
pub(super) use crate::now;

/// Timeout of every wait: so long that only a defect reaches it.
pub const LONG: Duration = Duration::from_secs(20);

impl AgeHeartbeats for Prefix {}

/// Opens a connected cache on the shared Redis over a store in memory, for `contract_tests!`.
pub fn cached() -> (Prefix, Arc<dyn StateStore>) {
    let prefix = Prefix::new();
    let cache = Arc::new(CachedStore::connect(memory(), options(&shared_url(), &prefix)));
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(connected(&cache)));
    (prefix, cache)
}

/// Returns a store in memory.
pub fn memory() -> Arc<dyn StateStore> {
    Arc::new(SqliteStore::in_memory(SqliteOptions::default()).unwrap())
}

/// Returns options with a timeout that a busy machine does not reach.
pub fn options(url: &str, prefix: &Prefix) -> RedisOptions {
    let mut options = RedisOptions::new(url).unwrap();
    options.prefix = prefix.name().to_owned();
    options.timeout = Duration::from_secs(1);
    options
}

/// Waits until a cache uses Redis.
pub async fn connected(cache: &CachedStore) {
    until(cache, "Redis is used", |stats| stats.connected).await;
}

/// Waits until the counters meet a condition.
pub async fn until(cache: &CachedStore, what: &str, is_so: impl Fn(&CacheStats) -> bool) {
    let began = Instant::now();
    while !is_so(&cache.stats()) {
        assert!(began.elapsed() < LONG, "waited {LONG:?} until {what}: {:?}", cache.stats());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Creates an ended task.
pub async fn ended(store: &Arc<dyn StateStore>) -> TaskId {
    let lease = open(store).await;
    store.advance(finish(lease, now()).into()).await.unwrap();
    lease.task
}

/// Creates a running task.
pub async fn open(store: &Arc<dyn StateStore>) -> Lease {
    let id = accept(store, task(now())).await;
    claim(store, WorkerId::generate(), id, now()).await.unwrap().lease
}

/// Returns the status of an existing task.
pub async fn status(store: &Arc<dyn StateStore>, id: TaskId) -> TaskStatus {
    store.task(id).await.unwrap().unwrap().status
}

/// Returns the id of a test session.
pub fn thread(name: &str) -> SessionId {
    SessionId::new(&agent(), name)
}

/// Accepts a message and claims it with its session, as an unregistered worker, so that another one may claim next.
pub async fn begin_turn(store: &Arc<dyn StateStore>, session: &SessionId) -> (ClaimedTask, SessionRecord) {
    accept(store, message(session, now())).await;
    take_session(store, WorkerId::generate(), session, now()).await
}

/// Ends a turn with these messages.
pub async fn end_turn(store: &Arc<dyn StateStore>, claimed: &ClaimedTask, record: &SessionRecord, texts: &[&str]) {
    store.advance(build::turn(claimed.lease, record, now(), texts).into()).await.unwrap();
}

/// Runs a turn with these messages.
pub async fn turn(store: &Arc<dyn StateStore>, session: &SessionId, texts: &[&str]) {
    let (claimed, record) = begin_turn(store, session).await;
    end_turn(store, &claimed, &record, texts).await;
}

/// Returns all messages of a session, read as a worker reads its window: the record first.
pub async fn window(store: &Arc<dyn StateStore>, session: &SessionId) -> Vec<String> {
    let Some(view) = store.session(session).await.unwrap() else { return Vec::new() };
    let count = usize::try_from(view.record.messages).unwrap();
    let messages = store.messages(session, 0, count).await.unwrap();
    messages.into_iter().map(|kept| kept.message.content().to_owned()).collect()
}
