//! Opening the file: the lock that keeps a second Agentry out, SQLite's settings, and errors of the folder.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::db::STATEMENTS;
use super::migrations::{self, SCHEMA_VERSION};
use crate::private_files;

/// Name of the database in the data folder.
pub const DATABASE_FILE: &str = "agentry.db";
/// Name of the lock in the data folder; it contains the process id of its owner.
pub const LOCK_FILE: &str = "agentry.lock";
/// Oldest SQLite without the WAL-reset corruption bug (fixed after 3.51.2).
const MIN_SQLITE: i32 = 3_051_003;

/// Errors of opening a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be created or used.
    #[error("cannot use the data folder {}: {source}; choose another one with --data", path.display())]
    Folder {
        /// Path of the folder, or of the file in it.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The folder or the file is not writable.
    #[error("cannot write to the data folder {}: it is read-only for this user; change its permissions or choose another one with --data", path.display())]
    ReadOnly {
        /// Path of the folder, or of the file in it.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("no space is left for the data folder {}; free some, or choose another one with --data", path.display())]
    DiskFull {
        /// Path of the folder, or of the file in it.
        path: PathBuf,
    },
    /// Another process has the lock.
    #[error("another agentry (pid {pid}) uses the data folder {}; stop it, or choose another folder with --data", path.display())]
    InUse {
        /// Path of the folder.
        path: PathBuf,
        /// Process id from the lock file, or `unknown`.
        pid: String,
    },
    /// A newer Agentry wrote the file.
    #[error("{} was written by a newer agentry (schema {found}, this one knows {known}); use that version, or another folder with --data", path.display())]
    NewerSchema {
        /// Path of the file.
        path: PathBuf,
        /// Schema of the file.
        found: u32,
        /// Newest schema of this version.
        known: u32,
    },
    /// The file is not a database, or is damaged.
    #[error("{} is damaged or not a database ({detail}); move it away to start empty, or put a backup in its place", path.display())]
    Corrupt {
        /// Path of the file.
        path: PathBuf,
        /// Error of SQLite.
        detail: String,
    },
    /// The SQLite in this binary is too old to be safe.
    #[error("SQLite {0} is too old: 3.51.3 or newer is needed; build agentry with its bundled SQLite")]
    OldSqlite(&'static str),
    /// Any other error of SQLite.
    #[error("cannot open {}: {detail}", path.display())]
    Sqlite {
        /// Path of the file.
        path: PathBuf,
        /// Error of SQLite.
        detail: String,
    },
}

impl OpenError {
    /// Converts an IO error at `path`.
    pub(super) fn from_io(path: &Path, source: std::io::Error) -> Self {
        use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, StorageFull};
        let path = path.to_owned();
        match source.kind() {
            PermissionDenied | ReadOnlyFilesystem => Self::ReadOnly { path },
            StorageFull => Self::DiskFull { path },
            _ => Self::Folder { path, source },
        }
    }

    /// Converts an error of SQLite at `path`.
    pub(crate) fn from_sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let (path, detail) = (path.to_owned(), error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly { path },
            Some(ErrorCode::DiskFull) => Self::DiskFull { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt { path, detail },
            _ => Self::Sqlite { path, detail },
        }
    }
}

/// The lock on a data folder; held until it is dropped.
#[derive(Debug)]
pub(crate) struct FolderLock(#[allow(dead_code, reason = "the open file is the lock")] File);

/// Endings of the files that SQLite puts beside a database.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Creates the folder if necessary and locks it. Once locked, it is made private.
pub(crate) fn lock(dir: &Path) -> Result<FolderLock, OpenError> {
    private_files::make_folder(dir).map_err(|source| OpenError::from_io(dir, source))?;
    let path = dir.join(LOCK_FILE);
    let io = |source| OpenError::from_io(&path, source);
    let mut file =
        private_files::open(File::options().read(true).write(true).create(true).truncate(false), &path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
            let pid = if known { pid.trim().to_owned() } else { "unknown".to_owned() };
            return Err(OpenError::InUse { path: dir.to_owned(), pid });
        }
        Err(TryLockError::Error(source)) => return Err(io(source)),
    }
    private_files::tighten_folder(dir);
    file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
    write!(file, "{}", std::process::id()).map_err(io)?;
    Ok(FolderLock(file))
}

/// Opens the writing connection, with all migrations applied.
pub(super) fn writer(file: &Path) -> Result<Connection, OpenError> {
    check_library()?;
    let fail = |error: rusqlite::Error| OpenError::from_sqlite(file, &error);
    make_private(file)?;
    let conn = Connection::open(file).map_err(fail)?;
    let found = migrations::version(&conn).map_err(fail)?;
    if found > SCHEMA_VERSION {
        return Err(OpenError::NewerSchema { path: file.to_owned(), found, known: SCHEMA_VERSION });
    }
    if conn.is_readonly("main").map_err(fail)? {
        return Err(OpenError::ReadOnly { path: file.to_owned() });
    }
    // The order matters: the page size only applies before the first page, and the mode is stored in the file.
    conn.execute_batch("PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
        .map_err(fail)?;
    settings(&conn).map_err(fail)?;
    migrations::apply(&conn).map_err(fail)?;
    Ok(conn)
}

/// Makes the database and the files of a killed server private. SQLite gives its files the mode of the database, so an
/// empty one is created first.
fn make_private(file: &Path) -> Result<(), OpenError> {
    match private_files::open(File::options().write(true).create_new(true), file) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => private_files::tighten_if_there(file),
        Err(error) => return Err(OpenError::from_io(file, error)),
    }
    for ending in BESIDE {
        let mut path = file.as_os_str().to_owned();
        path.push(ending);
        private_files::tighten_if_there(Path::new(&path));
    }
    Ok(())
}

/// Opens a read-only connection.
pub(crate) fn reader(file: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let conn = Connection::open_with_flags(file, flags)?;
        settings(&conn)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(conn)
    };
    open().map_err(|error| OpenError::from_sqlite(file, &error))
}

/// Opens a database in memory, which ends with its connection.
pub(super) fn memory() -> Result<Connection, OpenError> {
    check_library()?;
    let open = || {
        let conn = Connection::open_in_memory()?;
        settings(&conn)?;
        migrations::apply(&conn)?;
        Ok(conn)
    };
    open().map_err(|error: rusqlite::Error| OpenError::from_sqlite(Path::new(":memory:"), &error))
}

/// Applies the settings of every connection. 64 MiB of page cache holds the ends of all B-trees that the hot path
/// touches.
fn settings(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch(
        "PRAGMA foreign_keys = OFF;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -65536;
         PRAGMA mmap_size = 268435456;
         PRAGMA busy_timeout = 5000;",
    )
}

fn check_library() -> Result<(), OpenError> {
    if rusqlite::version_number() < MIN_SQLITE { Err(OpenError::OldSqlite(rusqlite::version())) } else { Ok(()) }
}
