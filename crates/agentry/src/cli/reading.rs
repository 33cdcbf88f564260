//! Commands that use a server.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ReadArgs, ServerArgs};

/// `agents`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AgentsArgs {
    /// Show only this agent, with all details
    pub name: Option<String>,
    #[command(flatten)]
    pub reading: ReadArgs,
    #[command(subcommand)]
    pub act: Option<AgentCommand>,
}

/// `agents …`: what the deployment runs.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Remove an agent from the deployment; accepted tasks still run
    Remove(TargetArgs),
    /// Activate an earlier version of an agent (rollback)
    Activate(ActivateArgs),
}

/// `agents activate`.
#[derive(Debug, Args)]
pub struct ActivateArgs {
    /// The agent
    pub name: String,
    /// The version, as shown by `agentry agents NAME` [default: the last version of a removed agent]
    pub version: Option<String>,
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
    /// Follow a task until it ends, one line per journal entry
    Events(ShowArgs),
}

/// `tasks list`.
#[derive(Debug, Args)]
pub struct TaskListArgs {
    /// Only tasks of this agent
    #[arg(long)]
    pub agent: Option<String>,
    /// Only tasks with this status
    #[arg(long)]
    pub status: Option<String>,
    /// Most rows
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    #[command(flatten)]
    pub reading: ReadArgs,
}

/// One thing to read.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Its id or name
    pub id: String,
    #[command(flatten)]
    pub reading: ReadArgs,
}

/// One thing to act on.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// Its id or name
    pub id: String,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `sessions …`.
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// Sessions, most recently used first
    List(ReadArgs),
    /// One session and its messages
    Show(ShowArgs),
    /// Delete a session and its messages
    Delete(TargetArgs),
}

/// `schedules …`.
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// Schedules by name
    List(ReadArgs),
    /// One schedule with its last and next slots
    Show(ShowArgs),
    /// Next slots of a schedule
    Next(NextSlotsArgs),
    /// Submit a task now, independent of slots
    Trigger(TargetArgs),
    /// Fire past slots that are undecided or missed
    Backfill(BackfillArgs),
    /// Pause a schedule
    Pause(TargetArgs),
    /// Resume a schedule, from the next slot on
    Resume(TargetArgs),
}

/// `schedules next`.
#[derive(Debug, Args)]
pub struct NextSlotsArgs {
    /// Its name
    pub id: String,
    /// Number of slots
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub count: u8,
    #[command(flatten)]
    pub reading: ReadArgs,
}

/// `schedules backfill`.
#[derive(Debug, Args)]
pub struct BackfillArgs {
    /// Its name
    pub id: String,
    /// Start of the range, such as 2026-11-01T08:00:00Z, or 2026-11-01 for the start of a UTC day
    #[arg(long, value_name = "TIME")]
    pub from: String,
    /// End of the range, not in the future
    #[arg(long, value_name = "TIME")]
    pub to: String,
    /// Most slots in the range; with more, none fires [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: Option<u32>,
    /// Count the slots without firing them
    #[arg(long)]
    pub dry_run: bool,
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
    /// Name of the answering person
    #[arg(long, env = "USER", hide_env_values = true, default_value = "cli")]
    pub by: String,
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
    /// Submit the task or message again
    Replay(TargetArgs),
    /// Replace the payload of an open dead letter
    Edit(EditArgs),
    /// Drop a dead letter
    Drop(TargetArgs),
}

/// `dead-letters edit`.
#[derive(Debug, Args)]
pub struct EditArgs {
    /// Its id
    pub id: String,
    /// The new payload, as JSON; `-` reads standard input
    pub payload: String,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `events …`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    #[command(subcommand)]
    pub command: EventCommand,
}

/// `events …`.
#[derive(Debug, Subcommand)]
pub enum EventCommand {
    /// Publish an event; agents that subscribe to its topic get a task
    Publish(PublishArgs),
    /// Follow events, one JSON object per line, until Ctrl-C
    Tail(TailArgs),
}

/// `events publish`.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// Its topic, for example customer.ticket.created
    pub topic: String,
    /// Its data: JSON, or any text
    pub data: String,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `events tail`.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// Only topics that match this pattern: `*` is one word, `#` any number
    pub pattern: Option<String>,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// The dimension of usage sums.
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
    /// Export of the provider: JSON Lines or CSV, one row per call
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Start of the span of the ledger, such as 2026-11-01 [default: 30 days ago]
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// End of the span of the ledger [default: now]
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// Only calls of this provider
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,
    #[command(flatten)]
    pub reading: ReadArgs,
}

/// The commands of `usage`.
#[derive(Debug, Subcommand)]
pub enum UsageCommand {
    /// Compare the usage ledger with the export of a provider
    Reconcile(ReconcileArgs),
}

/// `usage`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct UsageArgs {
    #[command(subcommand)]
    pub command: Option<UsageCommand>,
    /// Dimension of the sums
    #[arg(long, value_enum, default_value_t)]
    pub by: UsageBy,
    #[command(flatten)]
    pub reading: ReadArgs,
}

/// `keys …`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// API keys, without their secrets
    List(ReadArgs),
    /// Create a key and show it once
    Create(KeyCreateArgs),
    /// Create the first keys of a deployment as files, if they are missing
    Init(KeyInitArgs),
    /// Create a key with the same name and scope; the old one stays valid for an hour
    Rotate(TargetArgs),
    /// Revoke a key
    Revoke(TargetArgs),
}

/// `keys create`.
#[derive(Debug, Args)]
pub struct KeyCreateArgs {
    /// Name of the key
    pub name: String,
    /// read: read only; run: submit and control work; admin: manage keys too
    #[arg(long, value_name = "SCOPE", default_value = "run", value_parser = ["read", "run", "admin"])]
    pub scope: String,
    /// Days until expiry [default: never]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3_650))]
    pub expires: Option<u32>,
    /// Create it directly in the store of a stopped server (--data) or of the cluster
    #[arg(long)]
    pub local: bool,
    /// Data folder, with --local [env: AGENTRY_DATA] [default: data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// Backends, with --local: embedded or cluster [env: AGENTRY_ENGINE] [default: embedded]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
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
    /// New filter, such as warn or info,agentry_bus=debug
    pub filter: Option<String>,
    /// Restore the previous filter after this time: 90s, 10m or 2h
    #[arg(long = "for", value_name = "TIME", requires = "filter", value_parser = seconds)]
    pub time: Option<u32>,
    #[command(flatten)]
    pub reading: ReadArgs,
}

/// Parses a time with a unit, in seconds.
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
    /// Print one snapshot and exit
    #[arg(long)]
    pub once: bool,
    /// Most agents in the list
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub limit: u32,
    #[command(flatten)]
    pub server: ServerArgs,
}
