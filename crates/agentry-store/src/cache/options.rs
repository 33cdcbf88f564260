//! Address and timeouts of Redis.

use std::fmt;
use std::time::Duration;

use redis::{Client, ConnectionAddr, IntoConnectionInfo};

/// Default prefix of keys.
pub const DEFAULT_PREFIX: &str = "agentry";
/// Default lifetime of an entry after its last write. No answer is wrong after it: it bounds memory, and the time that
/// Redis holds data that was deleted or pruned from the store.
pub const DEFAULT_TTL: Duration = Duration::from_secs(600);
/// Default timeout of Redis: ten times what a read of the store may take (2 ms), so that a slow Redis is noticed and a
/// busy one is not.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(20);

/// A text that is no Redis URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address of Redis cannot be used ({0}): expected redis://[user:password@]host[:port][/database]")]
pub struct InvalidRedisUrl(String);

/// Options of the cache.
#[derive(Clone)]
pub struct RedisOptions {
    pub(super) client: Client,
    /// Prefix of every key. One prefix belongs to one database of the store.
    pub prefix: String,
    /// Lifetime of an entry after its last write; at least a millisecond.
    pub ttl: Duration,
    /// Timeout of requests.
    pub timeout: Duration,
}

impl RedisOptions {
    /// Returns options with defaults for the Redis at a URL, without connecting.
    ///
    /// # Errors
    /// The text is no Redis URL, or requires TLS, which is not built in. The error does not repeat the text, which may
    /// contain a password.
    pub fn new(url: &str) -> Result<Self, InvalidRedisUrl> {
        let why = |error: redis::RedisError| InvalidRedisUrl(error.category().to_owned());
        let info = url.into_connection_info().map_err(why)?;
        if !info.addr().is_supported() {
            return Err(InvalidRedisUrl("TLS to Redis is not built in".to_owned()));
        }
        let client = Client::open(info).map_err(why)?;
        Ok(Self { client, prefix: DEFAULT_PREFIX.to_owned(), ttl: DEFAULT_TTL, timeout: DEFAULT_TIMEOUT })
    }

    /// Returns host and port (or path), without user and password.
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
