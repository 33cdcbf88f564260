//! Errors of processes, servers and answers.

use std::path::PathBuf;

/// Errors of processes, servers and answers.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A program could not be started.
    #[error("cannot start {program}: {error}")]
    Start {
        /// The program.
        program: String,
        /// Cause.
        error: std::io::Error,
    },
    /// A process ended or did not become ready.
    #[error("{what}; the end of its log:\n{log}")]
    NotReady {
        /// Process, and its actual behaviour.
        what: String,
        /// The end of its log.
        log: String,
    },
    /// A program is not installed.
    #[error("`{program}` is not installed (looked on PATH and in {folders}); on Debian: apt-get install {package}")]
    Missing {
        /// The program.
        program: String,
        /// Other places searched.
        folders: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A file or folder.
    #[error("{}: {error}", path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// Cause.
        error: std::io::Error,
    },
    /// A server does not answer, or not as a server of its kind that lets us in.
    #[error("{server}: {why}")]
    Unusable {
        /// Host and port.
        server: String,
        /// Actual behaviour.
        why: String,
    },
    /// A URL that cannot be read. It is not shown: it may hold a password.
    #[error("{0}")]
    Url(&'static str),
    /// A request was not answered.
    #[error("{request}: {error}")]
    Unreachable {
        /// Method and URL.
        request: String,
        /// Cause.
        error: String,
    },
    /// A request was answered with an error.
    #[error("{request} was answered with {status}: {body}")]
    Answer {
        /// Method and URL.
        request: String,
        /// The status.
        status: u16,
        /// The start of the body.
        body: String,
    },
    /// Something did not happen in time.
    #[error("waited {seconds:.0} s in vain for {what}")]
    TooLate {
        /// Awaited condition.
        what: String,
        /// Time waited.
        seconds: f64,
    },
    /// Anything else outside: a database or a broker.
    #[error("{0}")]
    Server(String),
}

impl LabError {
    /// Makes an error of a file or folder from its cause.
    pub fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| Self::File { path, error }
    }
}
