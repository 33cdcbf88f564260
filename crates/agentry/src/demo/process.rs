//! The demo's processes: the simulator and the server, children of this one, over a temporary folder. On the cluster
//! engine the server is four of them, one role each and two workers.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use agentry_config::Engine;

use super::fleet;
use super::place::Place;
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
    /// Who executes: the one that is killed last.
    workers: Vec<Child>,
    /// The other roles of a cluster.
    others: Vec<Child>,
    simulator: Option<Child>,
    place: Place,
    url: String,
    simulator_url: String,
    folder: TempDir,
}

impl Stage {
    /// A folder with the example fleet in it; nothing runs yet.
    pub fn new(place: Place) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("agentry-demo-").tempdir().map_err(|error| {
            Failure::new(format!("cannot make a temporary folder: {error}"))
                .help("set TMPDIR to a folder that can be written")
        })?;
        fleet::write(&folder.path().join("agents"))?;
        let (workers, others, simulator) = (Vec::new(), Vec::new(), None);
        let (url, simulator_url) = (String::new(), String::new());
        Ok(Self { workers, others, simulator, place, url, simulator_url, folder })
    }

    /// Its engine's word.
    pub fn engine(&self) -> &'static str {
        self.place.engine()
    }

    /// Ends all processes and removes what they left on servers.
    ///
    /// # Errors
    /// What could not be removed.
    pub async fn end(mut self) -> Result<(), Failure> {
        for child in self.workers.iter_mut().chain(&mut self.others) {
            // Gone already is as good.
            let _ = child.kill().await;
        }
        self.place.clean_up().await
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
        let args = ["sim", "llm", "--listen", "127.0.0.1:0", "--seed", "1"];
        let (child, url) = spawn(&args, &[], &log).await?;
        (self.simulator, self.simulator_url) = (Some(child), url);
        match self.place.engine {
            Engine::Embedded => self.start_whole("127.0.0.1:0").await?,
            Engine::Cluster => self.start_roles().await?,
        }
        Client::new(&self.url)
    }

    /// Starts a server over the demo's folder.
    async fn serve(&self, args: &[&str]) -> Result<(Child, String), Failure> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let (agents, data) = (text(self.folder.path().join("agents")), text(self.folder.path().join("data")));
        let base = ["serve", "--agents", &agents, "--data", &data, "--sim-url", &self.simulator_url];
        spawn(&[&base, args].concat(), &self.place.environment, &self.log("server.log")).await
    }

    /// One process with all roles.
    async fn start_whole(&mut self, listen: &str) -> Result<(), Failure> {
        let (child, url) = self.serve(&["--listen", listen]).await?;
        self.workers.push(child);
        self.url = url;
        Ok(())
    }

    /// One process for each role, and two workers.
    async fn start_roles(&mut self) -> Result<(), Failure> {
        let role = |role| self.serve_role(role);
        let (api, scheduler, one, two) =
            tokio::try_join!(role("api"), role("scheduler"), role("worker"), role("worker"))?;
        self.url = api.1;
        self.others.extend([api.0, scheduler.0]);
        self.workers.extend([one.0, two.0]);
        Ok(())
    }

    async fn serve_role(&self, role: &str) -> Result<(Child, String), Failure> {
        self.serve(&["--role", role, "--listen", "127.0.0.1:0"]).await
    }

    /// kill -9 of who executes, then another in its place: over the same folder and address, or beside the workers
    /// that are left.
    pub async fn kill_and_restart(&mut self) -> Result<Client, Failure> {
        if let Some(mut worker) = self.workers.pop() {
            worker.kill().await.map_err(|error| Failure::new(format!("cannot kill the demo's server: {error}")))?;
        }
        match self.place.engine {
            Engine::Embedded => {
                let address = self.url.trim_start_matches("http://").to_owned();
                self.start_whole(&address).await?;
            }
            Engine::Cluster => {
                let (child, _) = self.serve_role("worker").await?;
                self.workers.push(child);
            }
        }
        Client::new(&self.url)
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
async fn spawn(args: &[&str], environment: &[(&'static str, String)], log: &Path) -> Result<(Child, String), Failure> {
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
        .envs(environment.iter().map(|(name, value)| (*name, value)))
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
