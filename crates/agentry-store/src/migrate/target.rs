//! The target schema: locked, filled, read back and committed in one transaction, so that nobody sees any of it before
//! it is known to be correct.

use std::pin::pin;

use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, Transaction};

use super::error::MigrateError;
use super::row::{Checksum, Column, ColumnType, Value};
use super::source::Chunk;
use super::tables::{TABLES, Table};
use crate::postgres::failure::describe;
use crate::postgres::options::Planner;
use crate::postgres::rows::SqlId;
use crate::postgres::{PostgresOptions, text};
use crate::{QueueCounts, StoreError};

/// Settings of the transaction. Statements may take as long as they need, and checking wants sequential reads. A lock
/// that is held by others for longer than 5 s is held by a server; a transaction that is idle for 5 min is frozen.
const SETTINGS: &str = "SET LOCAL statement_timeout = 0; SET LOCAL enable_seqscan = on; SET LOCAL lock_timeout = '5s';
    SET LOCAL idle_in_transaction_session_timeout = '5min'";
/// Rows of existing content that are counted for the message.
const COUNTED: i64 = 10_000;
/// Rows between two progress reports.
const REPORT_EVERY: u64 = 10_000;

/// A connection to the target.
pub(super) struct Target {
    client: Client,
    schema: String,
}

impl Target {
    /// Connects without checking the schema.
    pub(super) async fn connect(options: &PostgresOptions) -> Result<Self, MigrateError> {
        let refused = |error: StoreError| match error {
            StoreError::Broken(why) => MigrateError::Address(why),
            other => MigrateError::of_store(&other),
        };
        let config = options.config(Planner::General).map_err(refused)?;
        let unreachable =
            |error: tokio_postgres::Error| MigrateError::Unreachable { at: place(&config), detail: describe(&error) };
        let (client, connection) = config.connect(NoTls).await.map_err(unreachable)?;
        // Ends with the client.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection of the migration ended");
            }
        });
        Ok(Self { client, schema: options.schema.clone() })
    }

    /// Refuses a schema that holds anything. A missing schema is empty.
    pub(super) async fn check_empty(&mut self) -> Result<(), MigrateError> {
        let exists = "SELECT to_regclass('tasks') IS NOT NULL";
        let row = self.client.query_one(exists, &[]).await.map_err(|error| refused("a look at its tables", &error))?;
        if !row.try_get::<_, bool>(0).map_err(|error| refused("a look at its tables", &error))? {
            return Ok(());
        }
        let schema = self.schema.clone();
        let tx = self.client.transaction().await.map_err(|error| refused("a transaction", &error))?;
        Import { tx, schema }.check_empty().await
    }

    /// Starts the transaction: locks the tables against writers and refuses them when they hold anything.
    pub(super) async fn begin(&mut self) -> Result<Import<'_>, MigrateError> {
        let schema = self.schema.clone();
        let tx = self.client.transaction().await.map_err(|error| refused("a transaction", &error))?;
        tx.batch_execute(SETTINGS).await.map_err(|error| refused("its settings", &error))?;
        let names: Vec<&str> = TABLES.iter().map(|table| table.name).chain(["counters", "fleet_revision"]).collect();
        let lock = format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", names.join(", "));
        tx.batch_execute(&lock).await.map_err(|error| match error.code() {
            Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => MigrateError::Busy { schema: schema.clone() },
            _ => refused("the lock on its tables", &error),
        })?;
        let import = Import { tx, schema };
        import.check_empty().await?;
        Ok(import)
    }

    /// Updates the planner's statistics. Without it only the first hour is slower.
    pub(super) async fn analyze(&self) {
        let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
        let sql = format!("SET statement_timeout = 0; ANALYZE {}", names.join(", "));
        if let Err(error) = self.client.batch_execute(&sql).await {
            tracing::warn!(error = describe(&error), "the moved tables could not be analysed");
        }
    }
}

fn refused(what: &str, error: &tokio_postgres::Error) -> MigrateError {
    MigrateError::statement(what, error)
}

/// Returns hosts and database of an address, without user and password.
fn place(config: &tokio_postgres::Config) -> String {
    let hosts = config.get_hosts().iter().map(|host| match host {
        tokio_postgres::config::Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
    });
    let ports = config.get_ports();
    let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5_432);
    let hosts: Vec<String> = hosts.enumerate().map(|(at, host)| format!("{host}:{}", port(at))).collect();
    format!("{}/{}", hosts.join(","), config.get_dbname().unwrap_or_default())
}

/// The transaction of a migration; rolled back when it is dropped without [`Import::commit`].
pub(super) struct Import<'c> {
    tx: Transaction<'c>,
    schema: String,
}

impl Import<'_> {
    async fn check_empty(&self) -> Result<(), MigrateError> {
        let mut found = Vec::new();
        for table in &TABLES {
            let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT $1) AS there", table.name);
            let fail = |error: tokio_postgres::Error| refused("a count of what is there", &error);
            let row = self.tx.query_one(&sql, &[&(COUNTED + 1)]).await.map_err(fail)?;
            match row.try_get::<_, i64>(0).map_err(fail)? {
                0 => {}
                many if many > COUNTED => found.push(format!("more than {COUNTED} {}", table.name)),
                few => found.push(format!("{few} {}", table.name)),
            }
        }
        if found.is_empty() { Ok(()) } else { Err(MigrateError::NotEmpty { schema: self.schema.clone(), found }) }
    }

    /// Writes the rows of a table as they arrive.
    pub(super) async fn copy(
        &self,
        table: &Table,
        mut chunks: mpsc::Receiver<Chunk>,
        mut progress: impl FnMut(u64),
    ) -> Result<(), MigrateError> {
        let fail = |error: tokio_postgres::Error| refused(&format!("rows of `{}`", table.name), &error);
        // Numbers are written as they are, whatever the column says about generated values.
        let sql = format!("COPY {} ({}) FROM STDIN (FORMAT binary)", table.name, table.names());
        let mut sink = pin!(self.tx.copy_in::<_, Bytes>(&sql).await.map_err(fail)?);
        while let Some(chunk) = chunks.recv().await {
            sink.send(chunk.bytes).await.map_err(fail)?;
            progress(chunk.rows);
        }
        sink.finish().await.map(drop).map_err(fail)
    }

    /// Reads a table back as the store on the target reads it.
    pub(super) async fn sum(&self, table: &Table, mut progress: impl FnMut(u64)) -> Result<Checksum, MigrateError> {
        let fail = |error: tokio_postgres::Error| refused(&format!("the reading back of `{}`", table.name), &error);
        let sql = format!("SELECT {} FROM {}", table.names(), table.name);
        let none = std::iter::empty::<&(dyn ToSql + Sync)>();
        let mut rows = pin!(self.tx.query_raw(&sql, none).await.map_err(fail)?);
        let (mut sum, mut buffer) = (Checksum::default(), Vec::new());
        while let Some(row) = rows.try_next().await.map_err(fail)? {
            sum.add(&values(table.columns, &row).map_err(fail)?, &mut buffer);
            if sum.rows.is_multiple_of(REPORT_EVERY) {
                progress(sum.rows);
            }
        }
        progress(sum.rows);
        Ok(sum)
    }

    /// Makes the numbers of a table continue after `last`.
    pub(super) async fn continue_numbering(&self, table: &Table, last: Option<i64>) -> Result<(), MigrateError> {
        let Some(last) = last else { return Ok(()) };
        let sql = format!("SELECT setval(pg_get_serial_sequence('{}', 'seq'), $1)", table.name);
        let fail = |error: tokio_postgres::Error| refused(&format!("numbers for `{}`", table.name), &error);
        self.tx.execute(&sql, &[&last]).await.map(drop).map_err(fail)
    }

    /// Counts the open tasks into the sums that the store maintains, in the row without a connection.
    pub(super) async fn count(&self) -> Result<QueueCounts, MigrateError> {
        let fail = |error: tokio_postgres::Error| refused("the counts of tasks", &error);
        self.tx.batch_execute("DELETE FROM counters").await.map_err(fail)?;
        let sql = "INSERT INTO counters (pid, queued, running, waiting)
                   SELECT 0, count(*) FILTER (WHERE status = 0), count(*) FILTER (WHERE status = 1),
                       count(*) FILTER (WHERE status = 2)
                   FROM open_tasks
                   RETURNING queued, running, waiting";
        let row = self.tx.query_one(sql, &[]).await.map_err(fail)?;
        let count = |at: usize| row.try_get::<_, i64>(at).map(|count| u64::try_from(count).unwrap_or(0)).map_err(fail);
        Ok(QueueCounts { queued: count(0)?, running: count(1)?, waiting: count(2)? })
    }

    /// Makes the revisions of the fleet continue after the last one that was moved.
    pub(super) async fn continue_revisions(&self) -> Result<(), MigrateError> {
        let sql = "UPDATE fleet_revision SET revision = (SELECT coalesce(max(revision), 0) FROM fleet)";
        self.tx.batch_execute(sql).await.map_err(|error| refused("the revision of the fleet", &error))
    }

    /// Commits the transaction.
    pub(super) async fn commit(self) -> Result<(), MigrateError> {
        self.tx.commit().await.map_err(|error| MigrateError::commit(&error))
    }
}

fn values<'r>(columns: &[Column], row: &'r Row) -> Result<Vec<Value<'r>>, tokio_postgres::Error> {
    columns.iter().enumerate().map(|(at, column)| value(column.kind, row, at)).collect()
}

fn value<'r>(kind: ColumnType, row: &'r Row, at: usize) -> Result<Value<'r>, tokio_postgres::Error> {
    let number = |number: Option<i64>| number.map_or(Value::Null, Value::Number);
    Ok(match kind {
        ColumnType::Id => row.try_get::<_, Option<SqlId>>(at)?.map_or(Value::Null, |id| Value::Id(id.0)),
        ColumnType::Small => number(row.try_get::<_, Option<i16>>(at)?.map(i64::from)),
        ColumnType::Int => number(row.try_get::<_, Option<i32>>(at)?.map(i64::from)),
        ColumnType::Big | ColumnType::Moment => number(row.try_get(at)?),
        ColumnType::Bool => number(row.try_get::<_, Option<bool>>(at)?.map(i64::from)),
        ColumnType::Text => {
            row.try_get::<_, Option<&str>>(at)?.map_or(Value::Null, |text| Value::Text(text::unescape(text)))
        }
        ColumnType::Json => row.try_get::<_, Option<&str>>(at)?.map_or(Value::Null, |text| Value::Text(text.into())),
    })
}
