//! Why a run or a scenario did not come to its end.

use std::path::PathBuf;

use crate::check::HistoryError;
use crate::load::LoadError;
use crate::sut::SutError;

/// Why.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The platform or a server that it needs.
    #[error(transparent)]
    Sut(#[from] SutError),
    /// The generator.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The history of operations.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A file of ours.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It was asked for in a way that cannot be.
    #[error("{0}")]
    Usage(String),
}
