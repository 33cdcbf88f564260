//! A run of the binary, and a server that ends with its test.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// The binary, in a folder of its own, with nothing of the caller's settings.
pub fn agentry(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentry"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["AGENTRY_", "OPENAI_", "OTEL_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name.as_ref());
        }
    }
    command.current_dir(folder).env("USER", "tester").stdin(Stdio::null());
    command
}

/// Exit code, standard output and standard error of a run, as a snapshot shows them.
pub fn run(folder: &Path, args: &[&str]) -> String {
    let output = agentry(folder).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "exit code: {}\n----- stdout -----\n{}----- stderr -----\n{}",
        output.status.code().map_or("none".to_owned(), |code| code.to_string()),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Standard output of a run that must succeed, as JSON.
pub fn json(folder: &Path, args: &[&str]) -> serde_json::Value {
    let output = agentry(folder).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A folder with the example fleet in `agents`.
pub fn folder_with_fleet() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let agents = folder.path().join("agents");
    std::fs::create_dir(&agents).unwrap();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../agents")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, agents.join(path.file_name().unwrap())).unwrap();
    }
    folder
}

/// Returns a folder with an empty folder `agents`.
pub fn empty_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    folder
}

/// Writes an agent file with these additional keys.
pub fn write_agent(folder: &Path, name: &str, mode: &str, more: &str) {
    let target = "llm_config: {provider: openai, model: gpt-4.1-mini}\nsystem_prompt: Answer shortly.\n";
    let text = format!("name: {name}\nexecution_mode: {mode}\n{target}{more}");
    std::fs::write(folder.join("agents").join(format!("{name}.yml")), text).unwrap();
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub url: String,
}

impl Server {
    /// Starts `serve --sim` on a free port in this folder and waits until it listens.
    pub fn start(folder: &Path) -> Self {
        let mut command = agentry(folder);
        command.args(["serve", "--sim", "--listen", "127.0.0.1:0"]).stderr(Stdio::null());
        Self::spawn(&mut command)
    }

    /// Starts any verb that serves, and waits until it says where it listens.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url =
            line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("no address: {line:?}")).to_owned();
        Self { child, url }
    }

    /// Its process id.
    pub fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// Waits for its end; returns its exit code.
    pub fn wait(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    /// kill -9, and gone when this returns.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
