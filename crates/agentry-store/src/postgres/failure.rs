//! Failures of commands, whether to retry them, and the resulting errors of callers.

use std::error::Error as _;
use std::time::Duration;

use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::error::SqlState;

use crate::StoreError;
use crate::sql::columns::Unreadable;

/// Retry delay when the pool has no free connection: batches are done well within it.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Failure of a command.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command was refused and wrote nothing.
    Refused(StoreError),
    /// A statement or its connection failed.
    Sql(tokio_postgres::Error),
    /// No connection could be opened; nothing was sent.
    Unreachable(String),
    /// The server did not answer in time; whether it did the work is unknown.
    Silent,
    /// No connection became free in time.
    Busy(u64),
    /// A row is unreadable.
    Data(String),
}

/// Advice for a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryAdvice {
    /// Another connection, after a pause. `unknown`: the work may have been done.
    Reconnect { unknown: bool },
    /// An immediate retry, because another transaction conflicted.
    Again,
    /// Retrying does not help.
    None,
}

impl Failure {
    pub(super) fn retry_advice(&self) -> RetryAdvice {
        match self {
            Self::Unreachable(_) => RetryAdvice::Reconnect { unknown: false },
            Self::Silent => RetryAdvice::Reconnect { unknown: true },
            Self::Sql(error) => match error.code() {
                Some(code) if is_conflict(code) => RetryAdvice::Again,
                // The server refused before it did anything.
                Some(code) if *code == SqlState::READ_ONLY_SQL_TRANSACTION => RetryAdvice::Reconnect { unknown: false },
                Some(code) if is_lost(code) => RetryAdvice::Reconnect { unknown: true },
                Some(_) => RetryAdvice::None,
                None if error.is_closed() || is_io(error) => RetryAdvice::Reconnect { unknown: true },
                None => RetryAdvice::None,
            },
            Self::Refused(_) | Self::Busy(_) | Self::Data(_) => RetryAdvice::None,
        }
    }

    /// Converts the failure into the caller's error.
    pub(super) fn to_store_error(&self) -> StoreError {
        match self {
            Self::Refused(error) => error.clone(),
            Self::Data(detail) => StoreError::Broken(detail.clone()),
            Self::Unreachable(detail) => StoreError::Unavailable(format!(
                "PostgreSQL cannot be reached: {detail}; check the server and the address"
            )),
            Self::Silent => {
                StoreError::Unavailable("PostgreSQL did not answer in time; check its load and the network".to_owned())
            }
            Self::Busy(bound) => {
                StoreError::Full { what: "the pool of PostgreSQL connections", bound: *bound, retry_after: RETRY_AFTER }
            }
            Self::Sql(error) => sql_to_store_error(error, self.retry_advice()),
        }
    }
}

fn sql_to_store_error(error: &tokio_postgres::Error, help: RetryAdvice) -> StoreError {
    let text = describe(error);
    match error.code() {
        Some(code) if *code == SqlState::DISK_FULL => StoreError::Unavailable(
            "no space is left on PostgreSQL's disk; free some and work goes on by itself".to_owned(),
        ),
        Some(code) if *code == SqlState::QUERY_CANCELED => {
            StoreError::Unavailable(format!("PostgreSQL took too long: {text}"))
        }
        Some(code) if is_environment(code) => StoreError::Unavailable(format!("PostgreSQL: {text}")),
        _ if help != RetryAdvice::None => StoreError::Unavailable(format!("PostgreSQL: {text}")),
        _ => StoreError::Broken(format!("PostgreSQL: {text}")),
    }
}

/// Returns an error with its cause: the driver's own text is only `db error`.
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(db), _) => format!("{} ({})", db.message(), db.code().code()),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

/// Returns whether another transaction conflicted.
fn is_conflict(code: &SqlState) -> bool {
    [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::LOCK_NOT_AVAILABLE].contains(code)
}

/// Returns whether the connection is lost, or the server is stopping, starting or standing by.
fn is_lost(code: &SqlState) -> bool {
    let going = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    ];
    going.contains(code) || code.code().starts_with("08")
}

/// Returns whether the server's disk, memory, connections or time ran out, which may pass.
fn is_environment(code: &SqlState) -> bool {
    // 53: insufficient resources; 58: system errors such as IO.
    code.code().starts_with("53") || code.code().starts_with("58") || *code == SqlState::QUERY_CANCELED
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(|cause| cause.is::<std::io::Error>())
}

impl Failure {
    /// Converts an error of a pool of `size` connections.
    pub(super) fn from_pool(error: PoolError, size: usize) -> Self {
        match error {
            PoolError::Timeout(TimeoutType::Wait) => Self::Busy(size as u64),
            PoolError::Timeout(_) => Self::Unreachable("the server did not answer in time".to_owned()),
            PoolError::Backend(error) => Self::connecting(error),
            PoolError::PostCreateHook(error) => Self::Unreachable(error.to_string()),
            PoolError::Closed | PoolError::NoRuntimeSpecified => {
                Self::Refused(StoreError::Unavailable("the store is closed".to_owned()))
            }
        }
    }

    /// Converts an error of connecting. A permanent refusal (password, database) is not retried.
    pub(super) fn connecting(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(code) if !is_lost(code) && !is_environment(code) => Self::Sql(error),
            _ => Self::Unreachable(describe(&error)),
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
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
