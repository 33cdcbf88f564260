//! Failures of commands, and the resulting errors of callers.

use rusqlite::ErrorCode;

use crate::StoreError;
use crate::sql::columns::Unreadable;

/// Failure of a command.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command was refused before it wrote anything.
    Refused(StoreError),
    /// SQLite refused a statement; the command's writes must be rolled back.
    Sql(rusqlite::Error),
    /// A row is unreadable; the command's writes must be rolled back.
    Data(String),
}

impl Failure {
    /// Returns whether the machine is the cause (disk full, IO error) and not the command, so that no other one would
    /// succeed.
    pub(super) fn is_environment(&self) -> bool {
        matches!(self, Self::Sql(error) if is_environment(error))
    }

    /// Converts the failure into the caller's error.
    pub(super) fn to_store_error(&self) -> StoreError {
        match self {
            Self::Refused(error) => error.clone(),
            Self::Data(detail) => StoreError::Broken(detail.clone()),
            Self::Sql(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => StoreError::Unavailable(
                    "no space is left for the data folder; free some and work goes on by itself".to_owned(),
                ),
                _ if is_environment(error) => {
                    StoreError::Unavailable(format!("{error}; check the disk of the data folder"))
                }
                _ => StoreError::Broken(error.to_string()),
            },
        }
    }
}

fn is_environment(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OutOfMemory
        )
    )
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<Unreadable> for Failure {
    fn from(Unreadable(detail): Unreadable) -> Self {
        Self::Data(detail)
    }
}
