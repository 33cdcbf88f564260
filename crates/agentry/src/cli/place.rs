//! Commands that run on this machine: server, single task, demo, and chores for files and data.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::ReadArgs;
use crate::render::OutputFormat;

/// The fleet of a local command. Every flag is a setting and overrides the environment and agentry.toml.
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
    /// Simulate every provider: no key is needed and nothing leaves the machine
    #[arg(long)]
    pub sim: bool,
    /// Send all provider calls to this simulator or compatible server, each in its own protocol
    #[arg(long, value_name = "URL", conflicts_with = "sim")]
    #[serde(skip)]
    pub sim_url: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    pub providers: ProviderArgs,
}

/// Model providers. Keys have no flags: command lines are visible to every process of a machine.
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
    /// Rate limits of models, such as "openai/gpt-6-sol rpm=500 tpm=200000, anthropic/* concurrent=8"
    /// [env: AGENTRY_LLM_LIMITS]
    #[arg(long, value_name = "LIST")]
    pub llm_limits: Option<String>,
    /// Timeout of connecting, in seconds [env: AGENTRY_LLM_CONNECT_TIMEOUT] [default: 5]
    #[arg(long, value_name = "SECONDS")]
    pub llm_connect_timeout: Option<String>,
    /// Timeout of the first token of a stream, in seconds [env: AGENTRY_LLM_FIRST_TOKEN_TIMEOUT] [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub llm_first_token_timeout: Option<String>,
    /// Timeout between tokens of a stream, in seconds [env: AGENTRY_LLM_TOKEN_TIMEOUT] [default: 60]
    #[arg(long, value_name = "SECONDS")]
    pub llm_token_timeout: Option<String>,
}

/// `serve`. Its fields are named like their settings.
#[derive(Debug, Args, Serialize)]
pub struct ServeArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub place: LocalArgs,
    /// Address to listen on; port 0 takes a free one [env: AGENTRY_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Listen beyond loopback without API keys: everybody who can reach the address may run agents
    #[arg(long)]
    pub allow_unauthenticated: bool,
    /// When to require an API key: auto (as soon as one exists) or required [env: AGENTRY_AUTH] [default: auto]
    #[arg(long, value_name = "WHEN")]
    pub auth: Option<String>,
    /// Additional allowed values of `Host`, separated by commas [env: AGENTRY_ALLOWED_HOSTS]
    #[arg(long, value_name = "NAMES")]
    pub allowed_hosts: Option<String>,
    /// Most requests per second and key; 0 means no limit [env: AGENTRY_KEY_REQUESTS_PER_SECOND] [default: 1000]
    #[arg(long, value_name = "N")]
    pub key_requests_per_second: Option<String>,
    /// Folder of the reports in the dashboard [env: AGENTRY_REPORTS] [default: bench-reports]
    #[arg(long, value_name = "DIR")]
    pub reports: Option<String>,
    /// Certificate chain for TLS, a PEM file [env: AGENTRY_TLS_CERT]
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<String>,
    /// Its private key, a PEM file [env: AGENTRY_TLS_KEY]
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<String>,
    /// Backends: embedded, or cluster (PostgreSQL at AGENTRY_POSTGRES_URL, RabbitMQ at AGENTRY_RABBITMQ_URL, optionally
    /// Redis at AGENTRY_REDIS_URL) [env: AGENTRY_ENGINE] [default: embedded]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
    /// Schema of the cluster's tables [env: AGENTRY_POSTGRES_SCHEMA] [default: agentry]
    #[arg(long, value_name = "NAME")]
    pub postgres_schema: Option<String>,
    /// Most connections of this process to PostgreSQL [env: AGENTRY_POSTGRES_CONNECTIONS] [default: 8]
    #[arg(long, value_name = "N")]
    pub postgres_connections: Option<String>,
    /// Prefix of names on RabbitMQ [env: AGENTRY_RABBITMQ_PREFIX] [default: agentry]
    #[arg(long, value_name = "NAME")]
    pub rabbitmq_prefix: Option<String>,
    /// Queues per mode; must be the same for all processes [env: AGENTRY_RABBITMQ_SHARDS] [default: 2]
    #[arg(long, value_name = "N")]
    pub rabbitmq_shards: Option<String>,
    /// Retention of events and idempotency keys [env: AGENTRY_RETENTION] [default: 24h]
    #[arg(long, value_name = "TIME")]
    pub retention: Option<String>,
    /// Retention of ended tasks and idle sessions [env: AGENTRY_TASK_RETENTION] [default: 90d]
    #[arg(long, value_name = "TIME")]
    pub task_retention: Option<String>,
    /// Retention of the usage ledger [env: AGENTRY_USAGE_RETENTION] [default: 400d]
    #[arg(long, value_name = "TIME")]
    pub usage_retention: Option<String>,
    /// Price file that overrides the built-in prices [env: AGENTRY_PRICES]
    #[arg(long, value_name = "FILE")]
    pub prices: Option<String>,
    /// URL of Slack's Web API [env: AGENTRY_SLACK_API_URL] [default: https://slack.com/api]
    #[arg(long, value_name = "URL")]
    pub slack_api_url: Option<String>,
    /// Slack routes, separated by commas, before subscriptions: C0123=agent, T0123/C0456=agent, /command=agent
    /// [env: AGENTRY_SLACK_ROUTES]
    #[arg(long, value_name = "ROUTES")]
    pub slack_routes: Option<String>,
    /// Workspace and channel for questions of tasks that did not come from Slack: T0123/C0456 [env: AGENTRY_SLACK_QUESTIONS]
    #[arg(long, value_name = "PLACE")]
    pub slack_questions: Option<String>,
    /// Time after which Slack is reminded of an open question [env: AGENTRY_SLACK_REMINDER] [default: never]
    #[arg(long, value_name = "TIME")]
    pub slack_reminder: Option<String>,
    /// Roles of this process, separated by commas [env: AGENTRY_ROLE] [default: api,slack,scheduler,worker]
    #[arg(long, value_name = "ROLES")]
    pub role: Option<String>,
    /// Execution modes of its worker, separated by commas [env: AGENTRY_MODE] [default: all four]
    #[arg(long, value_name = "MODES")]
    pub mode: Option<String>,
    /// Most concurrently executed tasks [env: AGENTRY_SLOTS] [default: 1024]
    #[arg(long, value_name = "N")]
    pub slots: Option<String>,
    /// Most queued tasks; more are refused [env: AGENTRY_MAX_QUEUED] [default: 1000000]
    #[arg(long, value_name = "N")]
    pub max_queued: Option<String>,
    /// Largest request body [env: AGENTRY_MAX_BODY_BYTES] [default: 1MiB]
    #[arg(long, value_name = "BYTES")]
    pub max_body_bytes: Option<String>,
    /// Seconds that running tasks get to finish after SIGTERM [env: AGENTRY_DRAIN] [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub drain: Option<String>,
    /// Log filter, such as warn or info,agentry_store=debug [env: AGENTRY_LOG] [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// Log format: text or json [env: AGENTRY_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Collector of spans (OTLP over HTTP) [env: OTEL_EXPORTER_OTLP_ENDPOINT]
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Service name in spans [env: OTEL_SERVICE_NAME] [default: agentry]
    #[arg(long, value_name = "NAME")]
    pub trace_service: Option<String>,
    /// Sampler of traces [env: OTEL_TRACES_SAMPLER] [default: parentbased_always_on]
    #[arg(long, value_name = "SAMPLER")]
    pub trace_sampler: Option<String>,
    /// Share of traces that traceidratio samples [env: OTEL_TRACES_SAMPLER_ARG] [default: 1]
    #[arg(long, value_name = "SHARE")]
    pub trace_share: Option<String>,
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunTaskArgs {
    /// The agent
    pub agent: String,
    /// The input: text, or JSON with --json
    pub input: String,
    /// Read the input as JSON
    #[arg(long)]
    pub json: bool,
    /// Session key (continuous agents)
    #[arg(long, value_name = "KEY")]
    pub session: Option<String>,
    /// Wait for the end and print the output (implied without a server)
    #[arg(long)]
    pub wait: bool,
    /// Print the output while it is generated
    #[arg(long)]
    pub stream: bool,
    /// Address of a server; without one the task runs inside this process [env: AGENTRY_URL]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Record all model and tool calls in this file, without secrets (inside this process, on fresh data)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["replay", "url"])]
    pub record: Option<PathBuf>,
    /// Replay all model and tool calls from this recording; a call that is not in it fails with the first difference
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "sim", "sim_url"])]
    pub replay: Option<PathBuf>,
    /// API key, if the server requires one [env: AGENTRY_API_KEY]
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: OutputFormat,
    #[command(flatten)]
    pub place: LocalArgs,
}

/// `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Backends: embedded, or cluster with the servers at AGENTRY_POSTGRES_URL, AGENTRY_RABBITMQ_URL and
    /// AGENTRY_REDIS_URL, or at their default ports [default: embedded]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
    /// table: live lines; json or yaml: one object at the end
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: OutputFormat,
    /// Keep the server running until Ctrl-C
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
    /// Output file, or folder for files of the same names [default: standard output]
    #[arg(short, long, value_name = "PATH", conflicts_with = "write")]
    pub output: Option<PathBuf>,
    /// Change the files in place; invalid ones are not changed
    #[arg(long)]
    pub write: bool,
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub place: LocalArgs,
    /// Backends to check: embedded or cluster [env: AGENTRY_ENGINE] [default: embedded]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
    #[command(flatten)]
    pub reading: ReadArgs,
}

/// `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Data folder of the stopped server [env: AGENTRY_DATA] [default: data]
    #[arg(long, value_name = "DIR")]
    pub from: Option<String>,
    /// Target: postgres://user:password@host:5432/database [env: AGENTRY_POSTGRES_URL]
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// Schema of the target, which must be empty [env: AGENTRY_POSTGRES_SCHEMA] [default: agentry]
    #[arg(long, value_name = "NAME")]
    pub postgres_schema: Option<String>,
    /// Read and count rows without changing anything
    #[arg(long)]
    pub dry_run: bool,
    /// Output format
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: OutputFormat,
}
