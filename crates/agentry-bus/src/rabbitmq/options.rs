//! Where the broker is, and what things are called on it.

use std::fmt;

use agentry_core::agent::ExecutionMode;
use lapin::types::ShortString;
use lapin::uri::{AMQPScheme, AMQPUri};

use super::fault::Fault;

/// The prefix of an installation that has the broker's virtual host to itself.
const DEFAULT_PREFIX: &str = "agentry";
/// Queues of wakes for each mode. One classic queue is one Erlang process; two keep two cores busy, and the fewer there
/// are the more even is their rotation over the workers.
const DEFAULT_SHARDS: u16 = 2;
/// More shards than this are more queues than a broker's cores can use.
const MAX_SHARDS: u16 = 64;
/// The longest prefix, in bytes: the longest name built on it stays well below AMQP's 255.
const MAX_PREFIX_BYTES: usize = 128;
/// Seconds between heartbeats at most; a link that is silent for two of them is given up.
const HEARTBEAT_SECONDS: u16 = 5;

/// How to reach RabbitMQ.
#[derive(Clone)]
pub struct RabbitOptions {
    /// `amqp://user:password@host:port/vhost`; the virtual host `/` is written `%2f`.
    pub url: String,
    /// What the names of all exchanges and queues begin with; processes of one installation share it.
    pub prefix: String,
    /// Queues of wakes for each mode; the same for all processes of an installation.
    pub shards: u16,
}

impl RabbitOptions {
    /// The usual names on the broker at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), prefix: DEFAULT_PREFIX.to_owned(), shards: DEFAULT_SHARDS }
    }

    /// The broker's address without the password, for people.
    pub(super) fn place(&self) -> String {
        match self.url.parse::<AMQPUri>() {
            Ok(uri) => format!("{}:{} (virtual host `{}`)", uri.authority.host, uri.authority.port, uri.vhost),
            Err(_) => "an address that is not an AMQP URL".to_owned(),
        }
    }

    /// The checked address, with the heartbeat that the supervisor counts on.
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
            .field("url", &self.place())
            .field("prefix", &self.prefix)
            .field("shards", &self.shards)
            .finish()
    }
}

/// What things are called. The prefix is short enough that no name is too long for AMQP.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
    shards: u16,
}

impl Names {
    fn name(&self, rest: fmt::Arguments<'_>) -> ShortString {
        format!("{}.{rest}", self.prefix).into()
    }

    /// The topic exchange that everybody publishes events to and binds queues to.
    pub fn events(&self) -> ShortString {
        self.name(format_args!("events"))
    }

    /// The headers exchange that tells our events from those of others.
    pub fn sorter(&self) -> ShortString {
        self.name(format_args!("events.sorter"))
    }

    /// The exchange without queues where our own events end.
    pub fn own(&self) -> ShortString {
        self.name(format_args!("events.own"))
    }

    /// The exchange of events that others published.
    pub fn foreign(&self) -> ShortString {
        self.name(format_args!("events.foreign"))
    }

    /// The queue of events that others published.
    pub fn inbound(&self) -> ShortString {
        self.name(format_args!("inbound"))
    }

    /// The queue of what cannot be taken.
    pub fn rejected(&self) -> ShortString {
        self.name(format_args!("inbound.rejected"))
    }

    /// The exchange of signals.
    pub fn signals(&self) -> ShortString {
        self.name(format_args!("signals"))
    }

    /// The queue of signals of one connection of one process. The number makes it another queue after a reconnect:
    /// the broker may not yet have noticed that the old connection is gone, and with it the old queue.
    pub fn signals_of(&self, process: &str, session: u64) -> ShortString {
        self.name(format_args!("signals.{process}.{session}"))
    }

    /// How many queues of wakes a mode has.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// A queue of wakes.
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
