//! Errors of a migration, each with the place and a remedy. Nothing was moved, except perhaps after
//! [`MigrateError::Unknown`].

use std::path::{Path, PathBuf};

use crate::StoreError;
use crate::postgres::failure::describe;
use crate::sqlite::OpenError;

/// Errors of a migration. The target is unchanged, except that its empty tables may have been created (and see
/// [`Self::Unknown`]).
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The folder does not exist.
    #[error("there is no data folder {}", path.display())]
    NoFolder {
        /// Path of the folder.
        path: PathBuf,
    },
    /// The folder has no database of Agentry.
    #[error("{} is not a data folder of agentry: it holds no {}", path.display(), crate::sqlite::DATABASE_FILE)]
    NotADataFolder {
        /// Path of the folder.
        path: PathBuf,
    },
    /// A server uses the folder.
    #[error("another agentry (pid {pid}) uses the data folder {}", path.display())]
    InUse {
        /// Path of the folder.
        path: PathBuf,
        /// Process id from the lock file, or `unknown`.
        pid: String,
    },
    /// The file has another schema than this version reads.
    #[error("{} has schema {found}, and this agentry reads schema {known}", path.display())]
    SourceSchema {
        /// Path of the file.
        path: PathBuf,
        /// Schema of the file.
        found: u32,
        /// Schema of this version.
        known: u32,
    },
    /// The folder or the file cannot be read.
    #[error("cannot read {}: {detail}", path.display())]
    Source {
        /// Path of the folder or the file.
        path: PathBuf,
        /// Error of the system or SQLite.
        detail: String,
    },
    /// A row was not written by Agentry.
    #[error("row {row} of `{table}` in {} is damaged: {detail}", path.display())]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// Name of the table.
        table: &'static str,
        /// Position of the row in the table, from 1.
        row: u64,
        /// Description of the damage.
        detail: String,
    },
    /// The target's address or schema is invalid.
    #[error("{0}")]
    Address(String),
    /// The target cannot be reached.
    #[error("cannot connect to PostgreSQL at {at}: {detail}")]
    Unreachable {
        /// Hosts, without the password.
        at: String,
        /// Error of the system or the server.
        detail: String,
    },
    /// The target is unusable or refused a statement.
    #[error("{0}")]
    Target(String),
    /// The connection was lost during the commit.
    #[error(
        "the connection to PostgreSQL was lost during the commit ({0}); whether everything was moved or nothing is not known"
    )]
    Unknown(String),
    /// The target already holds state.
    #[error("schema `{schema}` holds state already: {}", found.join(", "))]
    NotEmpty {
        /// Name of the schema.
        schema: String,
        /// Contents, such as `12 tasks`.
        found: Vec<String>,
    },
    /// Another client writes into the target's tables.
    #[error("schema `{schema}` is being written to by others")]
    Busy {
        /// Name of the schema.
        schema: String,
    },
    /// The target does not hold what was read.
    #[error("`{table}` did not arrive as it was read: {read} became {kept}; everything was rolled back")]
    Mismatch {
        /// Name of the table.
        table: &'static str,
        /// Rows and checksum as read.
        read: String,
        /// Rows and checksum as read back.
        kept: String,
    },
}

impl MigrateError {
    /// Returns advice for the operator.
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

    /// Returns whether the arguments were invalid.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Address(_))
    }

    /// Converts an error of opening the folder.
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

    /// Converts an error of opening the store on the target.
    pub(super) fn of_store(error: &StoreError) -> Self {
        Self::Target(error.to_string())
    }

    /// Converts an error of a statement about `what`.
    pub(super) fn statement(what: &str, error: &tokio_postgres::Error) -> Self {
        let why = describe(error);
        Self::Target(match error.as_db_error() {
            Some(_) => format!("PostgreSQL refused {what}: {why}"),
            None => format!("the connection to PostgreSQL failed at {what}: {why}"),
        })
    }

    /// Converts an error of the commit.
    pub(super) fn commit(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(_) => Self::statement("the commit", error),
            None => Self::Unknown(describe(error)),
        }
    }
}
