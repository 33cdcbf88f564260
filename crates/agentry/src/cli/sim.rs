//! The simulators as servers.

use std::net::SocketAddr;
use std::path::PathBuf;

use agentry_sim::llm::FaultRate;
use agentry_sim::slack::FaultRule;
use clap::{Args, Subcommand};
use secrecy::SecretString;

/// `sim …`.
#[derive(Debug, Subcommand)]
pub enum SimCommand {
    /// An LLM provider that speaks the protocols of OpenAI, Anthropic, Bedrock and Ollama, deterministic from its seed
    Llm(SimLlmArgs),
    /// Slack: its Web API, and people who write, click and use commands when its control API is told so
    Slack(SimSlackArgs),
    /// Have somebody in the simulated Slack do something, and print what came of it
    Send(SimSendArgs),
}

/// `sim send`.
#[derive(Debug, Args)]
pub struct SimSendArgs {
    /// What is done
    #[arg(value_enum)]
    pub what: SlackAction,
    /// More about it, as docs/simulators.md lists it: {"text": "hello", "mention": true}
    #[arg(default_value = "{}", value_name = "JSON")]
    pub body: String,
    /// The simulator's address
    #[arg(long, default_value = "http://127.0.0.1:8091", value_name = "URL")]
    pub url: String,
}

/// What somebody in the simulated Slack does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SlackAction {
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
pub struct SimLlmArgs {
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
pub struct SimSlackArgs {
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
