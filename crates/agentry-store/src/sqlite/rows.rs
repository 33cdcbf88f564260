//! How words of the core are written into columns and read back.

use agentry_core::agent::ExecutionMode;
use agentry_core::task::TaskStatus;
use agentry_core::time::Timestamp;
use rusqlite::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::failure::Failure;
use crate::MAX_PAGE;

/// JSON text of a value.
pub(super) fn to_json<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Data(format!("a value cannot be written as JSON: {error}")))
}

/// The value of a JSON column.
pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    Ok(serde_json::from_str(text)?)
}

/// A JSON column of a row.
pub(super) fn json_at<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T, Failure> {
    from_json(row.get_ref(column)?.as_str().map_err(|error| Failure::Data(error.to_string()))?)
}

/// A JSON column of a row that may be NULL.
pub(super) fn json_or_none<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<Option<T>, Failure> {
    match row.get_ref(column)?.as_str_or_null().map_err(|error| Failure::Data(error.to_string()))? {
        Some(text) => from_json(text).map(Some),
        None => Ok(None),
    }
}

/// A status column.
pub(super) fn status(number: u8) -> Result<TaskStatus, Failure> {
    TaskStatus::from_number(number).ok_or_else(|| Failure::Data(format!("there is no task status {number}")))
}

/// A mode column.
pub(super) fn mode(number: u8) -> Result<ExecutionMode, Failure> {
    ExecutionMode::from_number(number).ok_or_else(|| Failure::Data(format!("there is no execution mode {number}")))
}

/// A number that SQLite keeps as a signed one.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The length of a page, within [`MAX_PAGE`].
pub(super) fn page_len(limit: usize) -> usize {
    limit.min(MAX_PAGE)
}

/// A limit as SQLite takes it, within [`MAX_PAGE`].
pub(super) fn sql_limit(limit: usize) -> i64 {
    signed(page_len(limit) as u64)
}

/// Microseconds between two moments; 0 when they are the wrong way round.
pub(super) fn micros(since: i64, now: Timestamp) -> i64 {
    now.0.saturating_sub(since).max(0)
}

/// Runs a query and reads all its rows.
pub(super) fn collect<T>(
    statement: &mut rusqlite::Statement<'_>,
    params: impl rusqlite::Params,
    mut read: impl FnMut(&Row<'_>) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut rows = statement.query(params)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(read(row)?);
    }
    Ok(all)
}

/// Runs a query and reads its first row.
pub(super) fn first<T>(
    statement: &mut rusqlite::Statement<'_>,
    params: impl rusqlite::Params,
    read: impl FnOnce(&Row<'_>) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    let mut rows = statement.query(params)?;
    match rows.next()? {
        Some(row) => read(row).map(Some),
        None => Ok(None),
    }
}
