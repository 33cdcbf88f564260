//! Reasons why a run or a scenario failed.

use std::path::PathBuf;

use agentry_lab::LabError;

use crate::check::HistoryError;
use crate::load::LoadError;

/// Reason why a run or a scenario failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The platform or a server that it needs is missing or does not answer.
    #[error(transparent)]
    Sut(#[from] LabError),
    /// The load generator failed.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The history of operations cannot be written.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A file of the suite cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        path: PathBuf,
        /// Reason why a run or a scenario failed.
        error: std::io::Error,
    },
    /// The request cannot be fulfilled.
    #[error("{0}")]
    Usage(String),
}
