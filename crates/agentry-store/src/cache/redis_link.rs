//! The connection to Redis, with the circuit breaker: it is given up when it fails, and opened again in the background.
//!
//! Without a connection every request is refused at once, so a Redis that is down or silent costs callers nothing. A
//! connection is given up on its first broken answer, or after [`MAX_FAILURES`] slow or failed ones in a row. A
//! supervisor then pauses, connects anew and waits for a PONG within the timeout before anybody else may use the
//! connection: callers are never the probe. A new connection also discards the unsent data of a silent one, which TCP
//! would go on sending at ever longer intervals.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, Pipeline, RedisError};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::options::RedisOptions;
use super::stats::{Counters, add};

/// Consecutive failed answers after which Redis is given up: a single one may be chance, and each costs its caller the
/// timeout.
const MAX_FAILURES: u32 = 5;
/// Connect timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause before the first reconnect.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between reconnects; pauses double up to it.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// Lifetime of a connection after which pauses start at [`FIRST_PAUSE`] again.
const STEADY: Duration = Duration::from_secs(10);

/// Result of a request to Redis.
pub(super) enum RedisReply<T> {
    /// Redis answered.
    Answer(T),
    /// Redis failed or timed out.
    Failed,
    /// There is no connection; Redis was not asked.
    Unavailable,
}

/// The connection to Redis, which ends when this is dropped.
pub(super) struct RedisLink {
    shared: Arc<Shared>,
    supervisor: JoinHandle<()>,
}

struct Shared {
    client: Client,
    address: String,
    timeout: Duration,
    live: RwLock<Option<Live>>,
    given_up: Notify,
    counters: Arc<Counters>,
}

#[derive(Clone)]
struct Live {
    connection: MultiplexedConnection,
    /// Consecutive failures; its address identifies the connection.
    failures: Arc<AtomicU32>,
}

impl RedisLink {
    /// Starts connecting in the background. Must be called within a runtime.
    pub(super) fn open(options: &RedisOptions, counters: Arc<Counters>) -> Self {
        let shared = Arc::new(Shared {
            client: options.client.clone(),
            address: options.address(),
            timeout: options.timeout,
            live: RwLock::new(None),
            given_up: Notify::new(),
            counters,
        });
        let supervisor = tokio::spawn(supervise(Arc::clone(&shared)));
        Self { shared, supervisor }
    }

    /// Returns true while there is a connection.
    pub(super) fn is_up(&self) -> bool {
        self.shared.live().is_some()
    }

    /// Runs commands; returns the answers that are not ignored.
    pub(super) async fn query<T: FromRedisValue>(&self, commands: &Pipeline) -> RedisReply<T> {
        let Some(mut live) = self.shared.live() else { return RedisReply::Unavailable };
        match commands.query_async(&mut live.connection).await {
            Ok(answer) => {
                live.failures.store(0, Ordering::Relaxed);
                RedisReply::Answer(answer)
            }
            Err(error) => {
                self.shared.failed(&live, &error);
                RedisReply::Failed
            }
        }
    }

    /// Like [`Self::query`], for a read that a caller waits for: records its latency.
    pub(super) async fn query_timed<T: FromRedisValue>(&self, commands: &Pipeline) -> RedisReply<T> {
        let began = Instant::now();
        let asked = self.query(commands).await;
        if matches!(asked, RedisReply::Answer(_)) {
            self.shared.counters.answered(began.elapsed());
        }
        asked
    }
}

impl Drop for RedisLink {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl Shared {
    fn live(&self) -> Option<Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn failed(&self, live: &Live, error: &RedisError) {
        add(&self.counters.errors, 1);
        let failures = live.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures < MAX_FAILURES && !error.is_unrecoverable_error() {
            return;
        }
        let mut current = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(&current.failures, &live.failures)) {
            *current = None;
            drop(current);
            self.counters.connected.store(false, Ordering::Relaxed);
            add(&self.counters.breaker_openings, 1);
            tracing::warn!(redis = %self.address, %error, "Redis failed: reads go to the store until it answers again");
            self.given_up.notify_one();
        }
    }

    /// Opens a connection and waits for its first answer.
    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(self.timeout));
        let connect = self.client.get_multiplexed_async_connection_with_config(&config);
        // The library's own timeout starts only after the name is resolved.
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect).await;
        let mut connection = connected
            .map_err(|_| format!("no connection within {} s", CONNECT_TIMEOUT.as_secs_f32()))?
            .map_err(|error| error.to_string())?;
        let pong: Result<String, RedisError> = redis::cmd("PING").query_async(&mut connection).await;
        pong.map_err(|error| error.to_string())?;
        Ok(connection)
    }
}

/// Keeps a connection open for the lifetime of the link.
async fn supervise(shared: Arc<Shared>) {
    let mut pause = FIRST_PAUSE;
    let mut told = false;
    loop {
        match shared.connect().await {
            Ok(connection) => {
                let since = Instant::now();
                let live = Live { connection, failures: Arc::default() };
                *shared.live.write().unwrap_or_else(PoisonError::into_inner) = Some(live);
                shared.counters.connected.store(true, Ordering::Relaxed);
                tracing::info!(redis = %shared.address, "Redis answers");
                told = false;
                shared.given_up.notified().await;
                if since.elapsed() >= STEADY {
                    pause = FIRST_PAUSE;
                }
            }
            // Logged once per outage, not once per attempt.
            Err(error) if !told => {
                told = true;
                tracing::warn!(redis = %shared.address, %error, "Redis cannot be reached: reads go to the store");
            }
            Err(_) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}
