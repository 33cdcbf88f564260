//! The source folder: locked against a server, and only read.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use agentry_core::time::Timestamp;
use bytes::Bytes;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use tokio::sync::mpsc;

use super::error::MigrateError;
use super::row::{Checksum, Column, ColumnType, Value};
use super::tables::Table;
use super::wire::CopyBuffer;
use crate::QueueCounts;
use crate::sqlite::DATABASE_FILE;
use crate::sqlite::migrations::{SCHEMA_VERSION, version};
use crate::sqlite::open::{self, FolderLock};

/// Every table is read once from its beginning to its end, so a large cache and a mapped file would only take memory.
/// One snapshot of everything, and no writes.
const SETTINGS: &str = "PRAGMA cache_size = -8192; PRAGMA mmap_size = 0; PRAGMA query_only = ON; BEGIN";
/// Size of a chunk in bytes: large enough to make messages cheap, small enough to bound memory.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that may wait for PostgreSQL; with more, reading pauses.
pub(super) const CHUNKS_AHEAD: usize = 4;

/// Encoded rows.
pub(super) struct Chunk {
    /// Rows in the COPY format.
    pub(super) bytes: Bytes,
    /// Number of rows of the table read so far.
    pub(super) rows: u64,
}

/// An open folder. Everything is read as of its opening; nobody else can use it until this is dropped.
pub(super) struct Source {
    conn: Connection,
    file: PathBuf,
    _lock: FolderLock,
}

impl Source {
    /// Opens and locks a folder.
    pub(super) fn open(folder: &Path) -> Result<Self, MigrateError> {
        let file = folder.join(DATABASE_FILE);
        if !folder.is_dir() {
            return Err(MigrateError::NoFolder { path: folder.to_owned() });
        }
        if !file.is_file() {
            return Err(MigrateError::NotADataFolder { path: folder.to_owned() });
        }
        let failed = |error| MigrateError::opening(folder, error);
        let lock = open::lock(folder).map_err(failed)?;
        let conn = open::reader(&file).map_err(failed)?;
        let source = Self { conn, file, _lock: lock };
        let found = version(&source.conn).map_err(|error| source.failed(&error))?;
        if found != SCHEMA_VERSION {
            return Err(MigrateError::SourceSchema { path: source.file, found, known: SCHEMA_VERSION });
        }
        source.conn.execute_batch(SETTINGS).map_err(|error| source.failed(&error))?;
        Ok(source)
    }

    /// Returns the number of rows of a table.
    pub(super) fn count(&self, table: &Table) -> Result<u64, MigrateError> {
        self.one(&format!("SELECT count(*) FROM ({})", table.select))
    }

    /// Returns the last number assigned to a row of a table; `None` when the table has no numbers or assigned none.
    pub(super) fn last_number(&self, table: &Table) -> Result<Option<i64>, MigrateError> {
        table.last_number.map_or(Ok(None), |sql| self.one(sql))
    }

    /// Returns the number of open tasks by status.
    pub(super) fn counts(&self) -> Result<QueueCounts, MigrateError> {
        let count = |status: u8| self.one(&format!("SELECT count(*) FROM tasks WHERE status = {status}"));
        Ok(QueueCounts { queued: count(0)?, running: count(1)?, waiting: count(2)? })
    }

    fn one<T: rusqlite::types::FromSql>(&self, sql: &str) -> Result<T, MigrateError> {
        self.conn.query_row(sql, [], |row| row.get(0)).map_err(|error| self.failed(&error))
    }

    /// Reads a table, row by row.
    pub(super) fn read(
        &self,
        table: &Table,
        mut each: impl FnMut(&[Value<'_>], u64) -> Result<(), String>,
    ) -> Result<Checksum, MigrateError> {
        let mut statement = self.conn.prepare(table.select).map_err(|error| self.failed(&error))?;
        let mut rows = statement.query([]).map_err(|error| self.failed(&error))?;
        let (mut sum, mut buffer) = (Checksum::default(), Vec::new());
        while let Some(row) = rows.next().map_err(|error| self.failed(&error))? {
            let damaged = |detail| self.damaged(table, sum.rows + 1, detail);
            let values = values(table.columns, row).map_err(damaged)?;
            each(&values, sum.rows + 1).map_err(damaged)?;
            sum.add(&values, &mut buffer);
        }
        Ok(sum)
    }

    /// Reads a table into chunks. Ends early when the receiver is gone.
    pub(super) fn send(&self, table: &Table, chunks: &mpsc::Sender<Chunk>) -> Result<Checksum, MigrateError> {
        let mut copy = CopyBuffer::new();
        let mut gone = false;
        let sum = self.read(table, |values, rows| {
            if gone {
                return Ok(());
            }
            copy.add(table.columns, values)?;
            if copy.len() >= CHUNK_BYTES {
                gone = chunks.blocking_send(Chunk { bytes: copy.take(), rows }).is_err();
            }
            Ok(())
        })?;
        // A receiver that is gone reports its own error.
        let _ = chunks.blocking_send(Chunk { bytes: copy.finish(), rows: sum.rows });
        Ok(sum)
    }

    fn failed(&self, error: &rusqlite::Error) -> MigrateError {
        MigrateError::opening(&self.file, open::OpenError::from_sqlite(&self.file, error))
    }

    fn damaged(&self, table: &Table, row: u64, detail: String) -> MigrateError {
        MigrateError::Damaged { path: self.file.clone(), table: table.name, row, detail }
    }
}

fn values<'r>(columns: &[Column], row: &'r Row<'_>) -> Result<Vec<Value<'r>>, String> {
    let read = |(at, column): (usize, &Column)| {
        let raw = row.get_ref(at).map_err(|error| error.to_string())?;
        value(column, raw).map_err(|why| format!("`{}` {why}", column.name))
    };
    columns.iter().enumerate().map(read).collect()
}

fn value<'r>(column: &Column, raw: ValueRef<'r>) -> Result<Value<'r>, String> {
    match (column.kind, raw) {
        (_, ValueRef::Null) if column.optional => Ok(Value::Null),
        // The row of another table that a column names does not exist.
        (_, ValueRef::Null) => Err("is missing".to_owned()),
        (ColumnType::Id, ValueRef::Blob(bytes)) => {
            Ok(Value::Id(bytes.try_into().map_err(|_| format!("is an id of {} bytes", bytes.len()))?))
        }
        (ColumnType::Bool, ValueRef::Integer(number @ (0 | 1))) => Ok(Value::Number(number)),
        (ColumnType::Small | ColumnType::Int | ColumnType::Big, ValueRef::Integer(number)) => Ok(Value::Number(number)),
        (ColumnType::Moment, ValueRef::Text(json)) => {
            let moment: Timestamp = serde_json::from_slice(json).map_err(|error| format!("is no moment: {error}"))?;
            Ok(Value::Number(moment.0))
        }
        (ColumnType::Text | ColumnType::Json, ValueRef::Text(bytes)) => {
            let text = std::str::from_utf8(bytes).map_err(|error| format!("is no text: {error}"))?;
            Ok(Value::Text(Cow::Borrowed(text)))
        }
        (kind, other) => Err(format!("holds {:?} where {kind:?} is expected", other.data_type())),
    }
}
