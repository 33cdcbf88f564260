//! How words of the core are written into columns and read back, and how statements are run.

use agentry_core::agent::{AgentName, ExecutionMode};
use agentry_core::session::SessionId;
use agentry_core::task::TaskStatus;
use agentry_core::time::Timestamp;
use bytes::{BufMut, BytesMut};
use deadpool_postgres::GenericClient;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::failure::Failure;
use super::text;
use crate::MAX_PAGE;

type Wire = Box<dyn std::error::Error + Sync + Send>;

/// Parameters of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// An id in a `uuid` column: `SqlId(*task.as_bytes())`, and back with `TaskId::from_bytes(id.0)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SqlId(pub(crate) [u8; 16]);

impl ToSql for SqlId {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Wire> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for SqlId {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Wire> {
        Ok(Self(raw.try_into()?))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }
}

/// Runs a statement, prepared once per connection, and reads all its rows.
pub(super) async fn query(client: &impl GenericClient, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Failure> {
    let statement = client.prepare_cached(sql).await?;
    Ok(client.query(&statement, params).await?)
}

/// Runs a statement, prepared once per connection, and reads its row, if there is one.
pub(super) async fn first(client: &impl GenericClient, sql: &str, params: Params<'_>) -> Result<Option<Row>, Failure> {
    Ok(query(client, sql, params).await?.into_iter().next())
}

/// Runs a statement, prepared once per connection. Returns how many rows it touched.
pub(super) async fn execute(client: &impl GenericClient, sql: &str, params: Params<'_>) -> Result<u64, Failure> {
    let statement = client.prepare_cached(sql).await?;
    Ok(client.execute(&statement, params).await?)
}

/// Reads every row.
pub(super) fn collect<T>(rows: &[Row], read: impl FnMut(&Row) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
    rows.iter().map(read).collect()
}

/// JSON text of a value.
pub(super) fn to_json<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Data(format!("a value cannot be written as JSON: {error}")))
}

/// The value of a JSON text.
pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    Ok(serde_json::from_str(text)?)
}

/// A JSON column of a row.
pub(super) fn json_at<T: DeserializeOwned>(row: &Row, column: usize) -> Result<T, Failure> {
    from_json(row.try_get(column)?)
}

/// A JSON column of a row that may be NULL.
pub(super) fn json_or_none<T: DeserializeOwned>(row: &Row, column: usize) -> Result<Option<T>, Failure> {
    row.try_get::<_, Option<&str>>(column)?.map(from_json).transpose()
}

/// The 16 bytes of an id column.
pub(super) fn id_at(row: &Row, column: usize) -> Result<[u8; 16], Failure> {
    Ok(row.try_get::<_, SqlId>(column)?.0)
}

/// The 16 bytes of an id column that may be NULL.
pub(super) fn id_or_none(row: &Row, column: usize) -> Result<Option<[u8; 16]>, Failure> {
    Ok(row.try_get::<_, Option<SqlId>>(column)?.map(|id| id.0))
}

/// A moment.
pub(super) fn time_at(row: &Row, column: usize) -> Result<Timestamp, Failure> {
    Ok(Timestamp(row.try_get(column)?))
}

/// A column that never is negative (`integer`).
pub(super) fn u32_at(row: &Row, column: usize) -> Result<u32, Failure> {
    let number: i32 = row.try_get(column)?;
    u32::try_from(number).map_err(|_| Failure::Data(format!("{number} is not a count")))
}

/// A column that never is negative (`bigint`).
pub(super) fn u64_at(row: &Row, column: usize) -> Result<u64, Failure> {
    let number: i64 = row.try_get(column)?;
    u64::try_from(number).map_err(|_| Failure::Data(format!("{number} is not a count")))
}

/// A status column (`smallint`).
pub(super) fn status_at(row: &Row, column: usize) -> Result<TaskStatus, Failure> {
    let number: i16 = row.try_get(column)?;
    u8::try_from(number)
        .ok()
        .and_then(TaskStatus::from_number)
        .ok_or_else(|| Failure::Data(format!("there is no task status {number}")))
}

/// A mode column (`smallint`).
pub(super) fn mode_at(row: &Row, column: usize) -> Result<ExecutionMode, Failure> {
    let number: i16 = row.try_get(column)?;
    u8::try_from(number)
        .ok()
        .and_then(ExecutionMode::from_number)
        .ok_or_else(|| Failure::Data(format!("there is no execution mode {number}")))
}

/// An agent's name in a column.
pub(super) fn agent_at(row: &Row, column: usize) -> Result<AgentName, Failure> {
    AgentName::new(row.try_get::<_, &str>(column)?).map_err(|error| Failure::Data(error.to_string()))
}

/// A session in a column.
pub(super) fn session_at(row: &Row, column: usize) -> Result<SessionId, Failure> {
    session(row.try_get(column)?)
}

/// A session in a column that may be NULL.
pub(super) fn session_or_none(row: &Row, column: usize) -> Result<Option<SessionId>, Failure> {
    row.try_get::<_, Option<&str>>(column)?.map(session).transpose()
}

fn session(column: &str) -> Result<SessionId, Failure> {
    SessionId::parse(&text::unescape(column)).ok_or_else(|| Failure::Data(format!("`{column}` is not a session")))
}

/// A number that PostgreSQL keeps as a signed one.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that PostgreSQL keeps as a signed one.
pub(super) fn signed32(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// The length of a page, within [`MAX_PAGE`].
pub(super) fn page_len(limit: usize) -> usize {
    limit.min(MAX_PAGE)
}

/// A limit as SQL takes it, within [`MAX_PAGE`].
pub(super) fn sql_limit(limit: usize) -> i64 {
    signed(page_len(limit) as u64)
}
