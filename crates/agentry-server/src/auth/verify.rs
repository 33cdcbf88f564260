//! Keys as this process knows them: asked of the store at most every [`FRESH`] each, so that a verified request costs no
//! round trip and a revoked key is refused within that time.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentry_core::access::{ApiKey, KeyHash};
use agentry_core::id::KeyId;
use agentry_core::time::Timestamp;
use agentry_store::{StateStore, StoreError};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;

/// How long what the store said of a key is believed.
pub(crate) const FRESH: Duration = Duration::from_secs(2);
/// Keys that are remembered, good or not; with more, all are forgotten and asked for again.
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

#[derive(Clone)]
struct Known {
    key: Option<Arc<ApiKey>>,
    asked: Instant,
}

/// What is known of the use of one key.
struct Use {
    limiter: Option<Arc<DefaultDirectRateLimiter>>,
    noted: Option<Instant>,
}

/// The keys that this process knows.
pub(crate) struct Keys {
    known: Mutex<HashMap<Name, Known>>,
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
            known: Mutex::default(),
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
        match (store.has_keys(now).await, last) {
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
        locked(&self.known).clear();
        *locked(&self.needed) = None;
    }

    /// The good key with this hash.
    pub(crate) async fn by_hash(
        &self,
        store: &dyn StateStore,
        hash: KeyHash,
        now: Timestamp,
    ) -> Result<Option<Arc<ApiKey>>, StoreError> {
        self.find(Name::Hash(hash), store.key_by_hash(hash), now).await
    }

    /// The good key with this id.
    pub(crate) async fn by_id(
        &self,
        store: &dyn StateStore,
        id: KeyId,
        now: Timestamp,
    ) -> Result<Option<Arc<ApiKey>>, StoreError> {
        self.find(Name::Id(id), store.key(id), now).await
    }

    async fn find(
        &self,
        name: Name,
        ask: impl Future<Output = Result<Option<ApiKey>, StoreError>>,
        now: Timestamp,
    ) -> Result<Option<Arc<ApiKey>>, StoreError> {
        let last = locked(&self.known).get(&name).cloned();
        let known = match last {
            Some(known) if known.asked.elapsed() < FRESH => known,
            _ => {
                let known = Known { key: ask.await?.map(Arc::new), asked: Instant::now() };
                let mut all = locked(&self.known);
                if all.len() >= MAX_KNOWN {
                    all.clear();
                }
                all.insert(name, known.clone());
                known
            }
        };
        Ok(known.key.filter(|key| key.is_good(now)))
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
