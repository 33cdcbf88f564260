//! Token buckets in Redis, for all processes of a deployment together.
//!
//! One script takes everything that a call needs or nothing, by the clock of Redis. Calls in flight are a sorted set
//! ordered by the expiry of their lease, so that calls of a dead process do not count for ever. While Redis is
//! unavailable each process counts by itself: the provider's own 429 corrects a limit that is too loose, while calls
//! that wait for Redis would be an outage.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, Script};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Buckets, LimitDecision, LimitRequest, MemoryBuckets};

const TIMEOUT: Duration = Duration::from_millis(100);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_secs(2);
/// Queue of ends that Redis has not been told. Ends beyond it are dropped, and their leases expire.
const MAX_ENDS: usize = 8_192;

/// Takes a call's share. Levels are stored as of the last change and refilled when they are read.
const TAKE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local requests, tokens, concurrent, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local kept = redis.call('HMGET', KEYS[1], 'requests', 'tokens', 'at')
local function level(value, most)
  if not value or not kept[3] then return most end
  return math.min(most, tonumber(value) + math.max(0, now - tonumber(kept[3])) * most / 60000)
end
local r, t, wait = level(kept[1], requests), level(kept[2], tokens), 0
wanted = math.min(wanted, tokens)
if requests > 0 and r < 1 then wait = math.max(wait, math.ceil((1 - r) * 60000 / requests)) end
if tokens > 0 and t < wanted then wait = math.max(wait, math.ceil((wanted - t) * 60000 / tokens)) end
if wait > 0 then return wait end
if concurrent > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  if redis.call('ZCARD', KEYS[2]) >= concurrent then return -1 end
  redis.call('ZADD', KEYS[2], now + ARGV[6], ARGV[5])
  redis.call('PEXPIRE', KEYS[2], ARGV[6])
end
redis.call('HSET', KEYS[1], 'requests', string.format('%.3f', r - 1), 'tokens', string.format('%.3f', t - wanted), 'at', now)
redis.call('PEXPIRE', KEYS[1], 120000)
return 0
";

/// Reports the end of a call: corrects the token level and removes the call from those in flight.
const RELEASE: &str = r"
redis.call('ZREM', KEYS[2], ARGV[1])
if tonumber(ARGV[2]) ~= 0 and redis.call('HEXISTS', KEYS[1], 'tokens') == 1 then
  redis.call('HINCRBYFLOAT', KEYS[1], 'tokens', ARGV[2])
end
return 0
";

/// The URL of Redis is invalid. The message does not repeat it, because it may contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address of Redis cannot be used ({0})")]
pub struct InvalidRedisUrl(String);

/// Token buckets in Redis.
pub struct RedisBuckets {
    redis: Arc<RedisConnection>,
    prefix: String,
    ends: mpsc::Sender<CallEnd>,
    /// Counts while Redis is unavailable.
    fallback: MemoryBuckets,
}

struct RedisConnection {
    client: Client,
    take: Script,
    release: Script,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    paused_until: Option<Instant>,
}

struct CallEnd {
    keys: [String; 2],
    call: String,
    correction: i64,
}

impl RedisBuckets {
    /// Creates buckets under keys that begin with `prefix`. Connects on first use. Must be called within a runtime.
    ///
    /// # Errors
    /// `url` is not a Redis URL.
    pub fn new(url: &str, prefix: &str) -> Result<Self, InvalidRedisUrl> {
        let client = Client::open(url).map_err(|error| InvalidRedisUrl(error.category().to_owned()))?;
        let (take, release) = (Script::new(TAKE), Script::new(RELEASE));
        let redis = Arc::new(RedisConnection { client, take, release, state: Mutex::default() });
        let (ends, receiver) = mpsc::channel(MAX_ENDS);
        tokio::spawn(report_ends(Arc::clone(&redis), receiver));
        Ok(Self { redis, prefix: prefix.to_owned(), ends, fallback: MemoryBuckets::default() })
    }

    /// Returns both keys of a model; the braces keep them on one node of a Redis cluster.
    fn keys(&self, key: &str) -> [String; 2] {
        let Self { prefix, .. } = self;
        [format!("{prefix}:llm:{{{key}}}:level"), format!("{prefix}:llm:{{{key}}}:calls")]
    }

    async fn run_take(&self, request: &LimitRequest<'_>) -> Option<i64> {
        let mut connection = self.redis.connection().await?;
        let [level, calls] = self.keys(request.key);
        let mut script = self.redis.take.prepare_invoke();
        script.key(level).key(calls);
        script.arg(request.limit.requests_per_minute.unwrap_or(0));
        script.arg(request.limit.tokens_per_minute.unwrap_or(0));
        script.arg(request.limit.concurrent.unwrap_or(0)).arg(request.tokens).arg(request.call.to_string());
        script.arg(u64::try_from(request.lease.as_millis()).unwrap_or(u64::MAX >> 16));
        match script.invoke_async(&mut connection).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.redis.failed(&error);
                None
            }
        }
    }
}

#[async_trait]
impl Buckets for RedisBuckets {
    async fn take(&self, request: &LimitRequest<'_>) -> LimitDecision {
        match self.run_take(request).await {
            Some(0) => LimitDecision::Granted,
            Some(wait @ 1..) => LimitDecision::RetryIn(Duration::from_millis(wait.unsigned_abs())),
            Some(_) => LimitDecision::Busy,
            None => self.fallback.take(request).await,
        }
    }

    fn release(&self, request: &LimitRequest<'_>, used: Option<u64>) {
        self.fallback.release(request, used);
        let signed = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
        let reserved = request.tokens.min(request.limit.tokens_per_minute.unwrap_or(0));
        let correction = used.map_or(0, |used| signed(reserved).saturating_sub(signed(used)));
        let correction = if request.limit.tokens_per_minute.is_some() { correction } else { 0 };
        let end = CallEnd { keys: self.keys(request.key), call: request.call.to_string(), correction };
        if self.ends.try_send(end).is_err() {
            tracing::debug!("the end of a call was not receiver to Redis; its lease ends by itself");
        }
    }
}

/// Reports the ends of calls to Redis until the queue is closed.
async fn report_ends(redis: Arc<RedisConnection>, mut ends: mpsc::Receiver<CallEnd>) {
    while let Some(CallEnd { keys: [level, calls], call, correction }) = ends.recv().await {
        let Some(mut connection) = redis.connection().await else { continue };
        let mut script = redis.release.prepare_invoke();
        script.key(level).key(calls).arg(call).arg(correction);
        if let Err(error) = script.invoke_async::<()>(&mut connection).await {
            redis.failed(&error);
        }
    }
}

impl RedisConnection {
    /// Returns the connection and opens it when needed; `None` during the pause after a failure.
    async fn connection(&self) -> Option<MultiplexedConnection> {
        {
            let state = self.lock();
            if let Some(connection) = &state.connection {
                return Some(connection.clone());
            }
            if state.paused_until.is_some_and(|until| Instant::now() < until) {
                return None;
            }
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        match self.client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => {
                let mut state = self.lock();
                (state.connection, state.paused_until) = (Some(connection.clone()), None);
                Some(connection)
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    fn failed(&self, error: &RedisError) {
        let mut state = self.lock();
        state.connection = None;
        if state.paused_until.is_none_or(|until| until < Instant::now()) {
            // The error's text may contain the address, so only its category is logged.
            let kind = error.category();
            tracing::warn!(kind, "llm.limits: Redis is unavailable; each process counts on its own until it is back");
        }
        state.paused_until = Some(Instant::now() + PAUSE);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
