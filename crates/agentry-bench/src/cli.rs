//! The verbs of `agentry bench`. Each returns what to print and the exit code; nothing here prints or exits.

use clap::Subcommand;

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Scenarios, what each measures, its criteria
    List(list::List),
    /// Measure: processes of its own, or a deployment that runs
    #[cfg(target_os = "linux")]
    Run(run::RunArgs),
}

/// What a verb came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// For standard output.
    pub text: String,
    /// The exit code.
    pub exit: u8,
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
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, exit: 1 }
    }

    /// It was asked for wrongly: exit code 2.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: 2, ..Self::new(message) }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With this exit code.
    #[must_use]
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

pub mod list;
#[cfg(target_os = "linux")]
pub mod run;

/// Does what was asked.
///
/// # Errors
/// What is wrong, and what to do about it.
pub fn dispatch(command: &Bench) -> Result<Outcome, BenchError> {
    match command {
        Bench::List(args) => list::list(args),
        #[cfg(target_os = "linux")]
        Bench::Run(args) => run::run(args),
    }
}
