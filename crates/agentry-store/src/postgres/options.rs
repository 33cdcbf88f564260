//! Address and limits of the server.

use std::fmt;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use crate::StoreError;

/// Default schema (namespace) of the tables.
pub const DEFAULT_SCHEMA: &str = "agentry";
/// Default number of connections per process: enough for group commit and reads on small machines, and ten processes
/// stay within a server's usual 100.
pub const DEFAULT_CONNECTIONS: usize = 8;
/// Smallest number of connections; with fewer, a slow list would hold up the group commit.
pub const MIN_CONNECTIONS: usize = 2;
/// Default bound of the queue, in tasks.
pub const DEFAULT_MAX_QUEUED: u64 = 1_000_000;

/// Connect timeout: a reachable server answers in milliseconds, and an unreachable one must be noticed well before
/// callers give up.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time that sent bytes may stay unacknowledged before the connection counts as lost; the kernel's default is about 15
/// minutes.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);
/// Keepalive: idle time before the first probe, interval and number of probes. A silent cut is noticed within 11 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 3;
/// Statement timeout of the server: far longer than any statement needs, short enough that a bad plan or a leaked lock
/// becomes an error.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(8);
/// Time that a transaction may be idle: its process is frozen or gone, and its locks hold up others.
const IDLE_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// PostgreSQL truncates longer names.
const MAX_SCHEMA_BYTES: usize = 63;

/// Options of the PostgreSQL store.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database`; several hosts separated by commas for fail-over.
    pub url: String,
    /// Schema (namespace) of the tables, created if necessary. Lower-case letters, digits and underscores.
    pub schema: String,
    /// Largest number of connections, besides one per worker of the process (it holds the worker's lock).
    pub connections: usize,
    /// Largest number of queued tasks, due or not; further ones fail with [`StoreError::Full`]. Several processes share
    /// the bound approximately: each counts its own tasks at once and those of the others every 200 ms.
    pub max_queued: u64,
}

impl PostgresOptions {
    /// Returns options with defaults for the server at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            schema: DEFAULT_SCHEMA.to_owned(),
            connections: DEFAULT_CONNECTIONS,
            max_queued: DEFAULT_MAX_QUEUED,
        }
    }

    /// Returns the driver's configuration for one kind of connection.
    pub(crate) fn config(&self, planner: Planner) -> Result<Config, StoreError> {
        let mut config = self.parse()?;
        let own = format!(
            "-c search_path={} -c synchronous_commit=on -c jit=off -c statement_timeout={} \
             -c idle_in_transaction_session_timeout={} {}",
            self.checked_schema()?,
            STATEMENT_TIMEOUT.as_millis(),
            IDLE_TRANSACTION_TIMEOUT.as_millis(),
            planner.settings(),
        );
        let options = config.get_options().map_or(own.clone(), |given| format!("{given} {own}"));
        config.options(options).connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(TCP_USER_TIMEOUT);
        config.keepalives(true).keepalives_idle(KEEPALIVE_IDLE);
        config.keepalives_interval(KEEPALIVE_INTERVAL).keepalives_retries(KEEPALIVE_RETRIES);
        if config.get_application_name().is_none() {
            config.application_name("agentry");
        }
        Ok(config)
    }

    fn parse(&self) -> Result<Config, StoreError> {
        let refused = |why: String| StoreError::Broken(format!("the PostgreSQL address cannot be used: {why}"));
        let tls = "TLS to PostgreSQL is not in this version; use sslmode=disable or sslmode=prefer on a network that is trusted";
        if ["sslmode=verify-ca", "sslmode=verify-full"].iter().any(|mode| self.url.contains(mode)) {
            return Err(refused(tls.to_owned()));
        }
        let mut config: Config = self.url.parse().map_err(|error: tokio_postgres::Error| {
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            refused(format!("{cause}; expected postgres://user:password@host:port/database"))
        })?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(refused(tls.to_owned()));
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(refused("it names no host; expected postgres://user:password@host:port/database".to_owned()));
        }
        // Without TLS compiled in, asking for it would cost every connection a round trip.
        config.ssl_mode(SslMode::Disable);
        Ok(config)
    }

    /// Returns the schema if it can be used in SQL without quotes.
    pub(super) fn checked_schema(&self) -> Result<&str, StoreError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let starts = self.schema.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if starts && self.schema.len() <= MAX_SCHEMA_BYTES && self.schema.bytes().all(plain) {
            return Ok(&self.schema);
        }
        Err(StoreError::Broken(format!(
            "`{}` cannot be a PostgreSQL schema here: use at most {MAX_SCHEMA_BYTES} lower-case letters, digits and underscores",
            self.schema
        )))
    }
}

impl fmt::Debug for PostgresOptions {
    /// Omits the URL, which may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.url.parse::<Config>().ok();
        f.debug_struct("PostgresOptions")
            .field("hosts", &config.as_ref().map(Config::get_hosts))
            .field("database", &config.as_ref().and_then(Config::get_dbname))
            .field("schema", &self.schema)
            .field("connections", &self.connections)
            .field("max_queued", &self.max_queued)
            .finish_non_exhaustive()
    }
}

/// Planner settings of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planner {
    /// For batches: tables by index on an array of ids, arrays among themselves by hash, planned once. The planner
    /// expects arrays to be short and young tables small; by default it picks plans that are quadratic when they are
    /// not.
    Batches,
    /// For everything else: by index where there is one, for the same reason.
    General,
}

impl Planner {
    fn settings(self) -> &'static str {
        match self {
            Self::Batches => {
                "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_bitmapscan=off \
                 -c enable_nestloop=off -c enable_mergejoin=off"
            }
            Self::General => "-c enable_seqscan=off",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_printed() {
        let options = PostgresOptions::new("postgres://ada:hunter2@db:5432/agentry");
        let shown = format!("{options:?}");
        assert!(!shown.contains("hunter2") && shown.contains("db"), "{shown}");
        let broken = PostgresOptions::new("postgres://ada:hunter2@db:port/agentry");
        assert!(!broken.config(Planner::General).err().unwrap().to_string().contains("hunter2"));
        assert!(!format!("{broken:?}").contains("hunter2"));
    }

    #[test]
    fn tls_and_odd_schemas_are_refused_with_advice() {
        for mode in ["require", "verify-ca", "verify-full"] {
            let options = PostgresOptions::new(format!("postgres://db/agentry?sslmode={mode}"));
            let error = options.config(Planner::General).err().unwrap().to_string();
            assert!(error.contains("TLS to PostgreSQL is not in this version"), "{error}");
        }
        for schema in ["", "A", "a b", "1a", "a;drop", &"a".repeat(64)] {
            let options = PostgresOptions { schema: schema.to_owned(), ..PostgresOptions::new("postgres://db/x") };
            assert!(options.config(Planner::General).is_err(), "{schema}");
        }
        assert!(PostgresOptions::new("postgres://db/x?sslmode=prefer").config(Planner::Batches).is_ok());
    }
}
