//! Where things are: the workspace, the build folder, executables, free ports.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo;

/// Letters of a checkout's path that name its folder: servers of two checkouts that share a build folder stay apart,
/// and names stay below the 255 bytes that file systems allow.
const KEY_LETTERS: usize = 80;

/// The workspace and where it is built.
#[derive(Debug, Clone)]
pub struct Place {
    /// The folder of the workspace's Cargo.toml.
    pub root: PathBuf,
    /// The build folder.
    pub target: PathBuf,
}

impl Place {
    pub fn find() -> Result<Self> {
        let output =
            cargo().args(["metadata", "--no-deps", "--format-version", "1"]).output().context("cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")?;
        let path = |key: &str| metadata[key].as_str().map(PathBuf::from).with_context(|| format!("no `{key}`"));
        Ok(Self { root: path("workspace_root")?, target: path("target_directory")? })
    }

    /// A word for this checkout, usable in file names.
    pub fn key(&self) -> String {
        key_of(&self.root)
    }
}

fn key_of(root: &Path) -> String {
    let word: Vec<char> = root
        .to_string_lossy()
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' })
        .collect();
    let from = word.len().saturating_sub(KEY_LETTERS);
    word[from..].iter().collect::<String>().trim_matches('_').to_owned()
}

/// A port on loopback that nobody listens on now.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr().context("no free port on 127.0.0.1")?.port())
}

/// An executable in one of these folders, else on the path.
pub fn executable(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.iter().cloned().chain(std::env::split_paths(&path)).map(|dir| dir.join(name)).find(|file| runnable(file))
}

fn runnable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Whether we are root.
pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Subfolders of `parent` whose name starts with `prefix`, the highest version first.
pub fn versions_in(parent: &str, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .collect();
    found.sort_by_key(|path| std::cmp::Reverse(numbers(&path.to_string_lossy())));
    found
}

/// The numbers in a text, to compare versions by: `9.6` < `15`.
pub fn numbers(text: &str) -> Vec<u32> {
    text.split(|letter: char| !letter.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_has_a_word_that_files_may_be_called() {
        assert_eq!(key_of(Path::new("/home/an na/agentry-2")), "home_an_na_agentry_2");
        assert!(key_of(Path::new(&"/long".repeat(100))).len() <= KEY_LETTERS);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(numbers("/usr/lib/postgresql/9.6") < numbers("/usr/lib/postgresql/15"));
        assert_eq!(numbers("15.9 (Debian 15.9-0)"), [15, 9, 15, 9, 0]);
    }

    #[test]
    fn executables_are_files_that_may_be_run() {
        assert!(executable("sh", &[]).is_some());
        assert_eq!(executable("Cargo.toml", &[PathBuf::from(env!("CARGO_MANIFEST_DIR"))]), None);
    }
}
