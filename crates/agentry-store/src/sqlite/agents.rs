//! Columns that name an agent or a session.

use agentry_core::agent::AgentName;
use agentry_core::session::SessionId;
use rusqlite::Row;

use super::db::Db;
use super::failure::Failure;

/// An agent's name in a column.
pub(super) fn name_at(row: &Row<'_>, column: usize) -> Result<AgentName, Failure> {
    name(row.get_ref(column)?.as_str().map_err(|error| Failure::Data(error.to_string()))?)
}

/// A checked name.
pub(super) fn name(text: &str) -> Result<AgentName, Failure> {
    AgentName::new(text).map_err(|error| Failure::Data(error.to_string()))
}

/// A version by the number of its name.
pub(super) fn version_of(db: &Db, number: i64) -> Result<Box<str>, Failure> {
    Ok(db.sql("SELECT name FROM names WHERE id = ?1")?.query_row([number], |row| row.get(0))?)
}

/// A session in a column that may be NULL.
pub(super) fn session_at(row: &Row<'_>, column: usize) -> Result<Option<SessionId>, Failure> {
    row.get::<_, Option<String>>(column)?.map(|text| session(&text)).transpose()
}

/// A session's written form.
pub(super) fn session(text: &str) -> Result<SessionId, Failure> {
    SessionId::parse(text).ok_or_else(|| Failure::Data(format!("`{text}` is not a session")))
}
