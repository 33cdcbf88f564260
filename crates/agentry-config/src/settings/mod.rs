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

/// Which backends a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// SQLite and an in-process bus.
    Embedded,
    /// PostgreSQL, RabbitMQ and Redis.
    Cluster,
}

/// How logs are written.
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
    /// The settings file to read.
    pub config: PathBuf,
    /// Where the server listens.
    pub listen: SocketAddr,
    /// Whether it may listen beyond this machine without API keys.
    pub allow_unauthenticated: bool,
    /// Whether a key is needed even while none exists.
    pub auth_required: bool,
    /// Names that `Host` may have besides those of this machine.
    pub allowed_hosts: Vec<String>,
    /// Requests that one key may make in a second; 0: any number.
    pub key_requests_per_second: u32,
    /// The certificate chain to speak TLS with, in PEM.
    pub tls_cert: Option<PathBuf>,
    /// Its private key, in PEM.
    pub tls_key: Option<PathBuf>,
    /// The folder of reports of the validation suite.
    pub reports: PathBuf,
    /// The key that client commands bring.
    pub api_key: Option<SecretString>,
    /// The server that client commands talk to.
    pub url: Option<String>,
    /// Where the embedded engine keeps its data.
    pub data: PathBuf,
    /// The directory of agent files.
    pub agents: PathBuf,
    /// Which backends.
    pub engine: Engine,
    /// How long events and idempotency keys are kept.
    pub retention: Duration,
    /// How long ended tasks and idle conversations are kept; `None`: for ever.
    pub task_retention: Option<Duration>,
    /// How long the ledger of model calls is kept; `None`: for ever.
    pub usage_retention: Option<Duration>,
    /// A price file whose models come before those that Agentry knows.
    pub prices: Option<PathBuf>,
    /// PostgreSQL; see [`Settings::cluster`].
    pub postgres_url: Option<SecretString>,
    /// The schema of the tables.
    pub postgres_schema: String,
    /// Connections to PostgreSQL at most.
    pub postgres_connections: usize,
    /// Redis; without it nothing is cached.
    pub redis_url: Option<SecretString>,
    /// RabbitMQ; see [`Settings::cluster`].
    pub rabbitmq_url: Option<SecretString>,
    /// What names of exchanges and queues begin with.
    pub rabbitmq_prefix: String,
    /// Queues for each mode.
    pub rabbitmq_shards: u16,
    /// What this process does, in order and each once.
    pub roles: Vec<Role>,
    /// Modes whose tasks its workers execute.
    pub modes: ModeSet,
    /// Tasks executed at once at most.
    pub slots: u32,
    /// Tasks waiting at most; more are refused.
    pub max_queued: u64,
    /// The largest request body, in bytes.
    pub max_body_bytes: usize,
    /// How long running work may take to end after SIGTERM.
    pub drain: Duration,
    /// What is logged, as a filter of `tracing`.
    pub log: String,
    /// How it is logged.
    pub log_format: LogFormat,
    /// Traces.
    pub traces: TraceSettings,
    /// Signs callbacks; without it they are not signed.
    pub callback_secret: Option<SecretString>,
    /// Slack.
    pub slack: SlackSettings,
    /// The key for OpenAI and what is compatible with it.
    pub openai_api_key: Option<SecretString>,
    /// Another host for provider `openai`.
    pub openai_base_url: Option<String>,
    /// All other providers, and how they are called.
    pub providers: ProviderSettings,
    /// Whether every provider is answered by the simulators.
    pub sim: bool,
}
