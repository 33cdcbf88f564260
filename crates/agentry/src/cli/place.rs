//! Verbs that run on this machine, and where: a server, one task, the demo, and chores around files and data.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::ReadArgs;
use crate::render::Format;

/// Where a fleet runs and on what. Every flag is a setting: it wins over the environment and agentry.toml.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub struct LocalArgs {
    /// Settings file [env: AGENTRY_CONFIG] [default: agentry.toml, when there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<String>,
    /// Folder of agent files [env: AGENTRY_AGENTS] [default: agents]
    #[arg(long, value_name = "DIR")]
    pub agents: Option<String>,
    /// Folder of the data [env: AGENTRY_DATA] [default: data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// Answer every provider by the simulator: no key is needed and nothing leaves the machine
    #[arg(long)]
    pub sim: bool,
    /// Send the calls of every provider to this simulator or compatible server, each by its own protocol
    #[arg(long, value_name = "URL", conflicts_with = "sim")]
    #[serde(skip)]
    pub sim_url: Option<String>,
    /// Its models.
    #[command(flatten)]
    #[serde(flatten)]
    pub providers: ProviderArgs,
}

/// How model providers are reached. Keys have no flags: a command line is visible to every process of a machine.
#[derive(Debug, Clone, Default, Args, Serialize)]
#[command(next_help_heading = "Model providers")]
pub struct ProviderArgs {
    /// Another host for provider openai [env: OPENAI_BASE_URL]
    #[arg(long, value_name = "URL")]
    pub openai_base_url: Option<String>,
    /// Another host for provider anthropic [env: ANTHROPIC_BASE_URL]
    #[arg(long, value_name = "URL")]
    pub anthropic_base_url: Option<String>,
    /// Another host for provider bedrock [env: AWS_ENDPOINT_URL_BEDROCK_RUNTIME]
    #[arg(long, value_name = "URL")]
    pub bedrock_base_url: Option<String>,
    /// The region for provider bedrock [env: AWS_REGION]
    #[arg(long, value_name = "REGION")]
    pub aws_region: Option<String>,
    /// The host for provider ollama [env: OLLAMA_HOST] [default: http://127.0.0.1:11434]
    #[arg(long, value_name = "URL")]
    pub ollama_base_url: Option<String>,
    /// What models may be asked for, such as "openai/gpt-4.1 rpm=500 tpm=200000, anthropic/* concurrent=8"
    /// [env: AGENTRY_LLM_LIMITS]
    #[arg(long, value_name = "LIST")]
    pub llm_limits: Option<String>,
    /// Seconds to open a connection [env: AGENTRY_LLM_CONNECT_TIMEOUT] [default: 5]
    #[arg(long, value_name = "SECONDS")]
    pub llm_connect_timeout: Option<String>,
    /// Seconds until the first token of a stream [env: AGENTRY_LLM_FIRST_TOKEN_TIMEOUT] [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub llm_first_token_timeout: Option<String>,
    /// The longest silence within a stream, in seconds [env: AGENTRY_LLM_TOKEN_TIMEOUT] [default: 60]
    #[arg(long, value_name = "SECONDS")]
    pub llm_token_timeout: Option<String>,
}

/// `serve`. Its fields are named like their settings.
#[derive(Debug, Args, Serialize)]
pub struct ServeArgs {
    /// Where.
    #[command(flatten)]
    #[serde(flatten)]
    pub place: LocalArgs,
    /// Address to listen on; port 0 takes a free one [env: AGENTRY_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Listen beyond this machine without API keys: whoever reaches the address may run agents
    #[arg(long)]
    pub allow_unauthenticated: bool,
    /// When an API key is needed: auto (as soon as one exists) or required [env: AGENTRY_AUTH] [default: auto]
    #[arg(long, value_name = "WHEN")]
    pub auth: Option<String>,
    /// Names, by commas, that `Host` may have besides this machine's [env: AGENTRY_ALLOWED_HOSTS]
    #[arg(long, value_name = "NAMES")]
    pub allowed_hosts: Option<String>,
    /// Requests of one key in a second at most; 0 is any number [env: AGENTRY_KEY_REQUESTS_PER_SECOND] [default: 1000]
    #[arg(long, value_name = "N")]
    pub key_requests_per_second: Option<String>,
    /// Folder of reports that the dashboard shows [env: AGENTRY_REPORTS] [default: bench-reports]
    #[arg(long, value_name = "DIR")]
    pub reports: Option<String>,
    /// Certificate chain to speak TLS with, a PEM file [env: AGENTRY_TLS_CERT]
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<String>,
    /// Its private key, a PEM file [env: AGENTRY_TLS_KEY]
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<String>,
    /// Backends: embedded, or cluster (PostgreSQL and RabbitMQ by AGENTRY_POSTGRES_URL and AGENTRY_RABBITMQ_URL, a
    /// cache by AGENTRY_REDIS_URL) [env: AGENTRY_ENGINE] [default: embedded]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
    /// Schema of the cluster's tables [env: AGENTRY_POSTGRES_SCHEMA] [default: agentry]
    #[arg(long, value_name = "NAME")]
    pub postgres_schema: Option<String>,
    /// Connections of this process to PostgreSQL at most [env: AGENTRY_POSTGRES_CONNECTIONS] [default: 8]
    #[arg(long, value_name = "N")]
    pub postgres_connections: Option<String>,
    /// What names on RabbitMQ begin with [env: AGENTRY_RABBITMQ_PREFIX] [default: agentry]
    #[arg(long, value_name = "NAME")]
    pub rabbitmq_prefix: Option<String>,
    /// Queues for each mode; the same for all processes [env: AGENTRY_RABBITMQ_SHARDS] [default: 2]
    #[arg(long, value_name = "N")]
    pub rabbitmq_shards: Option<String>,
    /// How long events and idempotency keys are kept [env: AGENTRY_RETENTION] [default: 24h]
    #[arg(long, value_name = "TIME")]
    pub retention: Option<String>,
    /// How long ended tasks and idle conversations are kept [env: AGENTRY_TASK_RETENTION] [default: 90d]
    #[arg(long, value_name = "TIME")]
    pub task_retention: Option<String>,
    /// How long the ledger of model calls is kept [env: AGENTRY_USAGE_RETENTION] [default: 400d]
    #[arg(long, value_name = "TIME")]
    pub usage_retention: Option<String>,
    /// A price file whose models come before the built-in ones [env: AGENTRY_PRICES]
    #[arg(long, value_name = "FILE")]
    pub prices: Option<String>,
    /// Where Slack's Web API is [env: AGENTRY_SLACK_API_URL] [default: https://slack.com/api]
    #[arg(long, value_name = "URL")]
    pub slack_api_url: Option<String>,
    /// Who answers where, by commas, before subscriptions: C0123=agent, T0123/C0456=agent, /command=agent
    /// [env: AGENTRY_SLACK_ROUTES]
    #[arg(long, value_name = "ROUTES")]
    pub slack_routes: Option<String>,
    /// Workspace and channel of questions whose task did not come from Slack: T0123/C0456 [env: AGENTRY_SLACK_QUESTIONS]
    #[arg(long, value_name = "PLACE")]
    pub slack_questions: Option<String>,
    /// After how long an open question is asked once more in Slack [env: AGENTRY_SLACK_REMINDER] [default: never]
    #[arg(long, value_name = "TIME")]
    pub slack_reminder: Option<String>,
    /// What this process does, by commas [env: AGENTRY_ROLE] [default: api,slack,scheduler,worker]
    #[arg(long, value_name = "ROLES")]
    pub role: Option<String>,
    /// Modes whose tasks it executes, by commas [env: AGENTRY_MODE] [default: all four]
    #[arg(long, value_name = "MODES")]
    pub mode: Option<String>,
    /// Tasks executed at once at most [env: AGENTRY_SLOTS] [default: 1024]
    #[arg(long, value_name = "N")]
    pub slots: Option<String>,
    /// Tasks that may wait; more are refused [env: AGENTRY_MAX_QUEUED] [default: 1000000]
    #[arg(long, value_name = "N")]
    pub max_queued: Option<String>,
    /// The largest request body [env: AGENTRY_MAX_BODY_BYTES] [default: 1MiB]
    #[arg(long, value_name = "BYTES")]
    pub max_body_bytes: Option<String>,
    /// Seconds that running tasks may take to end after SIGTERM [env: AGENTRY_DRAIN] [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub drain: Option<String>,
    /// What is logged, such as warn or info,agentry_store=debug [env: AGENTRY_LOG] [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// How it is logged: text or json [env: AGENTRY_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// The collector of spans (OTLP over HTTP) [env: OTEL_EXPORTER_OTLP_ENDPOINT]
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// The service that spans are of [env: OTEL_SERVICE_NAME] [default: agentry]
    #[arg(long, value_name = "NAME")]
    pub trace_service: Option<String>,
    /// Which traces have spans [env: OTEL_TRACES_SAMPLER] [default: parentbased_always_on]
    #[arg(long, value_name = "SAMPLER")]
    pub trace_sampler: Option<String>,
    /// The share of traces that traceidratio keeps [env: OTEL_TRACES_SAMPLER_ARG] [default: 1]
    #[arg(long, value_name = "SHARE")]
    pub trace_share: Option<String>,
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The agent
    pub agent: String,
    /// What is asked: text, or JSON with --json
    pub input: String,
    /// Read the input as JSON
    #[arg(long)]
    pub json: bool,
    /// The conversation it belongs to (continuous agents)
    #[arg(long, value_name = "KEY")]
    pub session: Option<String>,
    /// Wait for the end and print the answer (always so inside this process)
    #[arg(long)]
    pub wait: bool,
    /// Print the answer while it is written
    #[arg(long)]
    pub stream: bool,
    /// A running server's address; without one the task runs inside this process [env: AGENTRY_URL]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Record every call of a model or tool in this file, without secrets (inside this process, on fresh data)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["replay", "url"])]
    pub record: Option<PathBuf>,
    /// Answer every call of a model or tool from this recording; a call that is not in it is an error that shows the
    /// first difference
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "sim", "sim_url"])]
    pub replay: Option<PathBuf>,
    /// The API key, where the server asks for one [env: AGENTRY_API_KEY]
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
    /// Where, inside this process.
    #[command(flatten)]
    pub place: LocalArgs,
}

/// `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Backends: embedded or cluster, the latter on servers at AGENTRY_POSTGRES_URL, AGENTRY_RABBITMQ_URL and
    /// AGENTRY_REDIS_URL or the usual ports of this machine [default: embedded]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
    /// table: live lines; json or yaml: one object at the end
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
    /// Leave the server up until Ctrl-C
    #[arg(long)]
    pub keep: bool,
}

/// `validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Agent files, or folders of them
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

/// `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Agent files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where the new text goes: a file, or a folder for files of the same names [default: standard output]
    #[arg(short, long, value_name = "PATH", conflicts_with = "write")]
    pub output: Option<PathBuf>,
    /// Change the files themselves; one that cannot be used is left as it is
    #[arg(long)]
    pub write: bool,
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Where.
    #[command(flatten)]
    pub place: LocalArgs,
    /// Backends to check: embedded or cluster [env: AGENTRY_ENGINE] [default: embedded]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
    /// The server.
    #[command(flatten)]
    pub reading: ReadArgs,
}

/// `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Data folder of the stopped server [env: AGENTRY_DATA] [default: data]
    #[arg(long, value_name = "DIR")]
    pub from: Option<String>,
    /// Where to: postgres://user:password@host:5432/database [env: AGENTRY_POSTGRES_URL]
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// Schema there, which must be empty [env: AGENTRY_POSTGRES_SCHEMA] [default: agentry]
    #[arg(long, value_name = "NAME")]
    pub postgres_schema: Option<String>,
    /// Read and count, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}
