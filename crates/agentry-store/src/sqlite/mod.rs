//! The SQLite backend: one file, one writer thread with group commit, separate readers.
//!
//! In memory it runs without threads, every call on its caller: deterministic, for the seeded simulator.

mod accept;
mod access;
mod advance;
mod budgets;
mod claim;
mod clarifications;
mod db;
mod dead_letters;
mod deployment;
mod events;
mod failure;
mod fleet;
pub(crate) mod migrations;
pub(crate) mod open;
mod outbox;
mod prune;
mod readers;
mod recover;
mod rows;
mod schedules;
mod sessions;
mod task_list;
mod tasks;
mod usage;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

pub use open::{DATABASE_FILE, LOCK_FILE, OpenError};
pub use readers::MAX_WAITING_READS;
use rusqlite::{Connection, Params, Row};
use writer::Durability;
pub use writer::MAX_WAITING_COMMANDS;

use crate::{QueueCounts, StoreError};
use db::{Db, PublishedCounts};
use failure::Failure;

/// Default bound of the queue, in tasks.
pub const DEFAULT_MAX_QUEUED: u64 = 1_000_000;

/// Options of the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// Largest number of queued tasks, due or not; further ones fail with [`StoreError::Full`].
    pub max_queued: u64,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { max_queued: DEFAULT_MAX_QUEUED }
    }
}

/// The state store on SQLite.
pub struct SqliteStore {
    engine: Engine,
    counts: PublishedCounts,
}

/// Execution of commands.
enum Engine {
    /// On threads of their own. Fields are dropped in order: readers close first, the writer cleans up the file, and
    /// only then the folder is free for another process.
    Threads { readers: readers::Readers, writer: writer::Writer, _lock: open::FolderLock },
    /// On the caller.
    Inline(Box<Mutex<Db>>),
}

impl SqliteStore {
    /// Opens the store in a folder, which is created if necessary. Nobody else can use the folder until the store is
    /// dropped. Dropping finishes waiting calls and blocks meanwhile.
    ///
    /// # Errors
    /// The reason for which the folder or its file cannot be used, with advice.
    pub fn open(dir: &Path, options: SqliteOptions) -> Result<Self, OpenError> {
        let lock = open::lock(dir)?;
        let file = dir.join(DATABASE_FILE);
        let conn = open::writer(&file)?;
        let counts = PublishedCounts::default();
        let db = Db::new(conn, &options, Arc::clone(&counts)).map_err(|error| OpenError::from_sqlite(&file, &error))?;
        let readers = readers::Readers::start(&file)?;
        let writer = writer::Writer::start(db).map_err(|source| OpenError::from_io(dir, source))?;
        Ok(Self { engine: Engine::Threads { readers, writer, _lock: lock }, counts })
    }

    /// Creates a store in memory without threads: every call runs on its caller and is done when it returns.
    ///
    /// # Errors
    /// SQLite cannot create it.
    pub fn in_memory(options: SqliteOptions) -> Result<Self, OpenError> {
        let counts = PublishedCounts::default();
        let db = Db::new(open::memory()?, &options, Arc::clone(&counts))
            .map_err(|error| OpenError::from_sqlite(Path::new(":memory:"), &error))?;
        Ok(Self { engine: Engine::Inline(Box::new(Mutex::new(db))), counts })
    }

    /// Bounds the size of the file in pages of 4 KiB, or removes the bound (`None`). A full file behaves like a full
    /// disk: [`StoreError::Unavailable`] until there is room again.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn limit_pages(&self, pages: Option<u32>) -> Result<(), StoreError> {
        // SQLite's own largest bound stands for none.
        let pages = pages.unwrap_or(4_294_967_294);
        self.write(1, move |db| Ok(db.conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?))
            .await
    }

    /// Runs a closure in a transaction; returns once it is durable. See [`writer::Writer::call`] for the closure's
    /// duties.
    async fn write<T, F>(&self, weight: usize, run: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Db) -> Result<T, Failure> + Send + 'static,
    {
        self.write_with(Durability::Now, weight, run).await
    }

    /// Like [`Self::write`], for a claim or a heartbeat with [`Durability::WithNext`]. This is safe, because an owner
    /// durably writes what it is about to do before any effect outside the process.
    async fn write_relaxed<T, F>(&self, weight: usize, run: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Db) -> Result<T, Failure> + Send + 'static,
    {
        self.write_with(Durability::WithNext, weight, run).await
    }

    async fn write_with<T, F>(&self, durability: Durability, weight: usize, run: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Db) -> Result<T, Failure> + Send + 'static,
    {
        match &self.engine {
            Engine::Threads { writer, .. } => writer.call(weight, durability, run).await,
            Engine::Inline(db) => inline(&mut db.lock().unwrap_or_else(PoisonError::into_inner), run),
        }
    }

    /// Runs a closure on a read-only connection.
    async fn read<T, F>(&self, run: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        match &self.engine {
            Engine::Threads { readers, .. } => readers.call(run).await,
            Engine::Inline(db) => {
                let db = db.lock().unwrap_or_else(PoisonError::into_inner);
                run(&db.conn).map_err(|failure| failure.to_store_error())
            }
        }
    }

    /// Reads all rows of a query.
    async fn rows<T, P>(
        &self,
        sql: impl AsRef<str> + Send + 'static,
        params: P,
        read: impl FnMut(&Row<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<Vec<T>, StoreError>
    where
        T: Send + 'static,
        P: Params + Send + 'static,
    {
        self.read(move |conn| rows::rows(conn, sql.as_ref(), params, read)).await
    }

    /// Reads the first row of a query, if there is one.
    async fn row<T, P>(
        &self,
        sql: impl AsRef<str> + Send + 'static,
        params: P,
        read: impl FnOnce(&Row<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<Option<T>, StoreError>
    where
        T: Send + 'static,
        P: Params + Send + 'static,
    {
        self.read(move |conn| rows::row(conn, sql.as_ref(), params, read)).await
    }

    /// Runs one statement in a transaction; returns the number of affected rows once that is durable.
    async fn execute<P: Params + Clone + Send + 'static>(
        &self,
        sql: &'static str,
        params: P,
    ) -> Result<usize, StoreError> {
        self.write(1, move |db| db.execute(sql, params.clone())).await
    }

    fn published(&self) -> QueueCounts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn inline<T>(db: &mut Db, run: impl Fn(&mut Db) -> Result<T, Failure>) -> Result<T, StoreError> {
    let transact = |db: &mut Db| {
        db.begin()?;
        let value = run(db)?;
        db.commit()?;
        Ok(value)
    };
    transact(db).map_err(|failure: Failure| {
        db.rollback();
        failure.to_store_error()
    })
}
