//! Verbs that read and steer a server.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ReadArgs, ServerArgs};

/// `agents`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AgentsArgs {
    /// Only this one, with everything about it
    pub name: Option<String>,
    /// The server.
    #[command(flatten)]
    pub reading: ReadArgs,
    /// What to do with one.
    #[command(subcommand)]
    pub act: Option<AgentCommand>,
}

/// `agents …`: what the deployment runs.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Remove an agent from the deployment; what was accepted for it still runs
    Remove(TargetArgs),
    /// Run a version that the deployment ran before: a rollback
    Activate(ActivateArgs),
}

/// `agents activate`.
#[derive(Debug, Args)]
pub struct ActivateArgs {
    /// The agent
    pub name: String,
    /// The version, as `agentry agents NAME` shows it [default: the last one of an agent that was removed]
    pub version: Option<String>,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `tasks …`.
#[derive(Debug, Subcommand)]
pub enum TaskCommand {
    /// Tasks, newest first
    List(TaskListArgs),
    /// One task; with its journal as JSON or YAML
    Show(ShowArgs),
    /// Cancel a task
    Cancel(TargetArgs),
    /// Follow a task until it ends: one line for each entry of its journal
    Events(ShowArgs),
}

/// `tasks list`.
#[derive(Debug, Args)]
pub struct TaskListArgs {
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
    pub reading: ReadArgs,
}

/// One thing to read.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Its id or name
    pub id: String,
    /// The server.
    #[command(flatten)]
    pub reading: ReadArgs,
}

/// One thing to act on.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// Its id or name
    pub id: String,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `sessions …`.
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// Sessions, last used first
    List(ReadArgs),
    /// One session and its messages
    Show(ShowArgs),
    /// Forget a session and its messages
    Delete(TargetArgs),
}

/// `schedules …`.
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// Schedules by name
    List(ReadArgs),
    /// One schedule with its last and next slots
    Show(ShowArgs),
    /// When it fires next
    Next(NextSlotsArgs),
    /// Fire now, besides the slots
    Trigger(TargetArgs),
    /// Fire slots of the past that nobody decided, or that were missed
    Backfill(BackfillArgs),
    /// Fire no slots until resumed
    Pause(TargetArgs),
    /// Fire again, from the next slot on
    Resume(TargetArgs),
}

/// `schedules next`.
#[derive(Debug, Args)]
pub struct NextSlotsArgs {
    /// Its name
    pub id: String,
    /// Slots that are shown
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub count: u8,
    /// The server.
    #[command(flatten)]
    pub reading: ReadArgs,
}

/// `schedules backfill`.
#[derive(Debug, Args)]
pub struct BackfillArgs {
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
    pub server: ServerArgs,
}

/// `clarifications …`.
#[derive(Debug, Subcommand)]
pub enum ClarificationCommand {
    /// Open questions, oldest first
    List(ReadArgs),
    /// Answer a question; the first answer stands
    Answer(AnswerArgs),
}

/// `clarifications answer`.
#[derive(Debug, Args)]
pub struct AnswerArgs {
    /// The question's id
    pub id: String,
    /// The answer
    pub answer: String,
    /// Who answers
    #[arg(long, env = "USER", hide_env_values = true, default_value = "cli")]
    pub by: String,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `dead-letters …`.
#[derive(Debug, Subcommand)]
pub enum DeadLetterCommand {
    /// Open dead letters, newest first
    List(ReadArgs),
    /// One dead letter with its payload
    Show(ShowArgs),
    /// Try again
    Replay(TargetArgs),
    /// Replace the payload of an open one
    Edit(EditArgs),
    /// Give up for good
    Drop(TargetArgs),
}

/// `dead-letters edit`.
#[derive(Debug, Args)]
pub struct EditArgs {
    /// Its id
    pub id: String,
    /// The new payload, as JSON; `-` reads standard input
    pub payload: String,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `events …`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: EventCommand,
}

/// `events …`.
#[derive(Debug, Subcommand)]
pub enum EventCommand {
    /// Publish an event; agents that subscribe to its topic get a task
    Publish(PublishArgs),
    /// Follow events, one JSON object a line, until Ctrl-C
    Tail(TailArgs),
}

/// `events publish`.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// Its topic, for example customer.ticket.created
    pub topic: String,
    /// Its data: JSON, or any text
    pub data: String,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `events tail`.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// Only topics of this pattern: `*` is one word, `#` any number
    pub pattern: Option<String>,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
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
pub struct ReconcileArgs {
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
    pub reading: ReadArgs,
}

/// What to do with usage, other than show it.
#[derive(Debug, Subcommand)]
pub enum UsageCommand {
    /// Compare the ledger, call by call, with what a provider says it did
    Reconcile(ReconcileArgs),
}

/// `usage`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct UsageArgs {
    /// Something else than to show it.
    #[command(subcommand)]
    pub command: Option<UsageCommand>,
    /// One row for each
    #[arg(long, value_enum, default_value_t)]
    pub by: UsageBy,
    /// The server.
    #[command(flatten)]
    pub reading: ReadArgs,
}

/// `keys …`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Keys, without the keys themselves
    List(ReadArgs),
    /// Make a key, and show it once
    Create(KeyCreateArgs),
    /// Make the keys that a deployment starts with, as files, unless they are there
    Init(KeyInitArgs),
    /// Make another of the same name and scope; the old one goes on for an hour
    Rotate(TargetArgs),
    /// Refuse a key from now on
    Revoke(TargetArgs),
}

/// `keys create`.
#[derive(Debug, Args)]
pub struct KeyCreateArgs {
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
    pub reading: ReadArgs,
}

/// `keys init`.
#[derive(Debug, Args)]
pub struct KeyInitArgs {
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
pub struct LogLevelArgs {
    /// What to log from now on, such as warn or info,agentry_bus=debug
    pub filter: Option<String>,
    /// Go back to the filter before after this time: 90s, 10m or 2h
    #[arg(long = "for", value_name = "TIME", requires = "filter", value_parser = seconds)]
    pub time: Option<u32>,
    /// The process.
    #[command(flatten)]
    pub reading: ReadArgs,
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
pub struct TopArgs {
    /// Print one picture and end
    #[arg(long)]
    pub once: bool,
    /// Agents shown at most
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub limit: u32,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}
