//! The three kinds of servers: names, addresses, versions.

use serde::{Deserialize, Serialize};

use crate::numbers;

/// A kind of server that the cluster engine needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
    /// RabbitMQ.
    Rabbitmq,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Postgres, Self::Redis, Self::Rabbitmq];

    /// Returns its word: of folders, of the state file, and of the Compose service.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Rabbitmq => "rabbitmq",
        }
    }

    /// Returns its name as its makers write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
            Self::Rabbitmq => "RabbitMQ",
        }
    }

    /// Returns the variable that tests read its URL from.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "AGENTRY_TEST_POSTGRES_URL",
            Self::Redis => "AGENTRY_TEST_REDIS_URL",
            Self::Rabbitmq => "AGENTRY_TEST_RABBITMQ_URL",
        }
    }

    /// Returns the port that it usually listens on.
    #[must_use]
    pub fn standard_port(self) -> u16 {
        match self {
            Self::Postgres => 5432,
            Self::Redis => 6379,
            Self::Rabbitmq => 5672,
        }
    }

    /// Returns its URL on loopback with the credentials that tests use.
    #[must_use]
    pub fn url(self, port: u16) -> String {
        match self {
            Self::Postgres => format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            Self::Redis => format!("redis://127.0.0.1:{port}"),
            Self::Rabbitmq => format!("amqp://guest:guest@127.0.0.1:{port}/%2f"),
        }
    }

    /// Returns Debian's package of it.
    #[must_use]
    pub fn package(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::Redis => "redis-server",
            Self::Rabbitmq => "rabbitmq-server",
        }
    }

    /// Returns which versions will do, in words.
    #[must_use]
    pub fn wanted(self) -> &'static str {
        match self {
            Self::Postgres => "15 or later",
            Self::Redis => "6.2 or later",
            Self::Rabbitmq => "3.10 to 3.13",
        }
    }

    /// Returns whether a version, as the server says it, is one that will do.
    #[must_use]
    pub fn supports(self, version: &str) -> bool {
        let numbers = numbers(version);
        let pair = (numbers.first().copied().unwrap_or(0), numbers.get(1).copied().unwrap_or(0));
        match self {
            Self::Postgres => pair.0 >= 15,
            Self::Redis => pair >= (6, 2),
            Self::Rabbitmq => ((3, 10)..=(3, 13)).contains(&pair),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_out_of_range_are_refused() {
        for (service, version, fits) in [
            (Service::Postgres, "15.9 (Debian 15.9-0+deb12u1)", true),
            (Service::Postgres, "14.13", false),
            (Service::Postgres, "18beta1", true),
            (Service::Redis, "6.2.0", true),
            (Service::Redis, "6.0.16", false),
            (Service::Redis, "7.0.15", true),
            (Service::Rabbitmq, "3.9.29", false),
            (Service::Rabbitmq, "3.10.8", true),
            (Service::Rabbitmq, "3.13.7", true),
            (Service::Rabbitmq, "4.0.2", false),
            (Service::Rabbitmq, "", false),
        ] {
            assert_eq!(service.supports(version), fits, "{} {version}", service.name());
        }
    }
}
