//! The way to Redis: one connection, given up when it fails, made again in the background. This is the breaker.
//!
//! While there is no connection every request is refused at once, so a Redis that is gone or silent costs its callers
//! nothing. A connection is given up on its first broken answer, or after [`MAX_FAILURES`] slow or failed ones in a row.
//! A supervisor then pauses, connects anew and asks for a PONG within the timeout before anybody else may use the
//! connection: callers are never the probe. A new connection also leaves behind what a silent one still has in flight,
//! which TCP would go on sending with ever longer pauses.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, Pipeline, RedisError};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::options::RedisOptions;
use super::stats::{Counters, add};

/// Failed answers in a row after which Redis is given up: one may be bad luck, and each costs its caller the timeout.
const MAX_FAILURES: u32 = 5;
/// How long making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause before the first try to connect again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between tries; it doubles up to here.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// A connection that lasted this long has proved itself: the pauses begin from the first again.
const STEADY: Duration = Duration::from_secs(10);

/// What a request came to.
pub(super) enum Asked<T> {
    /// Redis answered.
    Answer(T),
    /// Redis failed, or took too long.
    Failed,
    /// There is no connection now; Redis was not asked.
    Away,
}

/// The way to Redis. Dropping it ends the connection.
pub(super) struct Link {
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
    /// Failures in a row; its address tells connections apart.
    failures: Arc<AtomicU32>,
}

impl Link {
    /// Begins to connect in the background. Must be called within a runtime.
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

    /// Whether there is a connection now.
    pub(super) fn is_up(&self) -> bool {
        self.shared.live().is_some()
    }

    /// Runs commands; the answers that are not ignored come back.
    pub(super) async fn ask<T: FromRedisValue>(&self, commands: &Pipeline) -> Asked<T> {
        let Some(mut live) = self.shared.live() else { return Asked::Away };
        match commands.query_async(&mut live.connection).await {
            Ok(answer) => {
                live.failures.store(0, Ordering::Relaxed);
                Asked::Answer(answer)
            }
            Err(error) => {
                self.shared.failed(&live, &error);
                Asked::Failed
            }
        }
    }

    /// As [`Self::ask`], for a read that somebody waits for: counts how long it took.
    pub(super) async fn ask_timed<T: FromRedisValue>(&self, commands: &Pipeline) -> Asked<T> {
        let began = Instant::now();
        let asked = self.ask(commands).await;
        if matches!(asked, Asked::Answer(_)) {
            self.shared.counters.answered(began.elapsed());
        }
        asked
    }
}

impl Drop for Link {
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

    /// A connection that has answered once.
    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(self.timeout));
        let connect = self.client.get_multiplexed_async_connection_with_config(&config);
        // Once more around all of it: the library's own bound begins after the name was resolved.
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect).await;
        let mut connection = connected
            .map_err(|_| format!("no connection within {} s", CONNECT_TIMEOUT.as_secs_f32()))?
            .map_err(|error| error.to_string())?;
        let pong: Result<String, RedisError> = redis::cmd("PING").query_async(&mut connection).await;
        pong.map_err(|error| error.to_string())?;
        Ok(connection)
    }
}

/// Keeps a connection for as long as the link lives.
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
            // Once for each outage, not once for each try.
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
