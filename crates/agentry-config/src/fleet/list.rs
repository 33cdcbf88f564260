//! Finds the agent files of a directory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::problem::Problem;

/// Maximum depth of nested directories, which ends a link to a parent.
const MAX_LEVELS: usize = 16;
/// Maximum number of agent files in a directory.
pub(crate) const MAX_FILES: usize = 100_000;

/// The metadata that distinguishes two states of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub modified: Option<SystemTime>,
    size: u64,
    inode: u64,
}

/// An existing agent file.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub path: PathBuf,
    pub stamp: Stamp,
}

impl Listed {
    /// Returns a file that was named explicitly: it is read whatever its name is, and even if it does not exist.
    pub fn named(path: &Path) -> Self {
        let stamp =
            std::fs::metadata(path).map_or(Stamp { modified: None, size: 0, inode: 0 }, |metadata| stamp(&metadata));
        Self { path: path.to_owned(), stamp }
    }
}

pub(crate) fn shown(path: &Path) -> Arc<str> {
    path.to_string_lossy().as_ref().into()
}

/// Returns every `*.yml` and `*.yaml` under a directory, in order of their paths. Names that start with a dot and
/// dangling links are skipped; links to files are followed, as mounted configuration needs.
pub(crate) fn agent_files(dir: &Path) -> Result<Vec<Listed>, Problem> {
    let mut files = Vec::new();
    walk(dir, 0, &mut files).map_err(|error| unreadable(dir, &error))?;
    if files.len() > MAX_FILES {
        return Err(Problem::of_file(shown(dir), format!("there are more than {MAX_FILES} agent files")));
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn unreadable(dir: &Path, error: &io::Error) -> Problem {
    let message = match error.kind() {
        io::ErrorKind::NotFound => "there is no such directory of agent files".to_owned(),
        io::ErrorKind::NotADirectory => "this is not a directory of agent files".to_owned(),
        _ => format!("cannot read the directory of agent files: {error}"),
    };
    Problem::of_file(shown(dir), message).help("create it, or name another with --agents DIR")
}

fn walk(dir: &Path, level: usize, files: &mut Vec<Listed>) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") || files.len() > MAX_FILES {
            continue;
        }
        let path = entry.path();
        let is_yaml = path.extension().is_some_and(|ending| ending == "yml" || ending == "yaml");
        let kind = entry.file_type()?;
        if kind.is_file() && !is_yaml {
            continue;
        }
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        if metadata.is_dir() && level < MAX_LEVELS {
            // A directory that disappears, or is unreadable, does not affect the others.
            if let Err(error) = walk(&path, level + 1, files) {
                tracing::warn!(path = %path.display(), %error, "reading a directory of agent files failed");
            }
        } else if metadata.is_file() && is_yaml {
            files.push(Listed { path, stamp: stamp(&metadata) });
        }
    }
    Ok(())
}

fn stamp(metadata: &std::fs::Metadata) -> Stamp {
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Stamp { modified: metadata.modified().ok(), size: metadata.len(), inode }
}
