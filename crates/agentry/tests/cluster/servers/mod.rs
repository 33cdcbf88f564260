//! PostgreSQL, RabbitMQ and Redis of this test's own: installed binaries, own data, own ports, loopback only.

mod ground;
mod postgres;
mod rabbitmq;
mod redis;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

pub use ground::Ground;
pub use postgres::Postgres;
pub use rabbitmq::RabbitMq;
pub use redis::Redis;

/// How long a server may take until it answers: RabbitMQ needs 6–10 s on two cores, more when they are busy.
pub const STARTS: Duration = Duration::from_secs(90);
/// How long a server may take to end after it was asked.
pub const ENDS: Duration = Duration::from_secs(30);
/// Ports are taken from here: below the range that connections get theirs from, so that nobody takes the port of a
/// server while it is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The three servers.
pub struct Servers {
    pub postgres: Postgres,
    pub rabbitmq: RabbitMq,
    pub redis: Redis,
}

impl Servers {
    /// Starts all three, side by side, and waits until they answer.
    pub async fn start(folder: &Path) -> Self {
        let ground = |name| Ground::new(folder, name);
        let (postgres, rabbitmq, redis) = tokio::join!(
            Postgres::start(ground("postgres")),
            RabbitMq::start(ground("rabbitmq")),
            Redis::start(ground("redis")),
        );
        Self { postgres, rabbitmq, redis }
    }

    /// Where they are.
    pub fn addresses(&self) -> Addresses {
        Addresses { postgres: self.postgres.port, rabbitmq: self.rabbitmq.port, redis: self.redis.port }
    }

    /// What they said last, for a failure.
    pub fn tails(&self) -> Vec<(&'static str, String)> {
        vec![
            ("PostgreSQL", self.postgres.process.tail()),
            ("RabbitMQ", self.rabbitmq.process.tail()),
            ("Redis", self.redis.process.tail()),
        ]
    }
}

/// The ports at which a process is to find the servers.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub postgres: u16,
    pub rabbitmq: u16,
    pub redis: u16,
}

impl Addresses {
    pub fn postgres_url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.postgres)
    }

    pub fn rabbitmq_url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.rabbitmq)
    }

    pub fn redis_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.redis)
    }
}

/// A port that nobody listens on, and that stays ours when the server behind it restarts.
pub fn free_port() -> u16 {
    for _ in 0..1_000 {
        let port = rand::random_range(PORTS);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {} to {} on 127.0.0.1", PORTS.start, PORTS.end);
}

pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
