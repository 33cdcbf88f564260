//! Opening the file: the lock that keeps a second Agentry out, SQLite's settings, and what can be wrong with a folder.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::db::STATEMENTS;
use super::migrations::{self, SCHEMA_VERSION};
use crate::private;

/// The database's name in the data folder.
pub const DATABASE_FILE: &str = "agentry.db";
/// The lock's name in the data folder; it holds the process id of its owner.
pub const LOCK_FILE: &str = "agentry.lock";
/// The oldest SQLite without the WAL-reset corruption bug (fixed after 3.51.2).
const MIN_SQLITE: i32 = 3_051_003;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be made or used.
    #[error("cannot use the data folder {}: {source}; choose another one with --data", path.display())]
    Folder {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The folder or the file may not be written.
    #[error("cannot write to the data folder {}: it is read-only for this user; change its permissions or choose another one with --data", path.display())]
    ReadOnly {
        /// The folder, or the file in it.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("no space is left for the data folder {}; free some, or choose another one with --data", path.display())]
    DiskFull {
        /// The folder, or the file in it.
        path: PathBuf,
    },
    /// Another process has the lock.
    #[error("another agentry (pid {pid}) uses the data folder {}; stop it, or choose another folder with --data", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process, as it wrote into the lock file; `unknown` when that cannot be read.
        pid: String,
    },
    /// A newer Agentry wrote the file.
    #[error("{} was written by a newer agentry (schema {found}, this one knows {known}); use that version, or another folder with --data", path.display())]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema of this version.
        known: u32,
    },
    /// The file is not a database, or is damaged.
    #[error("{} is damaged or not a database ({detail}); move it away to start empty, or put a backup in its place", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        detail: String,
    },
    /// The SQLite in this binary is too old to be trusted.
    #[error("SQLite {0} is too old: 3.51.3 or newer is needed; build agentry with its bundled SQLite")]
    OldSqlite(&'static str),
    /// Anything else SQLite says.
    #[error("cannot open {}: {detail}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        detail: String,
    },
}

impl OpenError {
    /// What an IO error at `path` means.
    pub(super) fn from_io(path: &Path, source: std::io::Error) -> Self {
        use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, StorageFull};
        let path = path.to_owned();
        match source.kind() {
            PermissionDenied | ReadOnlyFilesystem => Self::ReadOnly { path },
            StorageFull => Self::DiskFull { path },
            _ => Self::Folder { path, source },
        }
    }

    /// What an error of SQLite at `path` means.
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

/// What SQLite puts beside a database, as endings of its name.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Makes the folder if need be and locks it. Once it is locked it is ours, and other users of the machine are kept out.
pub(crate) fn lock(dir: &Path) -> Result<FolderLock, OpenError> {
    private::make_folder(dir).map_err(|source| OpenError::from_io(dir, source))?;
    let path = dir.join(LOCK_FILE);
    let io = |source| OpenError::from_io(&path, source);
    let mut file =
        private::open(File::options().read(true).write(true).create(true).truncate(false), &path).map_err(io)?;
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
    private::tighten_folder(dir);
    file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
    write!(file, "{}", std::process::id()).map_err(io)?;
    Ok(FolderLock(file))
}

/// Opens the connection that writes, with everything migrated.
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
    // The order matters: the page size only holds before the first page, and the mode is kept in the file.
    conn.execute_batch("PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
        .map_err(fail)?;
    settings(&conn).map_err(fail)?;
    migrations::apply(&conn).map_err(fail)?;
    Ok(conn)
}

/// Makes the database private, and what a server that was killed has left beside it. SQLite gives the files that it makes
/// the mode of the database, so an empty one is made first.
fn make_private(file: &Path) -> Result<(), OpenError> {
    match private::open(File::options().write(true).create_new(true), file) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => private::tighten_if_there(file),
        Err(error) => return Err(OpenError::from_io(file, error)),
    }
    for ending in BESIDE {
        let mut path = file.as_os_str().to_owned();
        path.push(ending);
        private::tighten_if_there(Path::new(&path));
    }
    Ok(())
}

/// Opens a connection that only reads.
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

/// Opens a database that lives in memory and is gone with its connection.
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

/// Settings of every connection. 64 MiB of page cache holds the ends of all B-trees that the hot path touches.
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
