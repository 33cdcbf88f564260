//! The processes of a deployment: one for each role and mode, two that execute single tasks, and the simulated provider.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use agentry_testkit::FaultProxy;

use crate::process::{Process, tail, until};
use crate::servers::{Addresses, loopback};

/// Every process, by the name of its pool.
pub const MEMBERS: [&str; 6] = ["api", "scheduler", "autonomous-1", "autonomous-2", "continuous", "collaborative"];
/// How long a process may take until it listens; those that start first make tables and queues.
const STARTS: Duration = Duration::from_secs(60);
/// What `serve` and `sim` print when they are ready.
const READY: &str = "listening on ";
/// Seconds that running tasks may take to end after SIGTERM: longer than any task here.
const DRAIN: &str = "15";

/// A process of the deployment.
pub struct Member {
    pub process: Process,
    pub url: String,
}

/// Links of a process that can be cut.
pub struct Links {
    pub postgres: FaultProxy,
    pub rabbitmq: FaultProxy,
    pub redis: FaultProxy,
}

impl Links {
    async fn to(addresses: Addresses) -> Self {
        let link = async |port| FaultProxy::start(loopback(port)).await.unwrap();
        Self {
            postgres: link(addresses.postgres).await,
            rabbitmq: link(addresses.rabbitmq).await,
            redis: link(addresses.redis).await,
        }
    }

    fn addresses(&self) -> Addresses {
        let port = |link: &FaultProxy| link.address().port();
        Addresses { postgres: port(&self.postgres), rabbitmq: port(&self.rabbitmq), redis: port(&self.redis) }
    }
}

/// The deployment.
pub struct Deployment {
    pub members: BTreeMap<String, Member>,
    pub links: BTreeMap<String, Links>,
    simulator: Member,
    addresses: Addresses,
    folder: PathBuf,
    starts: u32,
    /// Processes with agent files of their own.
    own_files: BTreeMap<String, PathBuf>,
}

impl Deployment {
    /// A provider, and nobody who calls it yet.
    pub async fn new(folder: &Path, addresses: Addresses) -> Self {
        write_fleet(&folder.join("agents"));
        let mut command = agentry(folder);
        command.args(["sim", "llm", "--listen", "127.0.0.1:0", "--ledger", "ledger.jsonl"]);
        let simulator = start(command, folder.join("simulator.log")).await;
        let (members, links) = (BTreeMap::new(), BTreeMap::new());
        Self { members, links, simulator, addresses, folder: folder.to_owned(), starts: 0, own_files: BTreeMap::new() }
    }

    /// From now on these reach the servers through links that can be cut.
    pub async fn link(&mut self, names: &[&str]) {
        for name in names {
            self.links.insert((*name).to_owned(), Links::to(self.addresses).await);
        }
    }

    /// The folder of agent files that a process has for itself from its next start on: a copy of that of all.
    pub fn own_files(&mut self, name: &str) -> PathBuf {
        let (all, own) = (self.folder.join("agents"), self.folder.join(format!("agents-{name}")));
        if self.own_files.insert(name.to_owned(), own.clone()).is_none() {
            std::fs::create_dir(&own).unwrap();
            for file in std::fs::read_dir(all).unwrap().flatten() {
                std::fs::copy(file.path(), own.join(file.file_name())).unwrap();
            }
        }
        own
    }

    /// Starts processes side by side and waits until they listen.
    pub async fn start(&mut self, names: &[&str]) {
        let mut starting = Vec::new();
        for name in names {
            self.starts += 1;
            let log = self.folder.join(format!("{name}-{}.log", self.starts));
            starting.push(start(self.command(name), log));
        }
        let started = futures_util::future::join_all(starting).await;
        for (name, member) in names.iter().zip(started) {
            self.members.insert((*name).to_owned(), member);
        }
    }

    fn command(&self, name: &str) -> Command {
        let (role, mode) = match name.split('-').next().unwrap_or(name) {
            "autonomous" => ("worker", Some("autonomous,scheduled")),
            mode @ ("continuous" | "collaborative") => ("worker", Some(mode)),
            role => (role, None),
        };
        let addresses = self.links.get(name).map_or(self.addresses, Links::addresses);
        let mut command = agentry(&self.folder);
        command
            .args(["serve", "--engine", "cluster", "--listen", "127.0.0.1:0", "--role", role, "--drain", DRAIN])
            .args(["--sim-url", &format!("{}/v1", self.simulator.url), "--log", "info"])
            .args(self.own_files.get(name).into_iter().flat_map(|own| [OsStr::new("--agents"), own.as_os_str()]))
            .args(mode.into_iter().flat_map(|mode| ["--mode", mode]))
            .env("AGENTRY_POSTGRES_URL", addresses.postgres_url())
            .env("AGENTRY_RABBITMQ_URL", addresses.rabbitmq_url())
            .env("AGENTRY_REDIS_URL", addresses.redis_url());
        command
    }

    pub fn member(&mut self, name: &str) -> &mut Member {
        self.members.get_mut(name).unwrap_or_else(|| panic!("`{name}` does not run"))
    }

    /// What the provider counted itself: a line for each request.
    pub fn ledger(&self) -> PathBuf {
        self.folder.join("ledger.jsonl")
    }

    /// The ends of all logs, for a failure.
    pub fn tails(&self) -> Vec<(String, String)> {
        let logs = std::fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut logs: Vec<PathBuf> = logs.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
        logs.sort();
        logs.iter().map(|log| (log.file_name().unwrap_or_default().to_string_lossy().into_owned(), tail(log))).collect()
    }
}

async fn start(mut command: Command, log: PathBuf) -> Member {
    let mut process = Process::start(&mut command, &log);
    let url = until(&format!("{} to say that it listens", log.display()), STARTS, async || {
        if let Some(status) = process.ended() {
            panic!("{} ended ({status}):\n{}", log.display(), process.tail());
        }
        let text = std::fs::read_to_string(&log).unwrap();
        let (line, _) = text.split_once(READY)?.1.split_once('\n')?;
        Some(line.trim().to_owned())
    })
    .await;
    Member { process, url }
}

/// The binary, in a folder of its own, with nothing of the caller's settings.
fn agentry(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentry"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["AGENTRY_", "OPENAI_"].iter().any(|start| text.starts_with(start)) {
            command.env_remove(&name);
        }
    }
    command.current_dir(folder);
    command
}

const TARGET: &str = "llm_config: {provider: openai, model: gpt-4.1-mini}\nsystem_prompt: Answer shortly.\n";

/// An agent for each mode, one that hears of tickets, and two who help in plans.
fn write_fleet(agents: &Path) {
    std::fs::create_dir(agents).unwrap();
    let write = |name: &str, mode: &str, more: &str| {
        let text = format!("name: {name}\nexecution_mode: {mode}\n{TARGET}{more}");
        std::fs::write(agents.join(format!("{name}.yml")), text).unwrap();
    };
    write("clerk", "autonomous", "");
    write("checker", "autonomous", "");
    write("support", "continuous", "");
    write(
        "team",
        "collaborative",
        "collaborative_config: {preferred_collaborators: [clerk, checker], min_collaborators: 1}\n",
    );
    // Every slot of an outage is fired when it is over.
    let every_second = "schedule_config: {type: interval, interval_seconds: 1, task_data: {say: tick}, \
                        overlap: allow_all, catchup_window_seconds: 3600}\n";
    write("ticker", "scheduled", every_second);
    write("triage", "autonomous", "event_subscriptions: [\"customer.ticket.*\"]\n");
}
