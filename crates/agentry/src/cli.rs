//! The command line: commands and flags. They are implemented in [`crate::verbs`] and in modules of the same name.

mod place;
mod reading;
mod sim;

pub use place::*;
pub use reading::*;
pub use sim::*;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::render::OutputFormat;

/// A fleet of LLM agents in one binary.
#[derive(Debug, Parser)]
#[command(name = "agentry", version, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: CliCommand,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Run the platform
    Serve(Box<ServeArgs>),
    /// Run one task: on a server with --url, else inside this process
    Run(RunTaskArgs),
    /// Start a simulated fleet, exercise every mode and a crash, and show the results
    Demo(DemoArgs),
    /// Validate agent files and report errors by file, line and column
    Validate(ValidateArgs),
    /// Models that Agentry knows: prices, limits, what they take, retirement
    Models(ModelsArgs),
    /// Print the JSON Schema of agent files, for editors
    Schema,
    /// Convert agent files that use older keys, and list the changes
    Import(ImportArgs),
    /// Check settings, agent files, the data folder and the server, with advice
    Doctor(DoctorArgs),
    /// Migrate the data of a stopped server to PostgreSQL, for the cluster engine
    Migrate(MigrateArgs),
    /// Agents of a server and their status
    Agents(AgentsArgs),
    /// Tasks: list, show, cancel, follow
    Tasks(ResourceArgs<TaskCommand>),
    /// Sessions of continuous agents
    Sessions(ResourceArgs<SessionCommand>),
    /// Schedules: list, show, next runs, trigger, backfill, pause, resume
    Schedules(ResourceArgs<ScheduleCommand>),
    /// Questions that wait for a person
    Clarifications(ResourceArgs<ClarificationCommand>),
    /// Dead letters: list, show, edit, replay, drop
    DeadLetters(ResourceArgs<DeadLetterCommand>),
    /// Publish events and follow them
    Events(EventsArgs),
    /// Worker processes
    Workers(ReadArgs),
    /// Usage and cost
    Usage(UsageArgs),
    /// API keys: list, create, rotate, revoke
    Keys(ResourceArgs<KeyCommand>),
    /// Show or change the log filter of a running process
    LogLevel(LogLevelArgs),
    /// Live overview of the fleet in the terminal, until Ctrl-C
    Top(TopArgs),
    /// CPU or heap profile of a server, as pprof or flame graph
    Profile(ProfileArgs),
    /// The validation suite: load, faults and verdicts, reports, comparisons, estimates, test data
    #[command(subcommand)]
    Bench(agentry_bench::cli::Bench),
    /// Run simulators as servers
    #[command(subcommand)]
    Sim(SimCommand),
}

/// A profile of a server.
#[derive(Debug, Args)]
pub struct ProfileArgs {
    /// Duration of the profile in seconds, 1 to 60
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub seconds: u64,
    /// Take a heap profile instead of a CPU profile; the server must be built with `--features heap-profile`
    #[arg(long, conflicts_with = "seconds")]
    pub heap: bool,
    /// Output file: a flame graph if it ends in `.svg`, else a profile for `go tool pprof`
    #[arg(long, default_value = "profile.svg", value_name = "FILE")]
    pub out: PathBuf,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// The server of a command.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// The server's address [env: AGENTRY_URL] [default: http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// API key, if the server requires one; prefer the environment, which other users cannot see [env: AGENTRY_API_KEY]
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
}

/// The server of a command, and the output format.
#[derive(Debug, Clone, Args)]
pub struct ReadArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    /// Output format
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: OutputFormat,
}

/// A resource with commands; the default is `list`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ResourceArgs<S: Subcommand> {
    #[command(subcommand)]
    pub command: Option<S>,
    #[command(flatten)]
    pub reading: ReadArgs,
}
