//! Connections: two pools (batches, everything else), and retries when a connection or the server is lost.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::NoTls;

use super::claim::RegisteredWorkers;
use super::counts::Room;
use super::failure::{Failure, RetryAdvice};
use super::options::{CONNECT_TIMEOUT, MIN_CONNECTIONS, Planner, PostgresOptions};
use crate::StoreError;

/// A connection of a pool, which returns to it when dropped. A transaction is `conn.transaction().await?`, which is
/// rolled back when it is dropped without `commit`.
pub(super) type Conn = Object;
pub(super) type Tx<'a> = deadpool_postgres::Transaction<'a>;

/// Largest number of batches in flight; each uses a connection of its own. More would make batches smaller, and a batch
/// costs the server about as much as ten rows.
pub(super) const MAX_BATCH_CONNECTIONS: usize = 6;
/// Time that a caller waits for a connection before it fails with `Full`: several batches and short transactions.
const WAIT_FOR_CONNECTION: Duration = Duration::from_secs(2);
/// Largest number of callers that wait for a connection; further ones fail at once.
const MAX_WAITING: usize = 1_024;
/// Timeout of a try of a command, after which its connection counts as lost: longer than the server's statement
/// timeout, so that the server's answer, if there is one, comes first.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that a command is retried while the server is away: restarts and fail-overs take seconds, and callers of the
/// API wait about this long.
const PATIENCE: Duration = Duration::from_secs(10);
/// First and longest pause between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Tries when other transactions conflict: the winner of a deadlock is done before the loser has tried three times.
const MAX_CONFLICTS: u32 = 8;

/// Upper bounds of the histogram of waits for a connection, in seconds.
const WAITS: [f64; 9] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.25, 1.0, 2.0];

/// State of the earlier tries of a command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tries {
    /// An earlier try may have been committed although its answer was lost: the command must recognise its own work.
    pub(super) maybe_done: bool,
}

impl Tries {
    /// Combines the state with that of earlier tries.
    pub(super) fn or(self, before: Self) -> Self {
        Self { maybe_done: self.maybe_done || before.maybe_done }
    }
}

/// State shared by the modules of the backend.
pub(super) struct Db {
    pub(super) options: PostgresOptions,
    pub(super) room: Room,
    pub(super) registered: RegisteredWorkers,
    /// Tasks that ended here since the hot table was last vacuumed.
    pub(super) ended: AtomicU64,
    batches: Pool,
    general: Pool,
    /// Waits of callers for a connection.
    waits: Histogram,
}

/// State of the connection pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolStatus {
    /// Open connections.
    pub size: usize,
    /// Idle connections.
    pub available: usize,
    /// Callers that wait for a connection.
    pub waiting: usize,
}

impl Db {
    /// Creates pools, which connect on first use.
    pub(super) fn new(options: PostgresOptions) -> Result<Self, StoreError> {
        let connections = options.connections.max(MIN_CONNECTIONS);
        let batches = (connections / 2).clamp(1, MAX_BATCH_CONNECTIONS);
        Ok(Self {
            room: Room::new(options.max_queued),
            registered: RegisteredWorkers::default(),
            ended: AtomicU64::new(0),
            batches: pool(&options, Planner::Batches, batches)?,
            general: pool(&options, Planner::General, connections - batches)?,
            waits: Histogram::new(WAITS),
            options,
        })
    }

    /// Registers its metrics.
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Time that a caller waited for a connection to PostgreSQL";
        registry.register("agentry_postgres_wait_seconds", help, self.waits.clone());
    }

    /// Returns a connection for anything but batches.
    pub(super) async fn conn(&self) -> Result<Conn, Failure> {
        self.take(&self.general).await
    }

    /// Returns a connection with planner settings for batches (see [`Planner::Batches`]).
    pub(super) async fn batch_conn(&self) -> Result<Conn, Failure> {
        self.take(&self.batches).await
    }

    async fn take(&self, pool: &Pool) -> Result<Conn, Failure> {
        let status = pool.status();
        if status.waiting >= MAX_WAITING {
            return Err(Failure::Busy(status.max_size as u64));
        }
        let began = Instant::now();
        let taken = pool.get().await.map_err(|error| Failure::from_pool(error, status.max_size));
        self.waits.observe(began.elapsed().as_secs_f64());
        taken
    }

    /// Runs a command until it succeeds or retrying does not help: it is retried when the connection or the server is
    /// lost (up to [`PATIENCE`]) and when other transactions conflict. Every try starts anew: it takes a connection,
    /// begins and commits.
    pub(super) async fn retrying<T, F>(&self, once: impl FnMut(Tries) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.retrying_within(ANSWER_TIMEOUT, once).await
    }

    /// Like [`Self::retrying`], with another timeout per try.
    pub(super) async fn retrying_within<T, F>(
        &self,
        answer: Duration,
        mut once: impl FnMut(Tries) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let start = Instant::now();
        let mut tries = Tries::default();
        let mut conflicts = 0;
        let mut pause = FIRST_PAUSE;
        loop {
            let failure = match timeout(answer, once(tries)).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::Silent,
            };
            match failure.retry_advice() {
                RetryAdvice::Again if conflicts < MAX_CONFLICTS => conflicts += 1,
                RetryAdvice::Reconnect { unknown } if start.elapsed() + pause < PATIENCE => {
                    tracing::warn!(?failure, "PostgreSQL is lost; trying again");
                    tries.maybe_done |= unknown;
                    self.drop_idle();
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                _ => {
                    if !matches!(failure, Failure::Refused(_)) {
                        tracing::error!(?failure, "a command of the store failed");
                    }
                    return Err(failure.to_store_error());
                }
            }
        }
    }

    /// Closes idle connections: after a loss they lead to the same server, which is gone, silent or read-only now.
    pub(super) fn drop_idle(&self) {
        for pool in [&self.batches, &self.general] {
            pool.retain(|_, _| false);
        }
    }

    pub(super) fn status(&self) -> PoolStatus {
        let mut sum = PoolStatus::default();
        for status in [self.batches.status(), self.general.status()] {
            sum.size += status.size;
            sum.available += status.available;
            sum.waiting += status.waiting;
        }
        sum
    }
}

fn pool(options: &PostgresOptions, planner: Planner, size: usize) -> Result<Pool, StoreError> {
    let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    Pool::builder(Manager::from_config(options.config(planner)?, NoTls, manager))
        .max_size(size)
        .wait_timeout(Some(WAIT_FOR_CONNECTION))
        .create_timeout(Some(CONNECT_TIMEOUT))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| StoreError::Broken(format!("the pool of PostgreSQL connections cannot be made: {error}")))
}
