//! Verbs that read and steer a server.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Reading, Server};

/// `agents`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Agents {
    /// Only this one, with everything about it
    pub name: Option<String>,
    /// The server.
    #[command(flatten)]
    pub reading: Reading,
    /// What to do with one.
    #[command(subcommand)]
    pub act: Option<AgentAct>,
}

/// `agents …`: what the deployment runs.
#[derive(Debug, Subcommand)]
pub enum AgentAct {
    /// Remove an agent from the deployment; what was accepted for it still runs
    Remove(Act),
    /// Run a version that the deployment ran before: a rollback
    Activate(Activate),
}

/// `agents activate`.
#[derive(Debug, Args)]
pub struct Activate {
    /// The agent
    pub name: String,
    /// The version, as `agentry agents NAME` shows it [default: the last one of an agent that was removed]
    pub version: Option<String>,
    /// The server.
    #[command(flatten)]
    pub server: Server,
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
    /// One schedule with its last and next slots
    Show(One),
    /// When it fires next
    Next(NextSlots),
    /// Fire now, besides the slots
    Trigger(Act),
    /// Fire slots of the past that nobody decided, or that were missed
    Backfill(Backfill),
    /// Fire no slots until resumed
    Pause(Act),
    /// Fire again, from the next slot on
    Resume(Act),
}

/// `schedules next`.
#[derive(Debug, Args)]
pub struct NextSlots {
    /// Its name
    pub id: String,
    /// Slots that are shown
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub count: u8,
    /// The server.
    #[command(flatten)]
    pub reading: Reading,
}

/// `schedules backfill`.
#[derive(Debug, Args)]
pub struct Backfill {
    /// Its name
    pub id: String,
    /// The first moment, such as 2026-11-01T08:00:00Z, or 2026-11-01 for the start of a UTC day
    #[arg(long, value_name = "TIME")]
    pub from: String,
    /// The last moment; not in the future
    #[arg(long, value_name = "TIME")]
    pub to: String,
    /// Slots that the range may have; with more, none fires [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: Option<u32>,
    /// Only say how many would fire
    #[arg(long)]
    pub dry_run: bool,
    /// The server.
    #[command(flatten)]
    pub server: Server,
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
    /// Make the keys that a deployment starts with, as files, unless they are there
    Init(KeyInit),
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

/// `keys init`.
#[derive(Debug, Args)]
pub struct KeyInit {
    /// Folder of the files `admin-key` (scope admin) and `scrape-key` (scope read, which its group may read too)
    pub dir: std::path::PathBuf,
    /// Data folder [env: AGENTRY_DATA] [default: data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// Backends: embedded or cluster [env: AGENTRY_ENGINE] [default: embedded]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
}

/// `log-level`.
#[derive(Debug, Args)]
pub struct LogLevel {
    /// What to log from now on, such as warn or info,agentry_bus=debug
    pub filter: Option<String>,
    /// Go back to the filter before after this time: 90s, 10m or 2h
    #[arg(long = "for", value_name = "TIME", requires = "filter", value_parser = seconds)]
    pub time: Option<u32>,
    /// The process.
    #[command(flatten)]
    pub reading: Reading,
}

/// A time with its unit, in seconds.
fn seconds(text: &str) -> Result<u32, String> {
    let units = [("s", 1), ("m", 60), ("h", 3_600)];
    let parsed = units.iter().find_map(|(unit, scale)| {
        text.strip_suffix(unit)?
            .parse::<u32>()
            .ok()?
            .checked_mul(*scale)
            .filter(|seconds| (1..=86_400).contains(seconds))
    });
    parsed.ok_or_else(|| "expected a time such as 90s, 10m or 2h, at most 24h".to_owned())
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
