//! Why a migration did not happen: the thing, the place and the way out. Nothing was moved, except perhaps after
//! [`MigrateError::Unknown`].

use std::path::{Path, PathBuf};

use crate::StoreError;
use crate::postgres::failure::describe;
use crate::sqlite::OpenError;

/// Why a migration did not happen. The target is as it was before, except that its empty tables may have been made (and
/// see [`Self::Unknown`]).
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// There is no such folder.
    #[error("there is no data folder {}", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds no database of ours.
    #[error("{} is not a data folder of agentry: it holds no {}", path.display(), crate::sqlite::DATABASE_FILE)]
    NotADataFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A server runs on the folder.
    #[error("another agentry (pid {pid}) uses the data folder {}", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process, as it wrote into the lock file; `unknown` when that cannot be read.
        pid: String,
    },
    /// The file has another schema than this version reads.
    #[error("{} has schema {found}, and this agentry reads schema {known}", path.display())]
    SourceSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The schema of this version.
        known: u32,
    },
    /// The folder or the file cannot be read.
    #[error("cannot read {}: {detail}", path.display())]
    Source {
        /// The folder or the file.
        path: PathBuf,
        /// What the system or SQLite says.
        detail: String,
    },
    /// A row cannot be what Agentry wrote.
    #[error("row {row} of `{table}` in {} is damaged: {detail}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// Its place among the table's rows, from 1.
        row: u64,
        /// What is wrong with it.
        detail: String,
    },
    /// The target's address or schema is not one.
    #[error("{0}")]
    Address(String),
    /// No connection could be made.
    #[error("cannot connect to PostgreSQL at {at}: {detail}")]
    Unreachable {
        /// The hosts, without the password.
        at: String,
        /// What the system or the server says.
        detail: String,
    },
    /// The target cannot be used or refused a statement.
    #[error("{0}")]
    Target(String),
    /// The connection was lost when everything was to become visible at once.
    #[error(
        "the connection to PostgreSQL was lost during the commit ({0}); whether everything was moved or nothing is not known"
    )]
    Unknown(String),
    /// The target holds state already.
    #[error("schema `{schema}` holds state already: {}", found.join(", "))]
    NotEmpty {
        /// The schema.
        schema: String,
        /// What, such as `12 tasks`.
        found: Vec<String>,
    },
    /// Somebody writes into the target's tables.
    #[error("schema `{schema}` is being written to by others")]
    Busy {
        /// The schema.
        schema: String,
    },
    /// What the target holds is not what was read.
    #[error("`{table}` did not arrive as it was read: {read} became {kept}; everything was rolled back")]
    Mismatch {
        /// The table.
        table: &'static str,
        /// Rows and checksum as read.
        read: String,
        /// Rows and checksum as read back.
        kept: String,
    },
}

impl MigrateError {
    /// The way out.
    #[must_use]
    pub fn help(&self) -> String {
        let text = match self {
            Self::NoFolder { .. } | Self::NotADataFolder { .. } => {
                "name the folder that the server was started with by --from (`serve --data`, `data` by default)"
            }
            Self::InUse { .. } => {
                "stop that server with SIGTERM and let it drain, then run this again; its running tasks go on where \
                 they are moved to"
            }
            Self::SourceSchema { found, known, .. } if found > known => "use the agentry that wrote it, or a newer one",
            Self::SourceSchema { .. } => {
                "start and stop `agentry serve` of this version on the folder once, which brings it up to date"
            }
            Self::Source { .. } => "check the disk and the permissions of the folder",
            Self::Damaged { .. } => "put a backup of the folder in its place; nothing was moved",
            Self::Address(_) => "expected --to postgres://user:password@host:5432/database",
            Self::Unreachable { .. } => "check that the server runs, and address, user, password and database of --to",
            Self::Target(_) => "nothing was moved; run this again when it is put right",
            Self::Unknown(_) => "run this again: that the schema holds state already means that everything was moved",
            Self::NotEmpty { schema, .. } => {
                return format!(
                    "a folder is moved into an empty schema only: name another one with --postgres-schema, or remove this one \
                     and all it holds: DROP SCHEMA {schema} CASCADE"
                );
            }
            Self::Busy { .. } => "stop the servers that run on it, then run this again",
            Self::Mismatch { .. } => {
                "something on the server changes rows as they arrive (a trigger or a rule?); remove it, or use another \
                 schema with --postgres-schema"
            }
        };
        text.to_owned()
    }

    /// Whether it was asked for in a way that cannot be.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Address(_))
    }

    /// What it means that the folder cannot be opened.
    pub(super) fn opening(folder: &Path, error: OpenError) -> Self {
        match error {
            OpenError::InUse { path, pid } => Self::InUse { path, pid },
            OpenError::NewerSchema { path, found, known } => Self::SourceSchema { path, found, known },
            OpenError::Folder { path, source } => Self::Source { path, detail: source.to_string() },
            OpenError::ReadOnly { path } => {
                Self::Source { path, detail: "its lock cannot be taken: it is read-only for this user".to_owned() }
            }
            OpenError::DiskFull { path } => Self::Source { path, detail: "no space is left on its disk".to_owned() },
            OpenError::Corrupt { path, detail } | OpenError::Sqlite { path, detail } => Self::Source { path, detail },
            other @ OpenError::OldSqlite(_) => Self::Source { path: folder.to_owned(), detail: other.to_string() },
        }
    }

    /// What it means that the store on the target could not be opened.
    pub(super) fn of_store(error: &StoreError) -> Self {
        Self::Target(error.to_string())
    }

    /// What it means that a statement about `what` failed.
    pub(super) fn statement(what: &str, error: &tokio_postgres::Error) -> Self {
        let why = describe(error);
        Self::Target(match error.as_db_error() {
            Some(_) => format!("PostgreSQL refused {what}: {why}"),
            None => format!("the connection to PostgreSQL failed at {what}: {why}"),
        })
    }

    /// What it means that a commit failed.
    pub(super) fn commit(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(_) => Self::statement("the commit", error),
            None => Self::Unknown(describe(error)),
        }
    }
}
