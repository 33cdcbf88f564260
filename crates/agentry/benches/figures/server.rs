//! The shipped binary as a child, and what can be seen of it from outside.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::http::{Connection, get};

pub struct Server {
    child: Child,
    pub address: String,
    pub spawned: Instant,
    pub dir: tempfile::TempDir,
}

/// An agent that does nothing but be asked: the cost that is left is the platform's.
pub fn agent(name: &str, mode: &str, provider: &str, model: &str) -> String {
    format!(
        "name: {name}\nexecution_mode: {mode}\ndescription: Measures what the platform itself costs\n\
         system_prompt: Answer in one word.\nllm_config: {{provider: {provider}, model: {model}, temperature: 0.2}}\n"
    )
}

/// A child that prints `listening on http://…` once it is ready.
pub fn child(args: &[&str]) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_agentry"))
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit("http://").next().unwrap().to_owned();
    (child, address)
}

impl Server {
    pub fn start(agents: &[(String, String)], more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("agents");
        std::fs::create_dir(&folder).unwrap();
        for (name, text) in agents {
            std::fs::write(folder.join(format!("{name}.yml")), text).unwrap();
        }
        let data = dir.path().join("data");
        let mut args = vec![
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--agents",
            folder.to_str().unwrap(),
            "--data",
            data.to_str().unwrap(),
        ];
        args.extend(more);
        let spawned = Instant::now();
        let (child, address) = child(&args);
        Self { child, address, spawned, dir }
    }

    pub async fn connect(&self) -> Connection {
        Connection::open(&self.address).await
    }

    /// Waits until a line of the metrics shows a number that fits.
    pub async fn wait(&self, name: &str, fits: impl Fn(u64) -> bool) {
        let mut connection = self.connect().await;
        loop {
            if fits(self.metric(&mut connection, name).await) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub async fn metric(&self, connection: &mut Connection, name: &str) -> u64 {
        let (_, body) = connection.send(&get("/metrics")).await;
        let text = String::from_utf8_lossy(body);
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
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

/// Processor time of a process, from the scheduler's nanoseconds of each thread.
pub fn cpu_of(pid: u32) -> Duration {
    let mut nanos = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
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
