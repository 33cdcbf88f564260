//! Failures of commands, with advice. Shown as in `error: …` and `  = help: …`; the exit code is 1
//! when the thing asked for failed and 2 when it was asked for wrongly.

use std::io;

use agentry_server::NewKeyError;

/// The failure of a command.
#[derive(Debug)]
pub enum Failure {
    /// The reader of standard output is gone, which is no error.
    ClosedPipe,
    /// The failure was already reported.
    Reported,
    /// The failure was already reported and has the exit code of a verdict.
    Ended(u8),
    /// The command failed.
    Failed {
        /// The cause.
        message: String,
        /// Advice.
        help: Option<String>,
    },
    /// The command line is invalid.
    Usage {
        /// The cause.
        message: String,
        /// Advice.
        help: Option<String>,
    },
}

impl Failure {
    /// Returns a failure without advice.
    pub fn new(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), help: None }
    }

    /// Returns a usage error.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), help: None }
    }

    /// Adds advice.
    pub fn help(self, advice: impl Into<String>) -> Self {
        match self {
            Self::Failed { message, .. } => Self::Failed { message, help: Some(advice.into()) },
            Self::Usage { message, .. } => Self::Usage { message, help: Some(advice.into()) },
            other => other,
        }
    }

    /// Returns the exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::ClosedPipe => 0,
            Self::Reported | Self::Failed { .. } => 1,
            Self::Usage { .. } => 2,
            Self::Ended(code) => *code,
        }
    }

    /// Returns the text for standard error; `None` if the failure was already reported.
    pub fn text(&self, colour: bool) -> Option<String> {
        let (Self::Failed { message, help } | Self::Usage { message, help }) = self else { return None };
        let label = if colour { "\u{1b}[1;31merror\u{1b}[0m" } else { "error" };
        let advice = help.as_ref().map(|help| format!("\n  = help: {help}")).unwrap_or_default();
        Some(format!("{label}: {message}{advice}\n"))
    }
}

impl From<NewKeyError> for Failure {
    fn from(error: NewKeyError) -> Self {
        match error {
            NewKeyError::Name => Self::usage(error.to_string()),
            NewKeyError::Random(_) => Self::new(error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    /// For standard output only: other errors name their file.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::new(format!("cannot write the output: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_error() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit_code(), failure.text(false)), (0, None));
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::StorageFull)).exit_code(), 1);
    }

    #[test]
    fn advice_follows_the_error() {
        let failure = Failure::usage("no agent is named").help("say which");
        assert_eq!(failure.text(false).unwrap(), "error: no agent is named\n  = help: say which\n");
        assert_eq!(failure.exit_code(), 2);
    }

    #[test]
    fn a_verdict_ends_with_its_own_code_and_says_nothing_more() {
        assert_eq!((Failure::Ended(4).exit_code(), Failure::Ended(4).text(false)), (4, None));
    }
}
