//! Keys and sessions as this process knows them: asked of the store at most every [`FRESH`] each, so that a verified request
//! costs no round trip, and a revoked key or a session that was signed out elsewhere is refused within that time.

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

/// How long what the store said of a key or a session is believed.
pub(crate) const FRESH: Duration = Duration::from_secs(2);
/// Keys that are remembered, good or not, and sessions; with more, all are forgotten and asked for again.
const MAX_KNOWN: usize = 4_096;
/// The use of a key is written down at most this often.
const NOTE_EVERY: Duration = Duration::from_secs(60);
/// Tries to sign in, or with keys that are none, that a process answers in a second; more are refused.
const MAX_FAILED: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);

/// How a key is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Name {
    Hash(KeyHash),
    Id(KeyId),
}

/// What the store said of some thing, and when.
struct Known<T> {
    found: Option<Arc<T>>,
    asked: Instant,
}

/// What the store said lately.
struct Cache<N, T>(Mutex<Entries<N, T>>);

struct Entries<N, T> {
    by_name: HashMap<N, Known<T>>,
    /// How often all was forgotten: what was asked before that is not remembered.
    cleared: u64,
}

impl<N: Eq + Hash, T> Cache<N, T> {
    fn new() -> Self {
        Self(Mutex::new(Entries { by_name: HashMap::new(), cleared: 0 }))
    }

    /// What the store says of `name`, at most [`FRESH`] ago.
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
        // As of before the question: what the store says may be that old.
        let asked = Instant::now();
        let found = ask.await?.map(Arc::new);
        let mut all = locked(&self.0);
        if all.cleared == cleared {
            if all.by_name.len() >= MAX_KNOWN {
                all.by_name.clear();
            }
            all.by_name.insert(name, Known { found: found.clone(), asked });
        }
        Ok(found)
    }

    fn clear(&self) {
        let mut all = locked(&self.0);
        all.by_name.clear();
        all.cleared += 1;
    }
}

/// What is known of the use of one key.
struct Use {
    limiter: Option<Arc<DefaultDirectRateLimiter>>,
    noted: Option<Instant>,
}

/// The keys that this process knows.
pub(crate) struct Keys {
    known: Cache<Name, ApiKey>,
    sessions: Cache<KeyHash, BrowserSession>,
    uses: Mutex<HashMap<KeyId, Use>>,
    needed: Mutex<Option<(bool, Instant)>>,
    failed: DefaultDirectRateLimiter,
    rate: Option<NonZeroU32>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keys {
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

    /// Whether any key exists, so that callers need one.
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
            // What was true stays true while the store cannot say: nobody gets in by cutting it off.
            (Err(error), Some((needed, _))) if error.is_transient() => Ok(needed),
            (Err(error), _) => Err(error),
        }
    }

    /// A key changed: what this process knows is asked for again.
    pub(crate) fn forget(&self) {
        self.known.clear();
        self.sessions.clear();
        *locked(&self.needed) = None;
    }

    /// The good key with this hash.
    pub(crate) async fn by_hash(
        &self,
        store: &dyn StateStore,
        hash: KeyHash,
        now: Timestamp,
    ) -> Result<Option<Arc<ApiKey>>, StoreError> {
        let found = self.known.get(Name::Hash(hash), store.key_by_hash(hash)).await?;
        Ok(found.filter(|key| key.is_good(now)))
    }

    /// The good key with this id.
    pub(crate) async fn by_id(
        &self,
        store: &dyn StateStore,
        id: KeyId,
        now: Timestamp,
    ) -> Result<Option<Arc<ApiKey>>, StoreError> {
        let found = self.known.get(Name::Id(id), store.key(id)).await?;
        Ok(found.filter(|key| key.is_good(now)))
    }

    /// The session with this hash, unless it has ended.
    pub(crate) async fn session(
        &self,
        store: &dyn StateStore,
        hash: KeyHash,
        now: Timestamp,
    ) -> Result<Option<Arc<BrowserSession>>, StoreError> {
        let found = self.sessions.get(hash, store.browser_session(hash)).await?;
        Ok(found.filter(|session| session.ends_at > now))
    }

    /// Counts a request of a key in; says when to try again when its rate is used up.
    pub(crate) fn admit(&self, key: KeyId) -> Result<(), Duration> {
        let Some(rate) = self.rate else { return Ok(()) };
        let limiter = {
            let mut uses = locked(&self.uses);
            let fresh = || Arc::new(RateLimiter::direct(Quota::per_second(rate)));
            Arc::clone(entry(&mut uses, key).limiter.get_or_insert_with(fresh))
        };
        wait_of(&limiter)
    }

    /// Counts a failed try in.
    pub(crate) fn admit_failure(&self) -> Result<(), Duration> {
        wait_of(&self.failed)
    }

    /// Whether the use of a key should be written down now; true at most once in [`NOTE_EVERY`].
    pub(crate) fn should_note(&self, key: KeyId) -> bool {
        let mut uses = locked(&self.uses);
        let used = entry(&mut uses, key);
        let due = used.noted.is_none_or(|noted| noted.elapsed() >= NOTE_EVERY);
        if due {
            used.noted = Some(Instant::now());
        }
        due
    }
}

/// What is known of a key's use. Only good keys get here, of which the store keeps a bounded number.
fn entry(uses: &mut HashMap<KeyId, Use>, key: KeyId) -> &mut Use {
    uses.entry(key).or_insert(Use { limiter: None, noted: None })
}

fn wait_of(limiter: &DefaultDirectRateLimiter) -> Result<(), Duration> {
    limiter.check().map_err(|until| until.wait_time_from(DefaultClock::default().now()))
}
