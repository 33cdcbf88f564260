//! How a command fails: what, and what to do about it. Shown as in `error: …` and `  = help: …`; the exit code is 1
//! when the thing asked for failed and 2 when it was asked for wrongly.

use std::io;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// The reader of our output is gone; that is no error.
    ClosedPipe,
    /// Everything was already said on standard error or standard output.
    Said,
    /// The same, with the exit code of a verdict.
    Ended(u8),
    /// What was asked for failed.
    Failed {
        /// The thing, the place, the reason.
        message: String,
        /// The way out.
        help: Option<String>,
    },
    /// It was asked for in a way that cannot be.
    Usage {
        /// What is wrong with it.
        message: String,
        /// How to ask.
        help: Option<String>,
    },
}

impl Failure {
    /// A failure without advice.
    pub fn new(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), help: None }
    }

    /// A wrong way of asking.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), help: None }
    }

    /// The same with advice.
    #[must_use]
    pub fn help(self, advice: impl Into<String>) -> Self {
        match self {
            Self::Failed { message, .. } => Self::Failed { message, help: Some(advice.into()) },
            Self::Usage { message, .. } => Self::Usage { message, help: Some(advice.into()) },
            other => other,
        }
    }

    /// The exit code that says so.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::ClosedPipe => 0,
            Self::Said | Self::Failed { .. } => 1,
            Self::Usage { .. } => 2,
            Self::Ended(code) => *code,
        }
    }

    /// What to print on standard error; nothing when all is said.
    #[must_use]
    pub fn text(&self, colour: bool) -> Option<String> {
        let (Self::Failed { message, help } | Self::Usage { message, help }) = self else { return None };
        let label = if colour { "\u{1b}[1;31merror\u{1b}[0m" } else { "error" };
        let advice = help.as_ref().map(|help| format!("\n  = help: {help}")).unwrap_or_default();
        Some(format!("{label}: {message}{advice}\n"))
    }
}

impl From<io::Error> for Failure {
    /// For our own output only: other IO names its file.
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
