//! Cache of API keys and sessions. Each is read from the store at most every [`FRESH`], so that most requests cost no
//! round trip, and a key that was revoked or a session that ended elsewhere is refused within that time.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentry_core::access::{ApiKey, BrowserSession, KeyHash};
use agentry_core::id::KeyId;
use agentry_core::time::Timestamp;
use agentry_store::{StateStore, StoreError};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;

/// The lifetime of a cache entry.
pub(crate) const FRESH: Duration = Duration::from_secs(2);
/// The most cached keys, valid or not, and sessions; the cache is cleared when it is full.
const MAX_ENTRIES: usize = 4_096;
/// The shortest interval between two records of the use of a key.
const RECORD_INTERVAL: Duration = Duration::from_secs(60);
/// Failed authentications per second and process; more are refused with 429.
const MAX_FAILED: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);

/// A key by hash or id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum KeyLookup {
    Hash(KeyHash),
    Id(KeyId),
}

/// A result of the store, and the time of the query.
struct CacheEntry<T> {
    found: Option<Arc<T>>,
    asked: Instant,
}

/// Recent results of the store.
struct Cache<N, T>(Mutex<CacheEntries<N, T>>);

struct CacheEntries<N, T> {
    by_name: HashMap<N, CacheEntry<T>>,
    /// The number of clears: a result that was requested before the last one is not cached.
    cleared: u64,
}

impl<N: Eq + Hash, T> Cache<N, T> {
    fn new() -> Self {
        Self(Mutex::new(CacheEntries { by_name: HashMap::new(), cleared: 0 }))
    }

    /// Returns the result for `name`, at most [`FRESH`] old.
    async fn get(
        &self,
        name: N,
        ask: impl Future<Output = Result<Option<T>, StoreError>>,
    ) -> Result<Option<Arc<T>>, StoreError> {
        let cleared = {
            let all = locked(&self.0);
            if let Some(known) = all.by_name.get(&name).filter(|known| known.asked.elapsed() < FRESH) {
                return Ok(known.found.clone());
            }
            all.cleared
        };
        // Taken before the query: the result may be that old.
        let asked = Instant::now();
        let found = ask.await?.map(Arc::new);
        let mut all = locked(&self.0);
        if all.cleared == cleared {
            if all.by_name.len() >= MAX_ENTRIES {
                all.by_name.clear();
            }
            all.by_name.insert(name, CacheEntry { found: found.clone(), asked });
        }
        Ok(found)
    }

    fn clear(&self) {
        let mut all = locked(&self.0);
        all.by_name.clear();
        all.cleared += 1;
    }
}

/// The usage of one key.
struct KeyUse {
    limiter: Option<Arc<DefaultDirectRateLimiter>>,
    noted: Option<Instant>,
}

/// The cached keys and sessions, and the rate limits of keys.
pub(crate) struct KeyCache {
    known: Cache<KeyLookup, ApiKey>,
    sessions: Cache<KeyHash, BrowserSession>,
    uses: Mutex<HashMap<KeyId, KeyUse>>,
    needed: Mutex<Option<(bool, Instant)>>,
    failed: DefaultDirectRateLimiter,
    rate: Option<NonZeroU32>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl KeyCache {
    pub(crate) fn new(rate: Option<NonZeroU32>) -> Self {
        Self {
            known: Cache::new(),
            sessions: Cache::new(),
            uses: Mutex::default(),
            needed: Mutex::default(),
            failed: RateLimiter::direct(Quota::per_second(MAX_FAILED)),
            rate,
        }
    }

    /// Returns whether a key exists, so that callers need one.
    pub(crate) async fn needed(&self, store: &dyn StateStore, now: Timestamp) -> Result<bool, StoreError> {
        let last = *locked(&self.needed);
        if let Some((needed, _)) = last.filter(|(_, asked)| asked.elapsed() < FRESH) {
            return Ok(needed);
        }
        match (store.has_active_keys(now).await, last) {
            (Ok(needed), _) => {
                *locked(&self.needed) = Some((needed, Instant::now()));
                Ok(needed)
            }
            // The last result holds while the store is unavailable: cutting it off grants no access.
            (Err(error), Some((needed, _))) if error.is_transient() => Ok(needed),
            (Err(error), _) => Err(error),
        }
    }

    /// Clears the cache after a key changed.
    pub(crate) fn invalidate(&self) {
        self.known.clear();
        self.sessions.clear();
        *locked(&self.needed) = None;
    }

    /// Returns the valid key with this hash.
    pub(crate) async fn by_hash(
        &self,
        store: &dyn StateStore,
        hash: KeyHash,
        now: Timestamp,
    ) -> Result<Option<Arc<ApiKey>>, StoreError> {
        let found = self.known.get(KeyLookup::Hash(hash), store.key_by_hash(hash)).await?;
        Ok(found.filter(|key| key.is_good(now)))
    }

    /// Returns the valid key with this id.
    pub(crate) async fn by_id(
        &self,
        store: &dyn StateStore,
        id: KeyId,
        now: Timestamp,
    ) -> Result<Option<Arc<ApiKey>>, StoreError> {
        let found = self.known.get(KeyLookup::Id(id), store.key(id)).await?;
        Ok(found.filter(|key| key.is_good(now)))
    }

    /// Returns the session with this hash, unless it has ended.
    pub(crate) async fn session(
        &self,
        store: &dyn StateStore,
        hash: KeyHash,
        now: Timestamp,
    ) -> Result<Option<Arc<BrowserSession>>, StoreError> {
        let found = self.sessions.get(hash, store.browser_session(hash)).await?;
        Ok(found.filter(|session| session.ends_at > now))
    }

    /// Counts a request of a key.
    ///
    /// # Errors
    /// The time until the next request is allowed, when the rate is used up.
    pub(crate) fn admit(&self, key: KeyId) -> Result<(), Duration> {
        let Some(rate) = self.rate else { return Ok(()) };
        let limiter = {
            let mut uses = locked(&self.uses);
            let fresh = || Arc::new(RateLimiter::direct(Quota::per_second(rate)));
            Arc::clone(entry(&mut uses, key).limiter.get_or_insert_with(fresh))
        };
        wait_of(&limiter)
    }

    /// Counts a failed authentication, like [`Self::admit`].
    pub(crate) fn admit_failure(&self) -> Result<(), Duration> {
        wait_of(&self.failed)
    }

    /// Returns whether to record the use of a key now; true at most once per [`RECORD_INTERVAL`].
    pub(crate) fn should_record_use(&self, key: KeyId) -> bool {
        let mut uses = locked(&self.uses);
        let used = entry(&mut uses, key);
        let due = used.noted.is_none_or(|noted| noted.elapsed() >= RECORD_INTERVAL);
        if due {
            used.noted = Some(Instant::now());
        }
        due
    }
}

/// Returns the usage of a key. Only valid keys get here, of which the store has a bounded number.
fn entry(uses: &mut HashMap<KeyId, KeyUse>, key: KeyId) -> &mut KeyUse {
    uses.entry(key).or_insert(KeyUse { limiter: None, noted: None })
}

fn wait_of(limiter: &DefaultDirectRateLimiter) -> Result<(), Duration> {
    limiter.check().map_err(|until| until.wait_time_from(DefaultClock::default().now()))
}
