//! Every setting, declared once: name, environment variable, key in `agentry.toml`, default, description and parser.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::value::{
    Parsed, bytes, choice, hosts, modes, name, number, ollama_host, region, roles, seconds, server_address,
    some_seconds, span, span_or_forever, web_address,
};
use super::{Engine, LogFormat, Settings, slack, traces};

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Name; also the flag without the dashes.
    pub name: &'static str,
    /// Environment variable.
    pub env: &'static str,
    /// Key in `agentry.toml`.
    pub toml: &'static str,
    /// Default as text; empty if there is none.
    pub default: &'static str,
    /// Description, in Markdown.
    pub description: &'static str,
    pub(super) apply: fn(&mut Settings, &str) -> Parsed<()>,
}

/// URL schemes of PostgreSQL, and an example.
const POSTGRES: (&[&str], &str) = (&["postgres://", "postgresql://"], "postgres://user:password@host:5432/database");
/// URL schemes of Redis, and an example.
const REDIS: (&[&str], &str) = (&["redis://"], "redis://:password@host:6379/0");
/// URL schemes of RabbitMQ, and an example.
const RABBITMQ: (&[&str], &str) = (&["amqp://"], "amqp://user:password@host:5672/vhost");

macro_rules! keys {
    ($( $name:literal, $env:literal, $toml:literal, $default:literal, $description:literal, $apply:expr; )*) => {
        /// All settings.
        pub const KEYS: &[Key] = &[ $( Key {
            name: $name, env: $env, toml: $toml, default: $default, description: $description, apply: $apply,
        } ),* ];
    };
}

keys! {
    "config", "AGENTRY_CONFIG", "", "agentry.toml",
        "The settings file. The default may be absent; a file that is named must exist.",
        |s, v| { s.config = v.into(); Ok(()) };
    "listen", "AGENTRY_LISTEN", "server.listen", "127.0.0.1:8080",
        "Address and port the server listens on; port 0 takes a free one.",
        |s, v| { s.listen = address(v)?; Ok(()) };
    "allow-unauthenticated", "AGENTRY_ALLOW_UNAUTHENTICATED", "server.allow_unauthenticated", "false",
        "Listens beyond this machine without API keys. Whoever reaches the address may then run agents, spend money and \
         read everything: only behind a proxy that authenticates, or in a network that nobody else is in. `Host` must be an \
         address, localhost or one of the allowed hosts.",
        |s, v| { s.allow_unauthenticated = choice(v, &[("true", true), ("false", false)])?; Ok(()) };
    "auth", "AGENTRY_AUTH", "server.auth", "auto",
        "auto: an API key is needed as soon as one exists; required: always.",
        |s, v| { s.auth_required = choice(v, &[("auto", false), ("required", true)])?; Ok(()) };
    "allowed-hosts", "AGENTRY_ALLOWED_HOSTS", "server.allowed_hosts", "",
        "Names, by commas, that `Host` may have besides this machine's: of a proxy before a server of this machine, or of a \
         server that answers without keys.",
        |s, v| { s.allowed_hosts = hosts(v)?; Ok(()) };
    "key-requests-per-second", "AGENTRY_KEY_REQUESTS_PER_SECOND", "server.key_requests_per_second", "1000",
        "Requests that one API key may make in a second to one process; 0 is any number.",
        |s, v| { s.key_requests_per_second = number(v, 0, 1_000_000)?; Ok(()) };
    "tls-cert", "AGENTRY_TLS_CERT", "server.tls_cert", "",
        "The certificate chain to speak TLS with, a PEM file; together with tls-key.",
        |s, v| { s.tls_cert = Some(v.into()); Ok(()) };
    "tls-key", "AGENTRY_TLS_KEY", "server.tls_key", "",
        "The private key of tls-cert, a PEM file.",
        |s, v| { s.tls_key = Some(v.into()); Ok(()) };
    "reports", "AGENTRY_REPORTS", "server.reports", "bench-reports",
        "The folder of reports of the validation suite that the dashboard shows: NAME/report.html.",
        |s, v| { s.reports = v.into(); Ok(()) };
    "api-key", "AGENTRY_API_KEY", "client.api_key", "",
        "The API key that client commands bring.",
        |s, v| { s.api_key = Some(v.to_owned().into()); Ok(()) };
    "max-body-bytes", "AGENTRY_MAX_BODY_BYTES", "server.max_body_bytes", "1MiB",
        "The largest request body; larger ones are refused with 413.",
        |s, v| { s.max_body_bytes = bytes(v)?; Ok(()) };
    "drain", "AGENTRY_DRAIN", "server.drain", "30",
        "Seconds that running work may take to end, or to be handed back, after SIGTERM.",
        |s, v| { s.drain = seconds(v)?; Ok(()) };
    "url", "AGENTRY_URL", "client.url", "",
        "The server that client commands talk to, for example http://127.0.0.1:8080.",
        |s, v| { s.url = Some(web_address(v)?); Ok(()) };
    "agents", "AGENTRY_AGENTS", "fleet.agents", "agents",
        "The directory of agent files.",
        |s, v| { s.agents = v.into(); Ok(()) };
    "engine", "AGENTRY_ENGINE", "engine.kind", "embedded",
        "Which backends: embedded (no server needed) or cluster.",
        |s, v| { s.engine = choice(v, &[("embedded", Engine::Embedded), ("cluster", Engine::Cluster)])?; Ok(()) };
    "data", "AGENTRY_DATA", "engine.data", "data",
        "Where the embedded engine keeps its data; one process per directory.",
        |s, v| { s.data = v.into(); Ok(()) };
    "retention", "AGENTRY_RETENTION", "engine.retention", "24h",
        "How long events and idempotency keys are kept: 24h or more, such as 36h or 7d.",
        |s, v| { s.retention = span(v)?; Ok(()) };
    "task-retention", "AGENTRY_TASK_RETENTION", "engine.task_retention", "90d",
        "How long ended tasks with their journals, closed dead letters, and conversations that nobody touches are kept: 24h \
         or more, such as 30d, or `forever`. Never shorter than `retention`.",
        |s, v| { s.task_retention = span_or_forever(v)?; Ok(()) };
    "usage-retention", "AGENTRY_USAGE_RETENTION", "engine.usage_retention", "400d",
        "How long the ledger of model calls is kept, from which usage is summed: 24h or more, such as 800d, or `forever`.",
        |s, v| { s.usage_retention = span_or_forever(v)?; Ok(()) };
    "prices", "AGENTRY_PRICES", "usage.prices", "",
        "A price file (TOML) whose models come before those that Agentry knows; docs/providers.md has its form.",
        |s, v| { s.prices = Some(v.into()); Ok(()) };
    "postgres-url", "AGENTRY_POSTGRES_URL", "postgres.url", "",
        "The PostgreSQL server of the cluster engine (15 or newer): postgres://user:password@host:5432/database.",
        |s, v| { s.postgres_url = Some(server_address(v, POSTGRES)?); Ok(()) };
    "postgres-schema", "AGENTRY_POSTGRES_SCHEMA", "postgres.schema", "agentry",
        "The schema that holds the tables: one for each deployment that shares a database.",
        |s, v| { s.postgres_schema = name(v, "_")?; Ok(()) };
    "postgres-connections", "AGENTRY_POSTGRES_CONNECTIONS", "postgres.connections", "8",
        "Connections of this process to PostgreSQL at most; the server's max_connections must hold those of all processes.",
        |s, v| { s.postgres_connections = number(v, 2, 500)?; Ok(()) };
    "redis-url", "AGENTRY_REDIS_URL", "redis.url", "",
        "The Redis server (6 or newer) that caches what PostgreSQL holds: redis://:password@host:6379/0. Without it \
         nothing is cached.",
        |s, v| { s.redis_url = Some(server_address(v, REDIS)?); Ok(()) };
    "rabbitmq-url", "AGENTRY_RABBITMQ_URL", "rabbitmq.url", "",
        "The RabbitMQ server of the cluster engine (3.10 or newer): amqp://user:password@host:5672/vhost.",
        |s, v| { s.rabbitmq_url = Some(server_address(v, RABBITMQ)?); Ok(()) };
    "rabbitmq-prefix", "AGENTRY_RABBITMQ_PREFIX", "rabbitmq.prefix", "agentry",
        "What the names of exchanges and queues begin with: one for each deployment that shares a virtual host.",
        |s, v| { s.rabbitmq_prefix = name(v, "_-.")?; Ok(()) };
    "rabbitmq-shards", "AGENTRY_RABBITMQ_SHARDS", "rabbitmq.shards", "2",
        "Queues for each mode, whatever the number of agents; the same for all processes of a deployment.",
        |s, v| { s.rabbitmq_shards = number(v, 1, 64)?; Ok(()) };
    "role", "AGENTRY_ROLE", "worker.roles", "api,slack,scheduler,worker",
        "What this process does: any of api, slack, scheduler and worker.",
        |s, v| { s.roles = roles(v)?; Ok(()) };
    "mode", "AGENTRY_MODE", "worker.modes", "autonomous,continuous,collaborative,scheduled",
        "Modes whose tasks this process executes.",
        |s, v| { s.modes = modes(v)?; Ok(()) };
    "slots", "AGENTRY_SLOTS", "worker.slots", "1024",
        "Tasks that this process executes at once at most.",
        |s, v| { s.slots = number(v, 1, 1_000_000)?; Ok(()) };
    "max-queued", "AGENTRY_MAX_QUEUED", "worker.max_queued", "1000000",
        "Tasks that may wait; further ones are refused with 429.",
        |s, v| { s.max_queued = number(v, 1, 1_000_000_000)?; Ok(()) };
    "log", "AGENTRY_LOG", "log.filter", "info",
        "What is logged: error, warn, info, debug or trace, or a filter such as info,agentry_store=debug.",
        |s, v| { s.log = v.to_owned(); Ok(()) };
    "log-format", "AGENTRY_LOG_FORMAT", "log.format", "text",
        "How it is logged: text for people, json for machines.",
        |s, v| { s.log_format = choice(v, &[("text", LogFormat::Text), ("json", LogFormat::Json)])?; Ok(()) };
    "otlp-endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT", "traces.endpoint", "",
        "The collector that spans are sent to over OTLP (HTTP, protobuf): http://127.0.0.1:4318, without /v1/traces. Without it \
         there are no spans.",
        |s, v| { s.traces.endpoint = Some(web_address(v)?); Ok(()) };
    "trace-service", "OTEL_SERVICE_NAME", "traces.service", "agentry",
        "The service that spans are of.",
        |s, v| { s.traces.service = v.to_owned(); Ok(()) };
    "trace-sampler", "OTEL_TRACES_SAMPLER", "traces.sampler", "parentbased_always_on",
        "Which traces have spans: always_on, always_off or traceidratio; after `parentbased_` a caller's flag comes first.",
        |s, v| { s.traces.sampler = traces::sampler(v)?; Ok(()) };
    "trace-share", "OTEL_TRACES_SAMPLER_ARG", "traces.sampler_arg", "1",
        "The share of traces that traceidratio keeps, from 0 to 1.",
        |s, v| { s.traces.share = traces::share(v)?; Ok(()) };
    "callback-secret", "AGENTRY_CALLBACK_SECRET", "callbacks.secret", "",
        "Signs callbacks (Standard Webhooks); without it they are not signed.",
        |s, v| { s.callback_secret = Some(v.to_owned().into()); Ok(()) };
    "slack-signing-secret", "AGENTRY_SLACK_SIGNING_SECRET", "slack.signing_secrets", "",
        "The signing secret of the Slack app whose requests are taken; several by commas. Without it none are.",
        |s, v| { s.slack.signing_secrets = slack::signing_secrets(v)?; Ok(()) };
    "slack-bot-token", "AGENTRY_SLACK_BOT_TOKEN", "slack.bot_tokens", "",
        "The bot token that answers are posted with (xoxb-…); with several workspaces T0123ABCD=xoxb-… by commas.",
        |s, v| { s.slack.bot_tokens = slack::bot_tokens(v)?; Ok(()) };
    "slack-api-url", "AGENTRY_SLACK_API_URL", "slack.api_url", "https://slack.com/api",
        "Where Slack's Web API is.",
        |s, v| { s.slack.api_url = web_address(v)?; Ok(()) };
    "slack-routes", "AGENTRY_SLACK_ROUTES", "slack.routes", "",
        "Who answers where, before subscriptions: T0123=agent, C0123=agent, T0123/C0456=agent or /command=agent, by commas.",
        |s, v| { s.slack.routes = slack::routes(v)?; Ok(()) };
    "slack-questions", "AGENTRY_SLACK_QUESTIONS", "slack.questions", "",
        "Workspace and channel (T0123/C0456) where questions of tasks are asked that did not come from Slack.",
        |s, v| { s.slack.questions = Some(slack::questions(v)?); Ok(()) };
    "slack-reminder", "AGENTRY_SLACK_REMINDER", "slack.reminder", "",
        "After how long an open question is asked once more in Slack, such as 4h; never when absent.",
        |s, v| { s.slack.reminder = Some(slack::reminder(v)?); Ok(()) };
    "openai-api-key", "OPENAI_API_KEY", "openai.api_key", "",
        "The key for provider openai.",
        |s, v| { s.openai_api_key = Some(v.to_owned().into()); Ok(()) };
    "openai-base-url", "OPENAI_BASE_URL", "openai.base_url", "",
        "Another host for provider openai; an agent's own base_url comes first.",
        |s, v| { s.openai_base_url = Some(web_address(v)?); Ok(()) };
    "anthropic-api-key", "ANTHROPIC_API_KEY", "anthropic.api_key", "",
        "The key for provider anthropic.",
        |s, v| { s.providers.anthropic_api_key = Some(v.to_owned().into()); Ok(()) };
    "anthropic-base-url", "ANTHROPIC_BASE_URL", "anthropic.base_url", "",
        "Another host for provider anthropic; an agent's own base_url comes first.",
        |s, v| { s.providers.anthropic_base_url = Some(web_address(v)?); Ok(()) };
    "bedrock-api-key", "AWS_BEARER_TOKEN_BEDROCK", "bedrock.api_key", "",
        "The key for provider bedrock. Without it calls are signed with AWS credentials; see providers.md for where they come from.",
        |s, v| { s.providers.bedrock_api_key = Some(v.to_owned().into()); Ok(()) };
    "bedrock-base-url", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "bedrock.base_url", "",
        "Another host for provider bedrock, for example a VPC endpoint; an agent's own base_url comes first.",
        |s, v| { s.providers.bedrock_base_url = Some(web_address(v)?); Ok(()) };
    "aws-region", "AWS_REGION", "bedrock.region", "",
        "The region for provider bedrock; an agent's own region comes first, AWS_DEFAULT_REGION and the AWS profile's come after.",
        |s, v| { s.providers.aws_region = Some(region(v)?); Ok(()) };
    "ollama-base-url", "OLLAMA_HOST", "ollama.base_url", "http://127.0.0.1:11434",
        "The host for provider ollama, as Ollama itself takes it; an agent's own base_url comes first.",
        |s, v| { s.providers.ollama_base_url = Some(ollama_host(v)?); Ok(()) };
    "ollama-api-key", "OLLAMA_API_KEY", "ollama.api_key", "",
        "The key for provider ollama, where its host wants one.",
        |s, v| { s.providers.ollama_api_key = Some(v.to_owned().into()); Ok(()) };
    "llm-limits", "AGENTRY_LLM_LIMITS", "llm.limits", "",
        "What models may be asked for, as a list: `openai/gpt-6-sol rpm=500 tpm=200000 concurrent=32`, or `anthropic/* rpm=50` \
         for each model of a provider. Shared by all processes through Redis; without it each process counts by itself.",
        |s, v| { s.providers.limits = super::providers::limits(v)?; Ok(()) };
    "llm-connect-timeout", "AGENTRY_LLM_CONNECT_TIMEOUT", "llm.connect_timeout", "5",
        "Seconds to open a connection to a provider.",
        |s, v| { s.providers.connect_timeout = some_seconds(v)?; Ok(()) };
    "llm-first-token-timeout", "AGENTRY_LLM_FIRST_TOKEN_TIMEOUT", "llm.first_token_timeout", "300",
        "Seconds until the first content of a streamed answer. An agent's `timeout` holds for the whole call.",
        |s, v| { s.providers.first_token_timeout = some_seconds(v)?; Ok(()) };
    "llm-token-timeout", "AGENTRY_LLM_TOKEN_TIMEOUT", "llm.token_timeout", "60",
        "The longest silence within a streamed answer, in seconds.",
        |s, v| { s.providers.token_timeout = some_seconds(v)?; Ok(()) };
    "sim", "AGENTRY_SIM", "engine.sim", "false",
        "Answers every provider by the simulators, each by its own protocol, for use without keys.",
        |s, v| { s.sim = choice(v, &[("true", true), ("false", false)])?; Ok(()) };
}

impl Key {
    /// Returns whether the value must never be shown.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        // Addresses of servers contain passwords.
        const SECRETS: [&str; 11] = [
            "api-key",
            "callback-secret",
            "slack-signing-secret",
            "slack-bot-token",
            "openai-api-key",
            "anthropic-api-key",
            "bedrock-api-key",
            "ollama-api-key",
            "postgres-url",
            "redis-url",
            "rabbitmq-url",
        ];
        SECRETS.contains(&self.name)
    }
}

fn address(text: &str) -> Parsed<SocketAddr> {
    text.parse().map_err(|_| "expected an address and a port such as 127.0.0.1:8080".into())
}

/// Returns the reference of all settings, as a Markdown table.
#[must_use]
pub fn settings_reference() -> String {
    let mut text = String::from("| flag | environment | `agentry.toml` | default | meaning |\n|---|---|---|---|---|\n");
    for key in KEYS {
        let code = |text: &str| if text.is_empty() { "–".to_owned() } else { format!("`{text}`") };
        let flag = format!("--{}", key.name);
        // Secrets have no flag: a command line is visible to every process of a machine.
        let flag = if key.is_secret() { String::new() } else { flag };
        let (flag, env, toml, default) = (code(&flag), code(key.env), code(key.toml), code(key.default));
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "| {flag} | {env} | {toml} | {default} | {} |", key.description);
    }
    text
}
