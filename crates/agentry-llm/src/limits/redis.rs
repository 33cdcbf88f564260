//! Buckets in Redis, for all processes of a deployment together.
//!
//! One script takes everything that a call needs or nothing, by the clock of Redis. Calls under way are a sorted set by
//! the time at which they have surely ended, so that the calls of a process that died do not count for ever. While Redis
//! is away each process counts by itself: a limit that is kept too loosely is corrected by the provider's own 429, and
//! calls that waited for Redis would be an outage made here.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, Script};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Buckets, MemoryBuckets, Taken, Wanted};

/// How long Redis may take to answer.
const TIMEOUT: Duration = Duration::from_millis(100);
/// How long making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long Redis is left alone after it failed.
const PAUSE: Duration = Duration::from_secs(2);
/// Ends of calls that wait to be told to Redis. What is beyond is forgotten, and ends with its lease.
const MAX_ENDS: usize = 8_192;

/// Takes a call's share. Levels are kept as of the moment of the last change and filled when they are read.
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

/// Tells the end of a call: what it used beyond or below its reservation, and that it is not under way any more.
const GIVE_BACK: &str = r"
redis.call('ZREM', KEYS[2], ARGV[1])
if tonumber(ARGV[2]) ~= 0 and redis.call('HEXISTS', KEYS[1], 'tokens') == 1 then
  redis.call('HINCRBYFLOAT', KEYS[1], 'tokens', ARGV[2])
end
return 0
";

/// A text that does not say where Redis is. It does not repeat the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address of Redis cannot be used ({0})")]
pub struct InvalidRedisUrl(String);

/// Buckets in Redis.
pub struct RedisBuckets {
    link: std::sync::Arc<Link>,
    prefix: String,
    ends: mpsc::Sender<End>,
    /// Counts while Redis does not.
    alone: MemoryBuckets,
}

struct Link {
    client: Client,
    take: Script,
    give_back: Script,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    away_until: Option<Instant>,
}

/// The end of a call.
struct End {
    keys: [String; 2],
    call: String,
    correction: i64,
}

impl RedisBuckets {
    /// Buckets at a URL, under keys that begin with `prefix`. Connects when it is first asked. Must be called within a
    /// runtime.
    ///
    /// # Errors
    /// When the text is not a URL of Redis.
    pub fn new(url: &str, prefix: &str) -> Result<Self, InvalidRedisUrl> {
        let client = Client::open(url).map_err(|error| InvalidRedisUrl(error.category().to_owned()))?;
        let (take, give_back) = (Script::new(TAKE), Script::new(GIVE_BACK));
        let link = std::sync::Arc::new(Link { client, take, give_back, state: Mutex::default() });
        let (ends, told) = mpsc::channel(MAX_ENDS);
        tokio::spawn(tell(std::sync::Arc::clone(&link), told));
        Ok(Self { link, prefix: prefix.to_owned(), ends, alone: MemoryBuckets::default() })
    }

    /// Both keys of a model; the braces keep them on one node of a cluster of Redis.
    fn keys(&self, key: &str) -> [String; 2] {
        let Self { prefix, .. } = self;
        [format!("{prefix}:llm:{{{key}}}:level"), format!("{prefix}:llm:{{{key}}}:calls")]
    }

    async fn asked(&self, wanted: &Wanted<'_>) -> Option<i64> {
        let mut connection = self.link.connection().await?;
        let [level, calls] = self.keys(wanted.key);
        let mut script = self.link.take.prepare_invoke();
        script.key(level).key(calls);
        script.arg(wanted.limit.requests_per_minute.unwrap_or(0));
        script.arg(wanted.limit.tokens_per_minute.unwrap_or(0));
        script.arg(wanted.limit.concurrent.unwrap_or(0)).arg(wanted.tokens).arg(wanted.call.to_string());
        script.arg(u64::try_from(wanted.lease.as_millis()).unwrap_or(u64::MAX >> 16));
        match script.invoke_async(&mut connection).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.link.failed(&error);
                None
            }
        }
    }
}

#[async_trait]
impl Buckets for RedisBuckets {
    async fn take(&self, wanted: &Wanted<'_>) -> Taken {
        match self.asked(wanted).await {
            Some(0) => Taken::Now,
            Some(wait @ 1..) => Taken::Later(Duration::from_millis(wait.unsigned_abs())),
            Some(_) => Taken::Busy,
            None => self.alone.take(wanted).await,
        }
    }

    fn give_back(&self, wanted: &Wanted<'_>, used: Option<u64>) {
        self.alone.give_back(wanted, used);
        let signed = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
        let reserved = wanted.tokens.min(wanted.limit.tokens_per_minute.unwrap_or(0));
        let correction = used.map_or(0, |used| signed(reserved).saturating_sub(signed(used)));
        let correction = if wanted.limit.tokens_per_minute.is_some() { correction } else { 0 };
        let end = End { keys: self.keys(wanted.key), call: wanted.call.to_string(), correction };
        if self.ends.try_send(end).is_err() {
            tracing::debug!("the end of a call was not told to Redis; its lease ends by itself");
        }
    }
}

/// Tells Redis the ends of calls until nobody is left to tell them.
async fn tell(link: std::sync::Arc<Link>, mut ends: mpsc::Receiver<End>) {
    while let Some(End { keys: [level, calls], call, correction }) = ends.recv().await {
        let Some(mut connection) = link.connection().await else { continue };
        let mut script = link.give_back.prepare_invoke();
        script.key(level).key(calls).arg(call).arg(correction);
        if let Err(error) = script.invoke_async::<()>(&mut connection).await {
            link.failed(&error);
        }
    }
}

impl Link {
    /// The connection, made anew when there is none; `None` while Redis is left alone.
    async fn connection(&self) -> Option<MultiplexedConnection> {
        {
            let state = self.lock();
            if let Some(connection) = &state.connection {
                return Some(connection.clone());
            }
            if state.away_until.is_some_and(|until| Instant::now() < until) {
                return None;
            }
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        match self.client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => {
                let mut state = self.lock();
                (state.connection, state.away_until) = (Some(connection.clone()), None);
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
        if state.away_until.is_none_or(|until| until < Instant::now()) {
            // Without the error's own text, which may name the address.
            let kind = error.category();
            tracing::warn!(kind, "Redis does not answer: each process keeps the limits of models by itself for now");
        }
        state.away_until = Some(Instant::now() + PAUSE);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
