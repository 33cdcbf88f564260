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
    /// An LLM provider with the protocols of OpenAI, Anthropic, Bedrock and Ollama, deterministic by seed
    Llm(SimLlmArgs),
    /// Slack: its Web API, and users who are driven by a control API
    Slack(SimSlackArgs),
    /// Perform an action of a user in the simulated Slack and print the result
    Send(SimSendArgs),
}

/// `sim send`.
#[derive(Debug, Args)]
pub struct SimSendArgs {
    /// The action
    #[arg(value_enum)]
    pub what: SlackAction,
    /// Details of the action, see docs/simulators.md: {"text": "hello", "mention": true}
    #[arg(default_value = "{}", value_name = "JSON")]
    pub body: String,
    /// The simulator's address
    #[arg(long, default_value = "http://127.0.0.1:8091", value_name = "URL")]
    pub url: String,
}

/// An action of a user in the simulated Slack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SlackAction {
    /// Write a message
    Event,
    /// Use a slash command
    Command,
    /// Click a button
    Click,
    /// Submit a modal
    Submission,
    /// Verify the address of the app
    Challenge,
    /// Set the target address
    Target,
    /// Inject a fault
    Fault,
}

/// `sim llm`.
#[derive(Debug, Args)]
pub struct SimLlmArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8090", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Seed of the answers
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Latency: instant, fast or realistic
    #[arg(long, default_value = "instant", value_name = "PROFILE")]
    pub profile: String,
    /// Share of calls that fail with a server error, from 0 to 1
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub error_rate: f64,
    /// Fault and its share of calls, such as 429=0.01: a status, hang, html, truncate, garble, drip, endless,
    /// disconnect or break; can be repeated
    #[arg(long = "fault", value_name = "KIND=SHARE")]
    pub faults: Vec<FaultRate>,
    /// Most calls per second; more get 429
    #[arg(long, value_name = "N")]
    pub rate_limit: Option<u32>,
    /// Most calls per minute and model; more get 429 with Retry-After
    #[arg(long, value_name = "N")]
    pub rpm: Option<u64>,
    /// Most tokens per minute and model
    #[arg(long, value_name = "N")]
    pub tpm: Option<u64>,
    /// Refuse calls without this key (of signed requests, the access key)
    #[arg(long, value_name = "KEY")]
    pub require_key: Option<SecretString>,
    /// Refuse calls to Bedrock that are not signed with this secret
    #[arg(long, value_name = "SECRET")]
    pub aws_secret: Option<SecretString>,
    /// File to which every call is appended
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
}

/// `sim slack`.
#[derive(Debug, Args)]
pub struct SimSlackArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8091", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Address of the server with /slack/events, /slack/commands and /slack/interactive
    #[arg(long, value_name = "URL")]
    pub target: Option<String>,
    /// Workspace; can be repeated
    #[arg(long = "team", default_value = "T0SIM", value_name = "ID")]
    pub teams: Vec<String>,
    /// Signing secret of requests
    #[arg(long, default_value = "sim-signing-secret", value_name = "TEXT")]
    pub signing_secret: SecretString,
    /// Token of the first workspace; others have TEXT-ID
    #[arg(long, default_value = "xoxb-sim", value_name = "TEXT")]
    pub bot_token: SecretString,
    /// Factor of the time between retries and of the lifetime of a response_url
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    pub time_scale: f64,
    /// Timeout of responses of the target, in milliseconds
    #[arg(long, default_value_t = 3000, value_name = "MS")]
    pub ack_timeout_ms: u64,
    /// Disable rate limits
    #[arg(long)]
    pub no_rate_limits: bool,
    /// Accept posts in unknown threads, for events from other senders
    #[arg(long)]
    pub any_thread: bool,
    /// Fault of a method or of *: fail, status:503, ratelimit, hang or lose, such as chat.postMessage=lose*1
    #[arg(long = "fault", value_name = "METHOD=KIND[*N]")]
    pub faults: Vec<FaultRule>,
    /// File to which every call and delivery is appended
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
}
