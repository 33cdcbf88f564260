//! The command line: every verb and its flags. What they do is in [`crate::verbs`] and the modules named like them.

mod place;
mod reading;
mod sim;

pub use place::*;
pub use reading::*;
pub use sim::*;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::render::Format;

/// A fleet of LLM agents in one binary.
#[derive(Debug, Parser)]
#[command(name = "agentry", version, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: CliCommand,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Run the platform
    Serve(Box<ServeArgs>),
    /// Give an agent one task: on a server with --url, else inside this process
    Run(RunArgs),
    /// Boot a simulated fleet, exercise every mode and a crash, and show what happened
    Demo(DemoArgs),
    /// Check agent files: file, line, column, what is wrong and what was meant
    Validate(ValidateArgs),
    /// Print the JSON Schema of agent files, for editors
    Schema,
    /// Rewrite agent files written for older keys, and say what changed
    Import(ImportArgs),
    /// Check settings, agent files, the data folder and the server, and say what to do
    Doctor(DoctorArgs),
    /// Move the state of a stopped server to PostgreSQL, for the cluster engine
    Migrate(MigrateArgs),
    /// The agents of a server and how they are doing
    Agents(AgentsArgs),
    /// Tasks: list, show, cancel, follow
    Tasks(ResourceArgs<TaskCommand>),
    /// Conversations of continuous agents
    Sessions(ResourceArgs<SessionCommand>),
    /// Schedules: list, show, next runs, trigger, backfill, pause, resume
    Schedules(ResourceArgs<ScheduleCommand>),
    /// Questions that wait for a person
    Clarifications(ResourceArgs<ClarificationCommand>),
    /// What was given up: show, edit, replay, drop
    DeadLetters(ResourceArgs<DeadLetterCommand>),
    /// Publish events and follow them
    Events(EventsArgs),
    /// Worker processes
    Workers(ReadArgs),
    /// What was spent
    Usage(UsageArgs),
    /// API keys: list, create, rotate, revoke
    Keys(ResourceArgs<KeyCommand>),
    /// What a process logs: show it, or change it while it runs
    LogLevel(LogLevelArgs),
    /// The fleet live in the terminal, until Ctrl-C
    Top(TopArgs),
    /// Where a server spends its processor time, or who holds its memory: a profile, or a picture of it
    Profile(ProfileArgs),
    /// The validation suite: load, faults and verdicts, reports, comparisons, estimates, test data
    #[command(subcommand)]
    Bench(agentry_bench::cli::Bench),
    /// Simulators as servers
    #[command(subcommand)]
    Sim(SimCommand),
}

/// A profile of a server.
#[derive(Debug, Args)]
pub struct ProfileArgs {
    /// How long to look, 1 to 60
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub seconds: u64,
    /// Who holds the memory, instead of where time goes; the server must be built with `--features heap-profile`
    #[arg(long, conflicts_with = "seconds")]
    pub heap: bool,
    /// The file to write: `.svg` is a flame graph for a browser, anything else a profile for `go tool pprof`
    #[arg(long, default_value = "profile.svg", value_name = "FILE")]
    pub out: PathBuf,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Which server.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// The server's address [env: AGENTRY_URL] [default: http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The API key, where the server asks for one; the environment shows it to nobody else [env: AGENTRY_API_KEY]
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
}

/// Which server, and how to print what it says.
#[derive(Debug, Clone, Args)]
pub struct ReadArgs {
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// How to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// A resource with verbs; `list` when none is given.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ResourceArgs<S: Subcommand> {
    /// What to do with it.
    #[command(subcommand)]
    pub command: Option<S>,
    /// For the list.
    #[command(flatten)]
    pub reading: ReadArgs,
}
