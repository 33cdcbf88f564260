//! Address of the broker, and the names of exchanges and queues.

use std::fmt;

use agentry_core::agent::ExecutionMode;
use lapin::types::ShortString;
use lapin::uri::{AMQPScheme, AMQPUri};

use super::fault::Fault;

/// Prefix of an installation with a virtual host of its own.
const DEFAULT_PREFIX: &str = "agentry";
/// Queues of wakes per mode. A classic queue is one Erlang process, so two use two cores, and fewer queues rotate more
/// evenly over the workers.
const DEFAULT_SHARDS: u16 = 2;
/// Largest number of shards: a broker's cores cannot use more queues.
const MAX_SHARDS: u16 = 64;
/// Longest prefix, in bytes: names built on it stay well below AMQP's 255.
const MAX_PREFIX_BYTES: usize = 128;
/// Heartbeat interval in seconds; a connection that is silent for two of them is given up.
const HEARTBEAT_SECONDS: u16 = 5;

/// Options of the RabbitMQ bus.
#[derive(Clone)]
pub struct RabbitOptions {
    /// `amqp://user:password@host:port/vhost`; the virtual host `/` is written `%2f`.
    pub url: String,
    /// Prefix of all exchange and queue names, shared by the processes of one installation.
    pub prefix: String,
    /// Queues of wakes per mode; the same for all processes of an installation.
    pub shards: u16,
}

impl RabbitOptions {
    /// Returns options with the default names for the broker at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), prefix: DEFAULT_PREFIX.to_owned(), shards: DEFAULT_SHARDS }
    }

    /// Returns the broker's address without the password.
    pub(super) fn address(&self) -> String {
        match self.url.parse::<AMQPUri>() {
            Ok(uri) => format!("{}:{} (virtual host `{}`)", uri.authority.host, uri.authority.port, uri.vhost),
            Err(_) => "an address that is not an AMQP URL".to_owned(),
        }
    }

    /// Parses the address and sets the heartbeat that the supervisor relies on.
    pub(super) fn uri(&self) -> Result<AMQPUri, Fault> {
        let mut uri: AMQPUri = self.url.parse().map_err(|error: String| {
            Fault::new(format!("its URL cannot be read ({error}): use amqp://user:password@host:5672/%2f"))
        })?;
        if uri.scheme == AMQPScheme::AMQPS {
            return Err(Fault::new("amqps:// needs TLS, which this build does not have: use amqp://"));
        }
        uri.query.heartbeat = Some(uri.query.heartbeat.unwrap_or(HEARTBEAT_SECONDS).clamp(1, HEARTBEAT_SECONDS));
        Ok(uri)
    }

    pub(super) fn names(&self) -> Result<Names, Fault> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.prefix.is_empty() || self.prefix.len() > MAX_PREFIX_BYTES || !self.prefix.chars().all(good) {
            return Err(Fault::new(format!(
                "`{}` cannot be a prefix: use 1 to {MAX_PREFIX_BYTES} letters, digits, `-`, `_` and `.`",
                self.prefix.escape_debug()
            )));
        }
        if !(1..=MAX_SHARDS).contains(&self.shards) {
            return Err(Fault::new(format!("{} shards: use 1 to {MAX_SHARDS}", self.shards)));
        }
        Ok(Names { prefix: self.prefix.clone(), shards: self.shards })
    }
}

impl fmt::Debug for RabbitOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitOptions")
            .field("url", &self.address())
            .field("prefix", &self.prefix)
            .field("shards", &self.shards)
            .finish()
    }
}

/// Names of exchanges and queues. The prefix is short enough that none is too long for AMQP.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
    shards: u16,
}

impl Names {
    fn name(&self, rest: fmt::Arguments<'_>) -> ShortString {
        format!("{}.{rest}", self.prefix).into()
    }

    /// Topic exchange of events: all clients publish to it and bind queues to it.
    pub fn events(&self) -> ShortString {
        self.name(format_args!("events"))
    }

    /// Headers exchange that separates our events from foreign ones.
    pub fn sorter(&self) -> ShortString {
        self.name(format_args!("events.sorter"))
    }

    /// Exchange without queues that drops our own events.
    pub fn own(&self) -> ShortString {
        self.name(format_args!("events.own"))
    }

    pub fn foreign(&self) -> ShortString {
        self.name(format_args!("events.foreign"))
    }

    pub fn inbound(&self) -> ShortString {
        self.name(format_args!("inbound"))
    }

    pub fn rejected(&self) -> ShortString {
        self.name(format_args!("inbound.rejected"))
    }

    pub fn signals(&self) -> ShortString {
        self.name(format_args!("signals"))
    }

    /// Queue of signals of one connection of one process. The number gives a new queue after a reconnect, because the
    /// broker may not have noticed yet that the old connection and its queue are gone.
    pub fn signals_of(&self, process: &str, session: u64) -> ShortString {
        self.name(format_args!("signals.{process}.{session}"))
    }

    pub fn shards(&self) -> u16 {
        self.shards
    }

    pub fn wakes(&self, mode: ExecutionMode, shard: u16) -> ShortString {
        self.name(format_args!("wake.{mode}.{shard}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_printed() {
        let text = format!("{:?}", RabbitOptions::new("amqp://someone:hunter2@broker:5671/%2f"));
        assert!(!text.contains("hunter2") && text.contains("broker:5671"), "{text}");
        let text = format!("{:?}", RabbitOptions::new("hunter2 is not a URL"));
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn the_heartbeat_is_at_most_five_seconds() {
        let of = |url: &str| RabbitOptions::new(url).uri().unwrap().query.heartbeat;
        assert_eq!(of("amqp://localhost/%2f"), Some(5));
        assert_eq!(of("amqp://localhost/%2f?heartbeat=60"), Some(5));
        assert_eq!(of("amqp://localhost/%2f?heartbeat=0"), Some(1));
        assert!(RabbitOptions::new("amqps://localhost/%2f").uri().is_err());
        assert!(RabbitOptions::new("http://localhost/").uri().is_err());
    }

    #[test]
    fn bad_names_are_refused() {
        let with = |prefix: &str, shards| RabbitOptions { prefix: prefix.to_owned(), shards, ..RabbitOptions::new("") };
        assert!(with("agentry", 2).names().is_ok());
        for (prefix, shards) in [("", 2), ("a b", 2), ("a#", 2), ("a", 0), ("a", 65)] {
            assert!(with(prefix, shards).names().is_err(), "{prefix} {shards}");
        }
        assert!(with(&"x".repeat(129), 2).names().is_err());
    }
}
