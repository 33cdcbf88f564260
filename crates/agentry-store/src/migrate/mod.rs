//! From one machine to many: moves the state of an embedded deployment (SQLite) to PostgreSQL.
//!
//! Everything is read from one view of the locked folder and written in one transaction. Before it is committed, every
//! table is read back; its rows and its checksum must be those that were read. So there are two outcomes: all of it is
//! there and right, or nothing of it is there. The folder stays as it is.

mod error;
mod row;
mod source;
mod tables;
mod target;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

pub use error::MigrateError;

use crate::QueueCounts;
use crate::postgres::{PostgresOptions, PostgresStore};
use row::Sum;
use source::Source;
use tables::{TABLES, Table};
use target::{Import, Target};

/// What is to be moved where.
#[derive(Debug, Clone)]
pub struct Migration {
    /// The data folder of the server that was stopped.
    pub from: PathBuf,
    /// Where to.
    pub to: PostgresOptions,
}

/// What a migration is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It reads, to see that it can (see [`count`]).
    Reading,
    /// It reads and writes.
    Copying,
    /// It reads back what was written.
    Checking,
}

impl Doing {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Copying => "copying",
            Self::Checking => "checking",
        }
    }
}

/// How far a migration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub doing: Doing,
    /// With which table.
    pub table: &'static str,
    /// Rows of the table that are done.
    pub rows: u64,
    /// Rows that the table has.
    pub of: u64,
}

/// A table that was moved, or would be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MovedTable {
    /// Its name in PostgreSQL.
    pub table: &'static str,
    /// Its rows.
    pub rows: u64,
    /// The sum modulo 2^64 of the first eight bytes of the SHA-256 of each of its rows, as 16 hex digits.
    pub checksum: String,
    /// Whether rows and checksum were found again in PostgreSQL; false when nothing was moved.
    pub verified: bool,
}

/// What was moved, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Every table.
    pub tables: Vec<MovedTable>,
    /// How many tasks stand where.
    pub counts: QueueCounts,
}

impl Report {
    /// The rows of all tables.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}

/// Moves a folder's state. `progress` hears of it often: before, every some thousand rows of, and after each table.
///
/// Running tasks are moved with their owner, which counts as dead where they arrive: recovery there queues them again, and
/// their journal goes on where it ended.
///
/// # Errors
/// Why nothing was moved, and what to do about it.
pub async fn migrate(migration: &Migration, mut progress: impl FnMut(Progress) + Send) -> Result<Report, MigrateError> {
    let source = Reader::open(migration.from.clone()).await?;
    // First a plain connection, whose errors come at once; the store tries for a while.
    let mut target = Target::connect(&migration.to).await?;
    let store = PostgresStore::connect(migration.to.clone()).await;
    drop(store.map_err(|error| MigrateError::of_store(&error))?);
    let import = target.begin().await?;
    let mut read = Vec::with_capacity(TABLES.len());
    for table in &TABLES {
        read.push(copy(&source, &import, table, &mut progress).await?);
    }
    let mut moved = Vec::with_capacity(TABLES.len());
    for (table, read) in TABLES.iter().zip(read) {
        moved.push(check(&import, table, read, &mut progress).await?);
    }
    let counts = source.call(Source::counts).await?;
    let counted = import.count().await?;
    if counted != counts {
        let (read, kept) = (format!("{counts:?}"), format!("{counted:?}"));
        return Err(MigrateError::Mismatch { table: "counters", read, kept });
    }
    import.commit().await?;
    target.analyze().await;
    Ok(Report { tables: moved, counts })
}

/// Reads a folder's state as [`migrate`] would, and changes nothing anywhere. With a target it also looks whether that can
/// be reached and is empty.
///
/// # Errors
/// Why it could not be moved, and what to do about it.
pub async fn count(
    from: PathBuf,
    to: Option<&PostgresOptions>,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<Report, MigrateError> {
    let source = Reader::open(from).await?;
    if let Some(to) = to {
        Target::connect(to).await?.check_empty().await?;
    }
    let mut tables = Vec::with_capacity(TABLES.len());
    for table in &TABLES {
        let of = source.call(|source| source.count(table)).await?;
        progress(Progress { doing: Doing::Reading, table: table.name, rows: 0, of });
        let sum = source.call(|source| source.read(table, |_, _| Ok(()))).await?;
        progress(Progress { doing: Doing::Reading, table: table.name, rows: sum.rows, of });
        tables.push(moved(table, sum, false));
    }
    Ok(Report { tables, counts: source.call(Source::counts).await? })
}

/// Moves the rows of a table.
async fn copy(
    source: &Reader,
    import: &Import<'_>,
    table: &'static Table,
    progress: &mut (impl FnMut(Progress) + Send),
) -> Result<Sum, MigrateError> {
    let of = source.call(|source| source.count(table)).await?;
    let mut say = |rows| progress(Progress { doing: Doing::Copying, table: table.name, rows, of });
    say(0);
    let (chunks, received) = mpsc::channel(source::CHUNKS_AHEAD);
    let read = source.call(move |source| source.send(table, &chunks));
    let (read, written) = tokio::join!(read, import.copy(table, received, say));
    let read = read?;
    written?;
    let last = source.call(|source| source.last_number(table)).await?;
    import.number_on(table, last).await?;
    Ok(read)
}

/// Reads a table back and compares.
async fn check(
    import: &Import<'_>,
    table: &'static Table,
    read: Sum,
    progress: &mut (impl FnMut(Progress) + Send),
) -> Result<MovedTable, MigrateError> {
    let mut say = |rows| progress(Progress { doing: Doing::Checking, table: table.name, rows, of: read.rows });
    say(0);
    let kept = import.sum(table, say).await?;
    if kept != read {
        let shown = |sum: Sum| format!("{} rows with checksum {:016x}", sum.rows, sum.checksum);
        return Err(MigrateError::Mismatch { table: table.name, read: shown(read), kept: shown(kept) });
    }
    Ok(moved(table, kept, true))
}

fn moved(table: &Table, sum: Sum, verified: bool) -> MovedTable {
    MovedTable { table: table.name, rows: sum.rows, checksum: format!("{:016x}", sum.checksum), verified }
}

/// A folder that is read on threads that may block.
struct Reader {
    source: Arc<Mutex<Source>>,
    folder: PathBuf,
}

impl Reader {
    async fn open(folder: PathBuf) -> Result<Self, MigrateError> {
        let path = folder.clone();
        let source = blocking(&folder, move || Source::open(&path)).await?;
        Ok(Self { source: Arc::new(Mutex::new(source)), folder })
    }

    async fn call<T, F>(&self, run: F) -> Result<T, MigrateError>
    where
        T: Send + 'static,
        F: FnOnce(&Source) -> Result<T, MigrateError> + Send + 'static,
    {
        let source = Arc::clone(&self.source);
        blocking(&self.folder, move || run(&source.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

async fn blocking<T: Send + 'static>(
    folder: &Path,
    run: impl FnOnce() -> Result<T, MigrateError> + Send + 'static,
) -> Result<T, MigrateError> {
    let gone =
        |error: tokio::task::JoinError| MigrateError::Source { path: folder.to_owned(), detail: error.to_string() };
    tokio::task::spawn_blocking(run).await.map_err(gone)?
}
