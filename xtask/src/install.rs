//! Tools that tests and checks need, installed once into a folder.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::output_within;

/// Making an empty environment takes a second or two.
const VENV: Duration = Duration::from_secs(120);

/// Installs what the mark does not say is installed.
pub fn once(mark: &Path, expected: &str, install: impl FnOnce() -> Result<()>) -> Result<()> {
    if std::fs::read_to_string(mark).is_ok_and(|found| found == expected) {
        return Ok(());
    }
    install()?;
    std::fs::write(mark, expected).with_context(|| format!("cannot write {}", mark.display()))
}

/// Makes a Python environment and installs packages from PyPI into it.
pub fn python<S: AsRef<OsStr>>(folder: &Path, packages: impl IntoIterator<Item = S>, limit: Duration) -> Result<()> {
    output_within(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder), VENV)?;
    let mut install = Command::new(folder.join("bin/python"));
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages);
    output_within(&mut install, limit).map(drop)
}
