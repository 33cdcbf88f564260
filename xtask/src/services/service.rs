//! The three servers that tests need: names, addresses, versions.

use anyhow::{Result, bail};

use crate::place::numbers;

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    Postgres,
    Redis,
    Rabbitmq,
}

impl Service {
    pub const ALL: [Self; 3] = [Self::Postgres, Self::Redis, Self::Rabbitmq];

    /// Its word: of folders, of the state file, and of the Compose service.
    pub fn word(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Rabbitmq => "rabbitmq",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.word() == word)
    }

    /// How people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
            Self::Rabbitmq => "RabbitMQ",
        }
    }

    /// The variable that tests read its URL from.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "AGENTRY_TEST_POSTGRES_URL",
            Self::Redis => "AGENTRY_TEST_REDIS_URL",
            Self::Rabbitmq => "AGENTRY_TEST_RABBITMQ_URL",
        }
    }

    pub fn standard_port(self) -> u16 {
        match self {
            Self::Postgres => 5432,
            Self::Redis => 6379,
            Self::Rabbitmq => 5672,
        }
    }

    /// Its URL on loopback with the credentials that tests use.
    pub fn url(self, port: u16) -> String {
        match self {
            Self::Postgres => format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            Self::Redis => format!("redis://127.0.0.1:{port}"),
            Self::Rabbitmq => format!("amqp://guest:guest@127.0.0.1:{port}/%2f"),
        }
    }

    /// Debian's package of it.
    pub fn package(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::Redis => "redis-server",
            Self::Rabbitmq => "rabbitmq-server",
        }
    }

    /// Which versions will do, in words.
    pub fn wanted(self) -> &'static str {
        match self {
            Self::Postgres => "15 or later",
            Self::Redis => "6.2 or later",
            Self::Rabbitmq => "3.10 to 3.13",
        }
    }

    pub fn check_version(self, version: &str) -> Result<()> {
        let numbers = numbers(version);
        let pair = (numbers.first().copied().unwrap_or(0), numbers.get(1).copied().unwrap_or(0));
        let fits = match self {
            Self::Postgres => pair.0 >= 15,
            Self::Redis => pair >= (6, 2),
            Self::Rabbitmq => ((3, 10)..=(3, 13)).contains(&pair),
        };
        if !fits {
            bail!("it is version {version}; {} is needed", self.wanted());
        }
        Ok(())
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
            assert_eq!(service.check_version(version).is_ok(), fits, "{} {version}", service.name());
        }
    }

    #[test]
    fn words_lead_back() {
        for service in Service::ALL {
            assert_eq!(Service::from_word(service.word()), Some(service));
        }
        assert_eq!(Service::from_word("mysql"), None);
    }
}
