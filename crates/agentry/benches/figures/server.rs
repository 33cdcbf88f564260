//! The shipped binary as a child, and what can be seen of it from outside.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant, SystemTime};

use super::http::{Connection, get};

/// How long a child may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long anything is waited for before the figure fails: the slowest takes about a minute on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(240);

pub struct Server {
    child: Child,
    pub address: String,
    pub spawned: Instant,
    /// The same moment by the wall clock, which the stores' stamps come from.
    pub spawned_at: SystemTime,
    pub dir: Arc<tempfile::TempDir>,
}

/// An agent that does nothing but be asked: the cost that is left is the platform's.
pub fn agent(name: &str, mode: &str, provider: &str, model: &str) -> String {
    format!(
        "name: {name}\nexecution_mode: {mode}\ndescription: Measures what the platform itself costs\n\
         system_prompt: Answer in one word.\nllm_config: {{provider: {provider}, model: {model}, temperature: 0.2}}\n"
    )
}

/// A folder with agent files.
pub fn folder_of(agents: &[(String, String)]) -> Arc<tempfile::TempDir> {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("agents");
    std::fs::create_dir(&folder).unwrap();
    for (name, text) in agents {
        std::fs::write(folder.join(format!("{name}.yml")), text).unwrap();
    }
    Arc::new(dir)
}

/// A child that prints `listening on http://…` once it is ready. What it says besides goes to `log`, if there is one.
fn child(args: &[&str], environment: &[(String, String)], log: Option<&Path>) -> (Child, String) {
    let stderr = log.map_or_else(Stdio::null, |path| File::create(path).unwrap().into());
    let mut child = Command::new(env!("CARGO_BIN_EXE_agentry"))
        .args(args)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let (sender, line) = sync_channel(1);
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(stdout).read_line(&mut line);
        let _ = sender.send(line);
    });
    let line = line.recv_timeout(START_TIMEOUT).unwrap_or_default();
    match line.trim().rsplit_once("http://") {
        Some((_, address)) => (child, address.to_owned()),
        None => {
            let _ = child.kill();
            let _ = child.wait();
            let said = log.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
            panic!("agentry {} did not start: {line}{said}", args.join(" "));
        }
    }
}

impl Server {
    /// Everything in one process on the embedded engine.
    pub fn start(agents: &[(String, String)], more: &[&str]) -> Self {
        Self::spawn(folder_of(agents), more, &[], None)
    }

    /// One process on the agents in `dir`; what it says besides goes to `log` in there.
    pub fn spawn(
        dir: Arc<tempfile::TempDir>,
        more: &[&str],
        environment: &[(String, String)],
        log: Option<&str>,
    ) -> Self {
        let (agents, data) = (dir.path().join("agents"), dir.path().join("data"));
        let log = log.map(|name| dir.path().join(name));
        let (agents, data) = (agents.to_str().unwrap(), data.to_str().unwrap());
        let mut args = vec!["serve", "--listen", "127.0.0.1:0", "--agents", agents, "--data", data];
        args.extend(more);
        let (spawned, spawned_at) = (Instant::now(), SystemTime::now());
        let (child, address) = child(&args, environment, log.as_deref());
        Self { child, address, spawned, spawned_at, dir }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub async fn connect(&self) -> Connection {
        Connection::open(&self.address).await
    }

    /// Waits until a line of the metrics shows a number that fits.
    pub async fn wait(&self, name: &str, fits: impl Fn(u64) -> bool) {
        let mut connection = self.connect().await;
        let began = Instant::now();
        while !self.metric(&mut connection, name).await.is_some_and(&fits) {
            assert!(began.elapsed() < PATIENCE, "{name} is not what was waited for after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// A line of the metrics; `None` while there is none.
    async fn metric(&self, connection: &mut Connection, name: &str) -> Option<u64> {
        let (_, body) = connection.send(&get("/metrics")).await;
        let text = String::from_utf8_lossy(body);
        text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
    }

    /// Waits until nothing is queued or running.
    pub async fn drained(&self) {
        self.wait("agentry_tasks{status=\"queued\"}", |count| count == 0).await;
        self.wait("agentry_tasks{status=\"running\"}", |count| count == 0).await;
    }

    /// Proportional set size in KiB.
    pub fn pss_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Processor time used so far.
    pub fn cpu(&self) -> Duration {
        cpu_of(self.child.id())
    }
}

/// Processor time of a process, from the scheduler's nanoseconds of each living thread; none when it is gone.
pub fn cpu_of(pid: u32) -> Duration {
    let mut nanos = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        if let Ok(text) = std::fs::read_to_string(thread.path().join("schedstat")) {
            nanos += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Duration::from_nanos(nanos)
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A simulator, of models or of Slack, as a child.
pub struct Simulator {
    child: Child,
    /// For `--sim-url`.
    pub url: String,
}

impl Simulator {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// One with more flags.
    pub fn with(more: &[&str]) -> Self {
        let (child, address) = child(&[&["sim", "llm", "--listen", "127.0.0.1:0"], more].concat(), &[], None);
        Self { child, url: format!("http://{address}") }
    }

    /// Slack, which takes whatever it is told; each call is a line of the ledger.
    pub fn slack(ledger: Option<&str>) -> Self {
        let mut args = vec!["sim", "slack", "--listen", "127.0.0.1:0", "--no-rate-limits", "--any-thread"];
        args.extend(ledger.into_iter().flat_map(|path| ["--ledger", path]));
        let (child, address) = child(&args, &[], None);
        Self { child, url: format!("http://{address}") }
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Processor time used so far.
    pub fn cpu(&self) -> Duration {
        cpu_of(self.child.id())
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
