//! Where Redis is and how long it may take.

use std::fmt;
use std::time::Duration;

use redis::{Client, ConnectionAddr, IntoConnectionInfo};

/// What keys begin with when nobody said otherwise.
pub const DEFAULT_PREFIX: &str = "agentry";
/// How long an entry is kept after it was last written when nobody said otherwise. No answer is wrong after it: the bound
/// is on memory, and on how long Redis holds what was deleted or pruned from the store.
pub const DEFAULT_TTL: Duration = Duration::from_secs(600);
/// How long Redis may take to answer when nobody said otherwise: ten times what a read of the store may take (2 ms), so
/// that a slow Redis is noticed and a busy one is not.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(20);

/// A text that does not say where Redis is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address of Redis cannot be used ({0}): expected redis://[user:password@]host[:port][/database]")]
pub struct InvalidRedisUrl(String);

/// Settings of the cache.
#[derive(Clone)]
pub struct RedisOptions {
    pub(super) client: Client,
    /// What every key begins with. One prefix belongs to one database of the store.
    pub prefix: String,
    /// How long an entry is kept after it was last written; at least a millisecond.
    pub ttl: Duration,
    /// How long Redis may take to answer.
    pub timeout: Duration,
}

impl RedisOptions {
    /// Redis at a URL, with the defaults. Nothing is connected yet.
    ///
    /// # Errors
    /// When the text is not a URL of Redis, or asks for what is not built in (TLS). The error does not repeat the text,
    /// which may hold a password.
    pub fn new(url: &str) -> Result<Self, InvalidRedisUrl> {
        let why = |error: redis::RedisError| InvalidRedisUrl(error.category().to_owned());
        let info = url.into_connection_info().map_err(why)?;
        if !info.addr().is_supported() {
            return Err(InvalidRedisUrl("TLS to Redis is not built in".to_owned()));
        }
        let client = Client::open(info).map_err(why)?;
        Ok(Self { client, prefix: DEFAULT_PREFIX.to_owned(), ttl: DEFAULT_TTL, timeout: DEFAULT_TIMEOUT })
    }

    /// Host and port (or path), without user and password.
    #[must_use]
    pub fn address(&self) -> String {
        match self.client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port}"),
            ConnectionAddr::Unix(path) => path.display().to_string(),
            _ => "an address of another kind".to_owned(),
        }
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("address", &self.address())
            .field("prefix", &self.prefix)
            .field("ttl", &self.ttl)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let shown = format!("{:?}", RedisOptions::new("redis://user:hunter2@cache.example:6380/3").unwrap());
        assert!(
            shown.contains("cache.example:6380") && !shown.contains("hunter2") && !shown.contains("user"),
            "{shown}"
        );
        let error = RedisOptions::new("http://user:hunter2@cache.example").unwrap_err().to_string();
        assert!(error.contains("redis://") && !error.contains("hunter2"), "{error}");
        assert!(RedisOptions::new("rediss://cache.example").is_err(), "TLS is not built in");
    }
}
