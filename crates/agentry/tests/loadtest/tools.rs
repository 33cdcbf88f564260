//! Finding the tools, and runs of them that end in time.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// What to do when a tool is missing.
pub const HELP: &str = "run `cargo xtask loadtest`, which installs Locust and Artillery, and set what it prints";
/// An address where nobody listens: this port is given to no one who asks for any.
pub const NOWHERE: &str = "http://127.0.0.1:1";
/// A run of some seconds, on a machine that does other things too.
const LIMIT: Duration = Duration::from_secs(180);

/// How a run ended.
pub struct Finished {
    /// Its exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard output and standard error, for a failed test to show.
    pub said: String,
}

/// A file of this repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A tool that the environment names, or where `cargo xtask loadtest` puts it: in the build folder, in which the binary
/// lies in `debug`.
pub fn found(variable: &str, usual: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_agentry")).ancestors().nth(2).unwrap();
    let named = std::env::var_os(variable).map(PathBuf::from);
    named
        .into_iter()
        .chain([target.join(usual)])
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{variable} names nothing that is there: {HELP}"))
}

/// A program of the path.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Runs a tool in a folder, with nothing of the caller's proxies and settings.
pub fn run(program: &Path, folder: &Path, args: &[String], env: &[(&str, &str)]) -> Finished {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .envs(env.iter().copied())
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ended = runtime.block_on(async { timeout(LIMIT, command.output()).await });
    let output = ended
        .unwrap_or_else(|_| panic!("{} took longer than {LIMIT:?}", program.display()))
        .unwrap_or_else(|error| panic!("{} cannot be started: {error}: {HELP}", program.display()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    Finished { code: output.status.code(), said: format!("{out}\n{err}"), out }
}

/// What a tool left as JSON.
pub fn report(file: &Path, said: &str) -> serde_json::Value {
    let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}\n{said}", file.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}\n{said}", file.display()))
}

/// Command line arguments.
pub fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
