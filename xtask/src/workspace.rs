//! Paths of the workspace and the build folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo;

/// Letters of a checkout's path that name its folder: servers of two checkouts that share a build folder stay apart,
/// and names stay below the 255 bytes that file systems allow.
const KEY_LETTERS: usize = 80;

/// The workspace and where it is built.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// The folder of the workspace's Cargo.toml.
    pub root: PathBuf,
    /// The build folder.
    pub target: PathBuf,
}

impl Workspace {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_has_a_word_that_files_may_be_called() {
        assert_eq!(key_of(Path::new("/home/an na/agentry-2")), "home_an_na_agentry_2");
        assert!(key_of(Path::new(&"/long".repeat(100))).len() <= KEY_LETTERS);
    }
}
