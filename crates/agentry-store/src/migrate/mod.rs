//! Migration of an embedded deployment's state (SQLite) to PostgreSQL.
//!
//! Everything is read from one snapshot of the locked folder and written in one transaction. Before the commit, every
//! table is read back; its rows and its checksum must equal those that were read. So either all of it is moved and
//! correct, or nothing is. The folder stays unchanged.

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
use row::Checksum;
use source::Source;
use tables::{TABLES, Table};
use target::{Import, Target};

/// Source and target of a migration.
#[derive(Debug, Clone)]
pub struct Migration {
    /// Data folder of the stopped server.
    pub from: PathBuf,
    /// Target.
    pub to: PostgresOptions,
}

/// Phase of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationPhase {
    /// Reading the source, as a check (see [`count`]).
    Reading,
    /// Reading and writing.
    Copying,
    /// Reading back.
    Checking,
}

impl MigrationPhase {
    /// Returns the phase as shown to users.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Copying => "copying",
            Self::Checking => "checking",
        }
    }
}

/// Progress of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Current phase.
    pub phase: MigrationPhase,
    /// Current table.
    pub table: &'static str,
    /// Finished rows of the table.
    pub rows: u64,
    /// Total rows of the table.
    pub of: u64,
}

/// A table that was moved, or would be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MovedTable {
    /// Name in PostgreSQL.
    pub table: &'static str,
    /// Number of rows.
    pub rows: u64,
    /// Sum modulo 2^64 of the first eight bytes of the SHA-256 of each row, as 16 hex digits.
    pub checksum: String,
    /// True when rows and checksum were found again in PostgreSQL; false when nothing was moved.
    pub verified: bool,
}

/// Result of a migration or of a dry run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// All tables.
    pub tables: Vec<MovedTable>,
    /// Number of open tasks by status.
    pub counts: QueueCounts,
}

impl Report {
    /// Returns the number of rows of all tables.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}

/// Moves a folder's state. `progress` is called before, every some thousand rows of, and after each table.
///
/// Running tasks are moved with their owner, which counts as dead at the target: recovery there queues them again, and
/// they resume from their journal.
///
/// # Errors
/// The reason for which nothing was moved, with advice.
pub async fn migrate(migration: &Migration, mut progress: impl FnMut(Progress) + Send) -> Result<Report, MigrateError> {
    let source = Reader::open(migration.from.clone()).await?;
    // A plain connection first, whose errors come at once; the store retries for a while.
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
    import.continue_revisions().await?;
    import.commit().await?;
    target.analyze().await;
    Ok(Report { tables: moved, counts })
}

/// Reads a folder's state as [`migrate`] would, and changes nothing anywhere. With a target it also checks that it can
/// be reached and is empty.
///
/// # Errors
/// The reason for which it could not be moved, with advice.
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
        progress(Progress { phase: MigrationPhase::Reading, table: table.name, rows: 0, of });
        let sum = source.call(|source| source.read(table, |_, _| Ok(()))).await?;
        progress(Progress { phase: MigrationPhase::Reading, table: table.name, rows: sum.rows, of });
        tables.push(moved(table, sum, false));
    }
    Ok(Report { tables, counts: source.call(Source::counts).await? })
}

/// Copies the rows of a table.
async fn copy(
    source: &Reader,
    import: &Import<'_>,
    table: &'static Table,
    progress: &mut (impl FnMut(Progress) + Send),
) -> Result<Checksum, MigrateError> {
    let of = source.call(|source| source.count(table)).await?;
    let mut say = |rows| progress(Progress { phase: MigrationPhase::Copying, table: table.name, rows, of });
    say(0);
    let (chunks, received) = mpsc::channel(source::CHUNKS_AHEAD);
    let read = source.call(move |source| source.send(table, &chunks));
    let (read, written) = tokio::join!(read, import.copy(table, received, say));
    let read = read?;
    written?;
    let last = source.call(|source| source.last_number(table)).await?;
    import.continue_numbering(table, last).await?;
    Ok(read)
}

/// Reads a table back and compares it.
async fn check(
    import: &Import<'_>,
    table: &'static Table,
    read: Checksum,
    progress: &mut (impl FnMut(Progress) + Send),
) -> Result<MovedTable, MigrateError> {
    let mut say = |rows| progress(Progress { phase: MigrationPhase::Checking, table: table.name, rows, of: read.rows });
    say(0);
    let kept = import.sum(table, say).await?;
    if kept != read {
        let shown = |sum: Checksum| format!("{} rows with checksum {:016x}", sum.rows, sum.checksum);
        return Err(MigrateError::Mismatch { table: table.name, read: shown(read), kept: shown(kept) });
    }
    Ok(moved(table, kept, true))
}

fn moved(table: &Table, sum: Checksum, verified: bool) -> MovedTable {
    MovedTable { table: table.name, rows: sum.rows, checksum: format!("{:016x}", sum.checksum), verified }
}

/// A folder that is read on blocking threads.
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
