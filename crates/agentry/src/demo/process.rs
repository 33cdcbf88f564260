//! The demo's processes: the simulator and the server, children of this one, over a temporary folder.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::fleet;
use crate::client::Client;
use crate::failure::Failure;
use crate::out;

/// What a child prints before its address, once it listens.
pub const LISTENING: &str = "listening on ";
/// The end of a child's log that is shown when the demo fails, in bytes.
const LOG_TAIL: usize = 4_096;

/// Everything the demo started. Dropping it ends the processes and removes the folder.
pub struct Stage {
    // The order of fields is the order of their end: processes before their folder.
    server: Option<Child>,
    simulator: Option<Child>,
    url: String,
    simulator_url: String,
    folder: TempDir,
}

impl Stage {
    /// A folder with the example fleet in it; nothing runs yet.
    pub fn new() -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("agentry-demo-").tempdir().map_err(|error| {
            Failure::new(format!("cannot make a temporary folder: {error}"))
                .help("set TMPDIR to a folder that can be written")
        })?;
        fleet::write(&folder.path().join("agents"))?;
        Ok(Self { server: None, simulator: None, url: String::new(), simulator_url: String::new(), folder })
    }

    /// The server's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A client of the simulator, for its ledger.
    pub fn simulator_url(&self) -> &str {
        &self.simulator_url
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the simulator, then the server that calls it.
    pub async fn start(&mut self) -> Result<Client, Failure> {
        let log = self.log("simulator.log");
        let (child, url) = spawn(&["sim", "llm", "--listen", "127.0.0.1:0", "--seed", "1"], &log).await?;
        (self.simulator, self.simulator_url) = (Some(child), url);
        self.start_server("127.0.0.1:0").await
    }

    /// Starts the server over the demo's folder.
    async fn start_server(&mut self, listen: &str) -> Result<Client, Failure> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let (agents, data) = (text(self.folder.path().join("agents")), text(self.folder.path().join("data")));
        let upstream = format!("{}/v1", self.simulator_url);
        let args = ["serve", "--agents", &agents, "--data", &data, "--listen", listen, "--sim-url", &upstream];
        let (child, url) = spawn(&args, &self.log("server.log")).await?;
        (self.server, self.url) = (Some(child), url);
        Client::new(&self.url)
    }

    /// kill -9, then a new server over the same folder and address.
    pub async fn kill_and_restart(&mut self) -> Result<Client, Failure> {
        if let Some(mut server) = self.server.take() {
            server.kill().await.map_err(|error| Failure::new(format!("cannot kill the demo's server: {error}")))?;
        }
        let address = self.url.trim_start_matches("http://").to_owned();
        self.start_server(&address).await
    }

    /// The last lines of the children's logs, for a demo that failed.
    pub fn show_logs(&self) {
        for name in ["simulator.log", "server.log"] {
            let Ok(bytes) = std::fs::read(self.log(name)) else { continue };
            let tail = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_TAIL)..]).into_owned();
            if !tail.trim().is_empty() {
                out::complain(&format!("--- end of {name}\n{tail}"));
            }
        }
    }
}

/// Starts this executable with `args` and waits until it says where it listens. Its log is appended to `log`.
async fn spawn(args: &[&str], log: &Path) -> Result<(Child, String), Failure> {
    let name = args.first().copied().unwrap_or_default();
    let failed = |what: &str, error: &dyn std::fmt::Display| Failure::new(format!("{what} `agentry {name}`: {error}"));
    let program = std::env::current_exe().map_err(|error| failed("cannot find the executable for", &error))?;
    let log = std::fs::File::options().create(true).append(true).open(log);
    let log = log.map_err(|error| failed("cannot open the log of", &error))?;
    let mut command = Command::new(program);
    // Settings of the caller's shell are not the demo's.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AGENTRY_")) {
        command.env_remove(name);
    }
    let mut child = command
        .args(args)
        .envs([("AGENTRY_LOG", "warn"), ("NO_COLOR", "1")])
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed("cannot start", &error))?;
    let stdout = child.stdout.take().ok_or_else(|| failed("cannot read the output of", &"it has none"))?;
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await.map_err(|error| failed("cannot read the output of", &error))? {
        if let Some(url) = line.strip_prefix(LISTENING) {
            return Ok((child, url.trim().to_owned()));
        }
    }
    Err(failed("no address from", &"it ended before it listened"))
}
