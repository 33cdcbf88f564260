//! Settings of a process: flags over environment (`AGENTRY_…`) over `agentry.toml` over defaults, from one table.

mod cluster;
mod file;
mod providers;
mod read;
mod slack;
mod table;
mod traces;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use agentry_core::agent::ModeSet;
pub use agentry_core::worker::Role;
use secrecy::SecretString;

pub use cluster::Cluster;
pub use providers::{ModelLimit, ProviderSettings};
pub use read::Sources;
pub use slack::{SlackRoute, SlackSettings};
pub use table::{KEYS, Key, settings_reference};
pub use traces::{Sampler, TraceSettings};

/// The backends of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// SQLite and an in-process bus.
    Embedded,
    /// PostgreSQL, RabbitMQ and Redis.
    Cluster,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Every setting of a process. Secrets are of a type that does not print them.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Settings file.
    pub config: PathBuf,
    /// Address that the server listens on.
    pub listen: SocketAddr,
    /// True to allow listening beyond this machine without API keys.
    pub allow_unauthenticated: bool,
    /// True to require a key even while none exists.
    pub auth_required: bool,
    /// Values of `Host` that are accepted besides those of this machine.
    pub allowed_hosts: Vec<String>,
    /// Maximum number of requests per key and second; 0 is unlimited.
    pub key_requests_per_second: u32,
    /// TLS certificate chain, as a PEM file.
    pub tls_cert: Option<PathBuf>,
    /// TLS private key, as a PEM file.
    pub tls_key: Option<PathBuf>,
    /// Folder of reports of the validation suite.
    pub reports: PathBuf,
    /// API key of client commands.
    pub api_key: Option<SecretString>,
    /// Server address for client commands.
    pub url: Option<String>,
    /// Data directory of the embedded engine.
    pub data: PathBuf,
    /// Directory of agent files.
    pub agents: PathBuf,
    /// Backends.
    pub engine: Engine,
    /// Retention of events and idempotency keys.
    pub retention: Duration,
    /// Retention of ended tasks and idle conversations; `None` keeps them forever.
    pub task_retention: Option<Duration>,
    /// Retention of the ledger of model calls; `None` keeps it forever.
    pub usage_retention: Option<Duration>,
    /// Price file that overrides the built-in prices.
    pub prices: Option<PathBuf>,
    /// PostgreSQL; see [`Settings::cluster`].
    pub postgres_url: Option<SecretString>,
    /// Schema of the tables.
    pub postgres_schema: String,
    /// Maximum number of connections to PostgreSQL.
    pub postgres_connections: usize,
    /// Redis; `None` disables the cache.
    pub redis_url: Option<SecretString>,
    /// RabbitMQ; see [`Settings::cluster`].
    pub rabbitmq_url: Option<SecretString>,
    /// Prefix of the names of exchanges and queues.
    pub rabbitmq_prefix: String,
    /// Number of queues for each mode.
    pub rabbitmq_shards: u16,
    /// Roles of this process, sorted and without duplicates.
    pub roles: Vec<Role>,
    /// Modes that its workers execute.
    pub modes: ModeSet,
    /// Maximum number of concurrent tasks.
    pub slots: u32,
    /// Maximum number of queued tasks; more are refused.
    pub max_queued: u64,
    /// Maximum size of a request body, in bytes.
    pub max_body_bytes: usize,
    /// Maximum duration of a drain after SIGTERM.
    pub drain: Duration,
    /// Log filter, in the syntax of `tracing`.
    pub log: String,
    /// Log format.
    pub log_format: LogFormat,
    /// Traces.
    pub traces: TraceSettings,
    /// Secret that signs callbacks; `None` leaves them unsigned.
    pub callback_secret: Option<SecretString>,
    /// Slack.
    pub slack: SlackSettings,
    /// API key of OpenAI and compatible providers.
    pub openai_api_key: Option<SecretString>,
    /// Base URL of provider `openai`, if not its own.
    pub openai_base_url: Option<String>,
    /// Settings of all other providers.
    pub providers: ProviderSettings,
    /// True to answer every provider by the simulators.
    pub sim: bool,
}
