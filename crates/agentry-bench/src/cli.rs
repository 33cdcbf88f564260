//! The verbs of `agentry bench`. Each returns what to print and the exit code; nothing here prints or exits.

pub mod compare;
pub mod estimate;
pub mod generate;
pub mod list;
pub mod report;
pub mod run;

use clap::Subcommand;

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Scenarios, what each measures, its criteria
    List(list::List),
    /// Measure: processes of its own, or a deployment that runs
    Run(run::RunArgs),
    /// Render HTML, Markdown, JUnit and CSV again from report.json
    Report(report::Report),
    /// Compare runs: medians with intervals, Mann-Whitney, Holm; exit code 4 on a regression
    Compare(compare::Compare),
    /// What a profile would cost against live providers, before anything is spent
    Estimate(estimate::EstimateArgs),
    /// Test data: agent files or a workload
    #[command(subcommand)]
    Generate(generate::Generate),
}

/// What a verb came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// For standard output.
    pub text: String,
    /// The exit code.
    pub exit: u8,
}

impl Outcome {
    /// It went well.
    pub fn ok(text: impl Into<String>) -> Self {
        Self { text: text.into(), exit: 0 }
    }
}

/// Why a verb could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BenchError {
    /// What is wrong, and where.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The exit code: 2 for wrong use, 6 when something would not start, 1 otherwise.
    pub exit: u8,
}

impl BenchError {
    /// What was asked for failed: exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, exit: 1 }
    }

    /// It was asked for wrongly: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: 2, ..Self::new(message) }
    }

    /// Says what to do about it.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With this exit code.
    pub fn exit(mut self, exit: u8) -> Self {
        self.exit = exit;
        self
    }
}

impl From<crate::catalogue::UnknownScenario> for BenchError {
    fn from(error: crate::catalogue::UnknownScenario) -> Self {
        Self::usage(error.to_string()).help(error.help())
    }
}

impl From<crate::report::LoadError> for BenchError {
    fn from(error: crate::report::LoadError) -> Self {
        Self::new(error.to_string()).help(error.help())
    }
}

impl From<crate::report::WriteError> for BenchError {
    fn from(error: crate::report::WriteError) -> Self {
        Self::new(error.to_string()).help("check the folder, its permissions and the space that is left")
    }
}

/// Does what was asked.
///
/// # Errors
/// What is wrong, and what to do about it.
pub fn dispatch(command: &Bench) -> Result<Outcome, BenchError> {
    match command {
        Bench::List(args) => list::list(args),
        Bench::Run(args) => run::run(args),
        Bench::Report(args) => report::report(args),
        Bench::Compare(args) => compare::compare(args),
        Bench::Estimate(args) => estimate::estimate(args),
        Bench::Generate(args) => generate::generate(args),
    }
}
