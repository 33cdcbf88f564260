//! Columns of SQLite, and functions that run statements, each prepared once.

use std::borrow::Cow;

use rusqlite::types::FromSql;
use rusqlite::{Connection, Params, Row};

use super::failure::Failure;
use crate::sql::columns::{Columns, Unreadable};

impl Columns for Row<'_> {
    type Failure = Failure;

    fn number_or_none(&self, at: usize) -> Result<Option<i64>, Failure> {
        Ok(self.get(at)?)
    }

    fn flag(&self, at: usize) -> Result<bool, Failure> {
        Ok(self.get(at)?)
    }

    fn bytes_or_none(&self, at: usize) -> Result<Option<[u8; 16]>, Failure> {
        Ok(self.get(at)?)
    }

    fn plain_or_none(&self, at: usize) -> Result<Option<&str>, Failure> {
        Ok(self.get_ref(at)?.as_str_or_null().map_err(|error| Unreadable(error.to_string()))?)
    }

    fn unescaped<'a>(&self, column: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(column)
    }
}

/// Returns the microseconds between two times; 0 when they are reversed.
pub(super) fn micros(since: i64, now: agentry_core::time::Timestamp) -> i64 {
    now.0.saturating_sub(since).max(0)
}

/// Runs a query and reads all its rows.
pub(super) fn rows<T>(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    mut read: impl FnMut(&Row<'_>) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(read(row)?);
    }
    Ok(all)
}

/// Runs a query and reads its first row, if there is one.
pub(super) fn row<T>(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    rows.next()?.map(read).transpose()
}

/// Runs a query and reads the first column of its only row.
pub(super) fn value<T: FromSql>(conn: &Connection, sql: &str, params: impl Params) -> Result<T, Failure> {
    Ok(conn.prepare_cached(sql)?.query_row(params, |row| row.get(0))?)
}

/// Returns whether a query has a row.
pub(super) fn exists(conn: &Connection, sql: &str, params: impl Params) -> Result<bool, Failure> {
    Ok(conn.prepare_cached(sql)?.exists(params)?)
}

/// Runs a statement. Returns the number of affected rows.
pub(super) fn execute(conn: &Connection, sql: &str, params: impl Params) -> Result<usize, Failure> {
    Ok(conn.prepare_cached(sql)?.execute(params)?)
}
