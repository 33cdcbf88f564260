//! PostgreSQL, RabbitMQ and Redis of the run's own, from what is installed: own data, own ports, loopback only. Only
//! those can be killed. Where they are not installed, servers at given addresses serve instead.

mod ground;
mod postgres;
mod rabbitmq;
mod redis;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use postgres::Postgres;
pub use rabbitmq::RabbitMq;
pub use redis::Redis;

pub(super) use ground::Ground;

use super::SutError;
use crate::sample::{Part, Sampler};

/// How long a server may take until it answers: RabbitMQ needs 6–10 s on two cores, more when they are busy.
pub(super) const STARTS: Duration = Duration::from_secs(120);
/// How long a server may take to end after it was asked.
pub(super) const ENDS: Duration = Duration::from_secs(30);
/// Ports are taken from here: below the range that connections get theirs from, so that nobody takes the port of a
/// server while it is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Ports that are tried.
const TRIES: usize = 1_000;

/// The three servers of the cluster engine.
pub struct Servers {
    /// The truth.
    pub postgres: Postgres,
    /// The wakes and events.
    pub rabbitmq: RabbitMq,
    /// The cache.
    pub redis: Redis,
    /// How long all three took to answer, started side by side on empty data.
    pub cold_start: Duration,
}

/// Where a process is to find the servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Urls {
    /// PostgreSQL.
    pub postgres: String,
    /// RabbitMQ.
    pub rabbitmq: String,
    /// Redis.
    pub redis: String,
}

impl Servers {
    /// Starts all three, side by side, and waits until they answer.
    ///
    /// # Errors
    /// When one is not installed or does not come up.
    pub async fn start(folder: &Path) -> Result<Self, SutError> {
        let began = std::time::Instant::now();
        let (postgres, rabbitmq, redis) = tokio::try_join!(
            async { Postgres::start(Ground::new(folder, "postgres")?).await },
            async { RabbitMq::start(Ground::new(folder, "rabbitmq")?).await },
            async { Redis::start(Ground::new(folder, "redis")?).await },
        )?;
        Ok(Self { postgres, rabbitmq, redis, cold_start: began.elapsed() })
    }

    /// Where they are.
    #[must_use]
    pub fn urls(&self) -> Urls {
        Urls::at(self.postgres.port, self.rabbitmq.port, self.redis.port)
    }

    /// Their processes count for their parts from now on.
    pub fn watch(&self, sampler: &Sampler) {
        sampler.watch(Part::Postgres, self.postgres.process.pid());
        sampler.watch(Part::RabbitMq, self.rabbitmq.process.pid());
        sampler.watch(Part::Redis, self.redis.process.pid());
    }
}

impl Urls {
    /// On these ports of this machine.
    #[must_use]
    pub fn at(postgres: u16, rabbitmq: u16, redis: u16) -> Self {
        Self {
            postgres: format!("postgres://postgres@127.0.0.1:{postgres}/postgres"),
            rabbitmq: format!("amqp://guest:guest@127.0.0.1:{rabbitmq}/%2f"),
            redis: format!("redis://127.0.0.1:{redis}"),
        }
    }
}

/// A port that nobody listens on, and that stays ours when the server behind it restarts.
pub(super) fn free_port() -> Result<u16, SutError> {
    for _ in 0..TRIES {
        let port = rand::random_range(PORTS);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(SutError::Server(format!("no free port from {} to {} on 127.0.0.1", PORTS.start, PORTS.end)))
}

pub(super) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// An executable on the path or in one of these folders, each of which may have one `*`.
pub(super) fn executable(program: &str, folders: &[&str], package: &'static str) -> Result<PathBuf, SutError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = folders.iter().flat_map(|folder| versions(folder)).chain(std::env::split_paths(&path));
    let missing = || SutError::Missing { program: program.to_owned(), folders: folders.join(", "), package };
    all.map(|folder| folder.join(program)).find(|file| file.is_file()).ok_or_else(missing)
}

/// The folders that a pattern with at most one `*` names, the last in order first.
fn versions(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![PathBuf::from(pattern)] };
    let (parent, start) = before.rsplit_once('/').unwrap_or(("", before));
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(start))
        .map(|entry| entry.path().join(after.trim_start_matches('/')))
        .collect();
    found.sort();
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_names_the_package() {
        let error = executable("no-such-program", &["/usr/lib/none/*/bin"], "some-package").unwrap_err().to_string();
        assert!(error.contains("no-such-program") && error.contains("apt-get install some-package"), "{error}");
        assert!(executable("sh", &[], "dash").is_ok());
    }
}
