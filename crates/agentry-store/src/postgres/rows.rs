//! Parameters and columns of PostgreSQL, and functions that run statements.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::failure::Failure;
use super::pool::Db;
use super::text;
use crate::sql::columns::Columns;
use crate::sql::limits::one_more;
use crate::{Page, StoreError};

type Wire = Box<dyn std::error::Error + Sync + Send>;

/// Parameters of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// An id in a `uuid` column: `SqlId(*task.as_bytes())`.
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

/// A column of integers of any width.
struct Number(i64);

impl<'a> FromSql<'a> for Number {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Wire> {
        Ok(Self(match *ty {
            Type::INT2 => i16::from_sql(ty, raw)?.into(),
            Type::INT4 => i32::from_sql(ty, raw)?.into(),
            _ => i64::from_sql(ty, raw)?,
        }))
    }

    fn accepts(ty: &Type) -> bool {
        [Type::INT2, Type::INT4, Type::INT8].contains(ty)
    }
}

impl Columns for Row {
    type Failure = Failure;

    fn number_or_none(&self, at: usize) -> Result<Option<i64>, Failure> {
        Ok(self.try_get::<_, Option<Number>>(at)?.map(|number| number.0))
    }

    fn flag(&self, at: usize) -> Result<bool, Failure> {
        Ok(self.try_get(at)?)
    }

    fn bytes_or_none(&self, at: usize) -> Result<Option<[u8; 16]>, Failure> {
        Ok(self.try_get::<_, Option<SqlId>>(at)?.map(|id| id.0))
    }

    fn plain_or_none(&self, at: usize) -> Result<Option<&str>, Failure> {
        Ok(self.try_get(at)?)
    }

    fn unescaped<'a>(&self, column: &'a str) -> Cow<'a, str> {
        text::unescape(column)
    }
}

/// Runs a statement, prepared once per connection, and reads all its rows.
pub(super) async fn rows<T>(
    client: &impl GenericClient,
    sql: &str,
    params: Params<'_>,
    read: impl FnMut(&Row) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    query(client, sql, params).await?.iter().map(read).collect()
}

/// Runs a statement, prepared once per connection, and reads its first row, if there is one.
pub(super) async fn row<T>(
    client: &impl GenericClient,
    sql: &str,
    params: Params<'_>,
    read: impl FnOnce(&Row) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    query(client, sql, params).await?.first().map(read).transpose()
}

/// Runs a statement, prepared once per connection, and reads its only row.
pub(super) async fn only<T>(
    client: &impl GenericClient,
    sql: &str,
    params: Params<'_>,
    read: impl FnOnce(&Row) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let found = row(client, sql, params, read).await?;
    found.ok_or_else(|| Failure::Data("a row that is always there is missing".to_owned()))
}

/// Runs a statement, prepared once per connection. Returns its rows.
pub(super) async fn query(client: &impl GenericClient, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Failure> {
    let statement = client.prepare_cached(sql).await?;
    Ok(client.query(&statement, params).await?)
}

/// Runs a statement, prepared once per connection. Returns the number of affected rows.
pub(super) async fn execute(client: &impl GenericClient, sql: &str, params: Params<'_>) -> Result<u64, Failure> {
    let statement = client.prepare_cached(sql).await?;
    Ok(client.execute(&statement, params).await?)
}

/// Single statements as commands, retried like all others.
impl Db {
    pub(super) async fn rows<T: Send>(
        &self,
        sql: &str,
        params: Params<'_>,
        read: impl Fn(&Row) -> Result<T, Failure> + Copy + Send,
    ) -> Result<Vec<T>, StoreError> {
        self.retrying(|_| async move { rows(&self.conn().await?, sql, params, read).await }).await
    }

    pub(super) async fn row<T: Send>(
        &self,
        sql: &str,
        params: Params<'_>,
        read: impl Fn(&Row) -> Result<T, Failure> + Copy + Send,
    ) -> Result<Option<T>, StoreError> {
        self.retrying(|_| async move { row(&self.conn().await?, sql, params, read).await }).await
    }

    pub(super) async fn only<T: Send>(
        &self,
        sql: &str,
        params: Params<'_>,
        read: impl Fn(&Row) -> Result<T, Failure> + Copy + Send,
    ) -> Result<T, StoreError> {
        self.retrying(|_| async move { only(&self.conn().await?, sql, params, read).await }).await
    }

    /// Reads a page. The limit is added as the last parameter of the statement.
    pub(super) async fn page<T: Send>(
        &self,
        sql: &str,
        params: Params<'_>,
        limit: usize,
        read: impl Fn(&Row) -> Result<T, Failure> + Copy + Send,
    ) -> Result<Page<T>, StoreError> {
        let wanted = one_more(limit);
        let params = [params, &[&wanted]].concat();
        Ok(Page::cut(self.rows(sql, &params, read).await?, limit))
    }

    pub(super) async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64, StoreError> {
        self.retrying(|_| async move { execute(&self.conn().await?, sql, params).await }).await
    }

    /// Returns whether a statement affected a row, now or in a try whose answer was lost.
    pub(super) async fn touches(&self, sql: &str, params: Params<'_>) -> Result<bool, StoreError> {
        self.retrying(
            |tries| async move { Ok(execute(&self.conn().await?, sql, params).await? > 0 || tries.maybe_done) },
        )
        .await
    }
}

/// Converts a number to the signed type of its column.
pub(super) fn signed32(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
