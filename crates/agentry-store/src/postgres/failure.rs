//! Why a command of this backend did not succeed, whether to try it again, and what its caller hears of it.

use std::error::Error as _;
use std::time::Duration;

use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::error::SqlState;

use crate::StoreError;
use crate::sql::columns::Unreadable;

/// When a caller may try again after the pool had no connection to give: batches are over well within it.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was refused; nothing of it was written.
    Refused(StoreError),
    /// A statement failed, or the connection under it.
    Sql(tokio_postgres::Error),
    /// No connection could be made; nothing was sent.
    Unreachable(String),
    /// The server did not answer in time; whether it did the work is not known.
    Silent,
    /// Every connection was busy for too long.
    Busy(u64),
    /// A row says something that cannot be read.
    Data(String),
}

/// What may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Help {
    /// Another connection, after a pause. `unknown`: the work may have been done.
    Reconnect { unknown: bool },
    /// The same again at once: another transaction was in the way.
    Again,
    /// Nothing here.
    None,
}

impl Failure {
    /// What may help against it.
    pub(super) fn help(&self) -> Help {
        match self {
            Self::Unreachable(_) => Help::Reconnect { unknown: false },
            Self::Silent => Help::Reconnect { unknown: true },
            Self::Sql(error) => match error.code() {
                Some(code) if is_conflict(code) => Help::Again,
                // The server said no before it did anything.
                Some(code) if *code == SqlState::READ_ONLY_SQL_TRANSACTION => Help::Reconnect { unknown: false },
                Some(code) if is_lost(code) => Help::Reconnect { unknown: true },
                Some(_) => Help::None,
                None if error.is_closed() || is_io(error) => Help::Reconnect { unknown: true },
                None => Help::None,
            },
            Self::Refused(_) | Self::Busy(_) | Self::Data(_) => Help::None,
        }
    }

    /// What the caller hears.
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
            Self::Sql(error) => sql_to_store_error(error, self.help()),
        }
    }
}

fn sql_to_store_error(error: &tokio_postgres::Error, help: Help) -> StoreError {
    let text = describe(error);
    match error.code() {
        Some(code) if *code == SqlState::DISK_FULL => StoreError::Unavailable(
            "no space is left on PostgreSQL's disk; free some and work goes on by itself".to_owned(),
        ),
        Some(code) if *code == SqlState::QUERY_CANCELED => {
            StoreError::Unavailable(format!("PostgreSQL took too long: {text}"))
        }
        Some(code) if is_environment(code) => StoreError::Unavailable(format!("PostgreSQL: {text}")),
        _ if help != Help::None => StoreError::Unavailable(format!("PostgreSQL: {text}")),
        _ => StoreError::Broken(format!("PostgreSQL: {text}")),
    }
}

/// An error with its cause: the driver's own text is only `db error`.
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(db), _) => format!("{} ({})", db.message(), db.code().code()),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

/// Another transaction was in the way.
fn is_conflict(code: &SqlState) -> bool {
    [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::LOCK_NOT_AVAILABLE].contains(code)
}

/// The connection is gone, or the server is going, coming or standing by.
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

/// Something about the server that may pass: its disk, memory, connections or time.
fn is_environment(code: &SqlState) -> bool {
    // 53: insufficient resources; 58: system errors such as IO.
    code.code().starts_with("53") || code.code().starts_with("58") || *code == SqlState::QUERY_CANCELED
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(|cause| cause.is::<std::io::Error>())
}

impl Failure {
    /// A connection that could not be had from a pool of `size`.
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

    /// A connection that could not be made. A refusal that stays the same (password, database) is not tried again.
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
