//! The command line: every verb and its flags. What they do is in [`crate::verbs`] and the modules named like them.

use std::net::SocketAddr;
use std::path::PathBuf;

use agentry_sim::llm::FaultRate;
use agentry_sim::slack::FaultRule;
use clap::{Args, Parser, Subcommand};
use secrecy::SecretString;

use crate::render::Format;

/// A fleet of LLM agents in one binary.
#[derive(Debug, Parser)]
#[command(name = "agentry", version, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the platform
    Serve(Box<Serve>),
    /// Give an agent one task: on a server with --url, else inside this process
    Run(Run),
    /// Boot a simulated fleet, exercise every mode and a crash, and show what happened
    Demo(Demo),
    /// Check agent files: file, line, column, what is wrong and what was meant
    Validate(Validate),
    /// Print the JSON Schema of agent files, for editors
    Schema,
    /// Rewrite agent files written for older keys, and say what changed
    Import(Import),
    /// Check settings, agent files, the data folder and the server, and say what to do
    Doctor(Doctor),
    /// Move the state of a stopped server to PostgreSQL, for the cluster engine
    Migrate(Migrate),
    /// The agents of a server and how they are doing
    Agents(Agents),
    /// Tasks: list, show, cancel, follow
    Tasks(Verb<Tasks>),
    /// Conversations of continuous agents
    Sessions(Verb<Sessions>),
    /// Schedules: list, trigger, pause, resume
    Schedules(Verb<Schedules>),
    /// Questions that wait for a person
    Clarifications(Verb<Clarifications>),
    /// What was given up: show, edit, replay, drop
    DeadLetters(Verb<DeadLetters>),
    /// Publish events and follow them
    Events(Events),
    /// Worker processes
    Workers(Reading),
    /// What was spent
    Usage(Usage),
    /// API keys: list, create, rotate, revoke
    Keys(Verb<Keys>),
    /// The fleet live in the terminal, until Ctrl-C
    Top(Top),
    /// The validation suite: load, faults and verdicts, reports, comparisons, estimates, test data
    #[command(subcommand)]
    Bench(agentry_bench::cli::Bench),
    /// Simulators as servers
    #[command(subcommand)]
    Sim(Sim),
}

/// Which server.
#[derive(Debug, Clone, Args)]
pub struct Server {
    /// The server's address [env: AGENTRY_URL] [default: http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The API key, where the server asks for one; the environment shows it to nobody else [env: AGENTRY_API_KEY]
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
}

/// Which server, and how to print what it says.
#[derive(Debug, Clone, Args)]
pub struct Reading {
    /// The server.
    #[command(flatten)]
    pub server: Server,
    /// How to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// A resource with verbs; `list` when none is given.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Verb<S: Subcommand> {
    /// What to do with it.
    #[command(subcommand)]
    pub command: Option<S>,
    /// For the list.
    #[command(flatten)]
    pub reading: Reading,
}

/// Where a fleet runs and on what. Every flag is a setting: it wins over the environment and agentry.toml.
#[derive(Debug, Clone, Default, Args)]
pub struct Place {
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
    pub sim_url: Option<String>,
    /// Its models.
    #[command(flatten)]
    pub providers: ProviderFlags,
}

/// How model providers are reached. Keys have no flags: a command line is visible to every process of a machine.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Model providers")]
pub struct ProviderFlags {
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

/// `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// Address to listen on; port 0 takes a free one [env: AGENTRY_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Listen beyond this machine without API keys: whoever reaches the address may run agents
    #[arg(long)]
    pub allow_unauthenticated: bool,
    /// When an API key is needed: auto (as soon as one exists) or required [env: AGENTRY_AUTH] [default: auto]
    #[arg(long, value_name = "WHEN")]
    pub auth: Option<String>,
    /// Names, by commas, that a proxy passes on in `Host` [env: AGENTRY_ALLOWED_HOSTS]
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
}

/// `run`.
#[derive(Debug, Args)]
pub struct Run {
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
    pub place: Place,
}

/// `demo`.
#[derive(Debug, Args)]
pub struct Demo {
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
pub struct Validate {
    /// Agent files, or folders of them
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

/// `import`.
#[derive(Debug, Args)]
pub struct Import {
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
pub struct Doctor {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// Backends to check: embedded or cluster [env: AGENTRY_ENGINE] [default: embedded]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
    /// The server.
    #[command(flatten)]
    pub reading: Reading,
}

/// `migrate`.
#[derive(Debug, Args)]
pub struct Migrate {
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

/// `agents`.
#[derive(Debug, Args)]
pub struct Agents {
    /// Only this one, with everything about it
    pub name: Option<String>,
    /// The server.
    #[command(flatten)]
    pub reading: Reading,
}

/// `tasks …`.
#[derive(Debug, Subcommand)]
pub enum Tasks {
    /// Tasks, newest first
    List(TaskList),
    /// One task; with its journal as JSON or YAML
    Show(One),
    /// Cancel a task
    Cancel(Act),
    /// Follow a task until it ends: one line for each entry of its journal
    Events(One),
}

/// `tasks list`.
#[derive(Debug, Args)]
pub struct TaskList {
    /// Only of this agent
    #[arg(long)]
    pub agent: Option<String>,
    /// Only in this status
    #[arg(long)]
    pub status: Option<String>,
    /// Rows at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// The server.
    #[command(flatten)]
    pub reading: Reading,
}

/// One thing to read.
#[derive(Debug, Args)]
pub struct One {
    /// Its id or name
    pub id: String,
    /// The server.
    #[command(flatten)]
    pub reading: Reading,
}

/// One thing to act on.
#[derive(Debug, Args)]
pub struct Act {
    /// Its id or name
    pub id: String,
    /// The server.
    #[command(flatten)]
    pub server: Server,
}

/// `sessions …`.
#[derive(Debug, Subcommand)]
pub enum Sessions {
    /// Sessions, last used first
    List(Reading),
    /// One session and its messages
    Show(One),
    /// Forget a session and its messages
    Delete(Act),
}

/// `schedules …`.
#[derive(Debug, Subcommand)]
pub enum Schedules {
    /// Schedules by name
    List(Reading),
    /// Fire now, besides the slots
    Trigger(Act),
    /// Fire no slots until resumed
    Pause(Act),
    /// Fire again, from the next slot on
    Resume(Act),
}

/// `clarifications …`.
#[derive(Debug, Subcommand)]
pub enum Clarifications {
    /// Open questions, oldest first
    List(Reading),
    /// Answer a question; the first answer stands
    Answer(Answer),
}

/// `clarifications answer`.
#[derive(Debug, Args)]
pub struct Answer {
    /// The question's id
    pub id: String,
    /// The answer
    pub answer: String,
    /// Who answers
    #[arg(long, env = "USER", hide_env_values = true, default_value = "cli")]
    pub by: String,
    /// The server.
    #[command(flatten)]
    pub server: Server,
}

/// `dead-letters …`.
#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// Open dead letters, newest first
    List(Reading),
    /// One dead letter with its payload
    Show(One),
    /// Try again
    Replay(Act),
    /// Replace the payload of an open one
    Edit(Edit),
    /// Give up for good
    Drop(Act),
}

/// `dead-letters edit`.
#[derive(Debug, Args)]
pub struct Edit {
    /// Its id
    pub id: String,
    /// The new payload, as JSON; `-` reads standard input
    pub payload: String,
    /// The server.
    #[command(flatten)]
    pub server: Server,
}

/// `events …`.
#[derive(Debug, Args)]
pub struct Events {
    /// What to do.
    #[command(subcommand)]
    pub command: EventVerb,
}

/// `events …`.
#[derive(Debug, Subcommand)]
pub enum EventVerb {
    /// Publish an event; agents that subscribe to its topic get a task
    Publish(Publish),
    /// Follow events, one JSON object a line, until Ctrl-C
    Tail(Tail),
}

/// `events publish`.
#[derive(Debug, Args)]
pub struct Publish {
    /// Its topic, for example customer.ticket.created
    pub topic: String,
    /// Its data: JSON, or any text
    pub data: String,
    /// The server.
    #[command(flatten)]
    pub server: Server,
}

/// `events tail`.
#[derive(Debug, Args)]
pub struct Tail {
    /// Only topics of this pattern: `*` is one word, `#` any number
    pub pattern: Option<String>,
    /// The server.
    #[command(flatten)]
    pub server: Server,
}

/// What `usage` sums over.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub enum UsageBy {
    /// One row for each agent.
    #[default]
    Agent,
    /// One row for each provider and model.
    Model,
    /// One row for each UTC day.
    Day,
    /// One row for each task, the most expensive first.
    Task,
}

/// `usage reconcile`.
#[derive(Debug, Args)]
pub struct Reconcile {
    /// What the provider says it did: JSON Lines or CSV, a row for each call
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Rows of the ledger from this moment on, such as 2026-11-01 [default: 30 days ago]
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Rows of the ledger before this moment [default: now]
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// Rows of the ledger of this provider only
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,
    /// The server.
    #[command(flatten)]
    pub reading: Reading,
}

/// What to do with usage, other than show it.
#[derive(Debug, Subcommand)]
pub enum UsageVerb {
    /// Compare the ledger, call by call, with what a provider says it did
    Reconcile(Reconcile),
}

/// `usage`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Usage {
    /// Something else than to show it.
    #[command(subcommand)]
    pub command: Option<UsageVerb>,
    /// One row for each
    #[arg(long, value_enum, default_value_t)]
    pub by: UsageBy,
    /// The server.
    #[command(flatten)]
    pub reading: Reading,
}

/// `keys …`.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Keys, without the keys themselves
    List(Reading),
    /// Make a key, and show it once
    Create(KeyCreate),
    /// Make another of the same name and scope; the old one goes on for an hour
    Rotate(Act),
    /// Refuse a key from now on
    Revoke(Act),
}

/// `keys create`.
#[derive(Debug, Args)]
pub struct KeyCreate {
    /// What people call it
    pub name: String,
    /// read: look; run: give work and steer it; admin: manage keys too
    #[arg(long, value_name = "SCOPE", default_value = "run", value_parser = ["read", "run", "admin"])]
    pub scope: String,
    /// Refuse it after so many days; never when absent
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3_650))]
    pub expires: Option<u32>,
    /// Write it into the store of a stopped server (--data) or of the cluster, instead of asking a server
    #[arg(long)]
    pub local: bool,
    /// Data folder, with --local [env: AGENTRY_DATA] [default: data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// Backends, with --local: embedded or cluster [env: AGENTRY_ENGINE] [default: embedded]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
    /// The server.
    #[command(flatten)]
    pub reading: Reading,
}

/// `top`.
#[derive(Debug, Args)]
pub struct Top {
    /// Print one picture and end
    #[arg(long)]
    pub once: bool,
    /// Agents shown at most
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub limit: u32,
    /// The server.
    #[command(flatten)]
    pub server: Server,
}

/// `sim …`.
#[derive(Debug, Subcommand)]
pub enum Sim {
    /// An LLM provider that speaks the protocols of OpenAI, Anthropic, Bedrock and Ollama, deterministic from its seed
    Llm(SimLlm),
    /// Slack: its Web API, and people who write, click and use commands when its control API is told so
    Slack(SimSlack),
    /// Have somebody in the simulated Slack do something, and print what came of it
    Send(SimSend),
}

/// `sim send`.
#[derive(Debug, Args)]
pub struct SimSend {
    /// What is done
    #[arg(value_enum)]
    pub what: Deed,
    /// More about it, as docs/simulators.md lists it: {"text": "hello", "mention": true}
    #[arg(default_value = "{}", value_name = "JSON")]
    pub body: String,
    /// The simulator's address
    #[arg(long, default_value = "http://127.0.0.1:8091", value_name = "URL")]
    pub url: String,
}

/// What somebody in the simulated Slack does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Deed {
    /// Writes a message
    Event,
    /// Uses a slash command
    Command,
    /// Clicks a button
    Click,
    /// Submits a modal
    Submission,
    /// Asks whether the address is the app's
    Challenge,
    /// Sets where things are sent
    Target,
    /// Sets what goes wrong
    Fault,
}

/// `sim llm`.
#[derive(Debug, Args)]
pub struct SimLlm {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8090", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Answers depend on it
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Latency: instant, fast or realistic
    #[arg(long, default_value = "instant", value_name = "PROFILE")]
    pub profile: String,
    /// Share of calls that fail with a server error, from 0 to 1
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub error_rate: f64,
    /// What goes wrong in which share of calls: a status, hang, html, truncate, garble, drip, endless, disconnect or
    /// break, as in 429=0.01; several times for several
    #[arg(long = "fault", value_name = "KIND=SHARE")]
    pub faults: Vec<FaultRate>,
    /// Calls of one second at most; more are answered with 429
    #[arg(long, value_name = "N")]
    pub rate_limit: Option<u32>,
    /// Calls of a minute and model at most; more are answered with 429 and when to come back
    #[arg(long, value_name = "N")]
    pub rpm: Option<u64>,
    /// Tokens of a minute and model at most
    #[arg(long, value_name = "N")]
    pub tpm: Option<u64>,
    /// Refuse calls without this key (of signed requests, the access key)
    #[arg(long, value_name = "KEY")]
    pub require_key: Option<SecretString>,
    /// Refuse calls to Bedrock that are not signed with this secret
    #[arg(long, value_name = "SECRET")]
    pub aws_secret: Option<SecretString>,
    /// File to append every call to
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
}

/// `sim slack`.
#[derive(Debug, Args)]
pub struct SimSlack {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8091", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Where /slack/events, /slack/commands and /slack/interactive are
    #[arg(long, value_name = "URL")]
    pub target: Option<String>,
    /// A workspace; several times for several
    #[arg(long = "team", default_value = "T0SIM", value_name = "ID")]
    pub teams: Vec<String>,
    /// Signs what is sent
    #[arg(long, default_value = "sim-signing-secret", value_name = "TEXT")]
    pub signing_secret: SecretString,
    /// Token of the first workspace; of each other one, TEXT-ID
    #[arg(long, default_value = "xoxb-sim", value_name = "TEXT")]
    pub bot_token: SecretString,
    /// Multiplies the waits between retries and the life of a response_url
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    pub time_scale: f64,
    /// Milliseconds that the target has to answer
    #[arg(long, default_value_t = 3000, value_name = "MS")]
    pub ack_timeout_ms: u64,
    /// Hold callers to no rates
    #[arg(long)]
    pub no_rate_limits: bool,
    /// Take posts into threads whose first message was not said here, for events that somebody else sends
    #[arg(long)]
    pub any_thread: bool,
    /// What goes wrong: fail, status:503, ratelimit, hang or lose, for a method or *, as in chat.postMessage=lose*1
    #[arg(long = "fault", value_name = "METHOD=KIND[*N]")]
    pub faults: Vec<FaultRule>,
    /// File to append every call and every delivery to
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
}
