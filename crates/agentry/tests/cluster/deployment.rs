//! The processes of a deployment: one for each role and mode, two that execute single tasks, and the simulated provider.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use agentry_lab::{FaultProxy, Instance, Member, Process, ProcessGroup, Program, Urls, loopback};

/// Every process, by the name of its pool.
pub const MEMBERS: [&str; 6] = ["api", "scheduler", "autonomous-1", "autonomous-2", "continuous", "collaborative"];
/// Seconds that running tasks may take to end after SIGTERM: longer than any task here.
const DRAIN: &str = "15";

/// Proxies between a process and the servers, each of which can be cut.
pub struct Proxies {
    pub postgres: FaultProxy,
    pub rabbitmq: FaultProxy,
    pub redis: FaultProxy,
}

impl Proxies {
    async fn to(ports: [u16; 3]) -> Self {
        let proxy = async |port| FaultProxy::start(loopback(port), 1).await.unwrap();
        let [postgres, rabbitmq, redis] = ports;
        Self { postgres: proxy(postgres).await, rabbitmq: proxy(rabbitmq).await, redis: proxy(redis).await }
    }

    fn urls(&self) -> Urls {
        let port = |proxy: &FaultProxy| proxy.address().port();
        Urls::at(port(&self.postgres), port(&self.rabbitmq), port(&self.redis))
    }
}

/// The deployment.
pub struct Deployment {
    pub lab: agentry_lab::Deployment,
    pub proxies: BTreeMap<String, Proxies>,
    _simulator: Instance,
}

impl Deployment {
    /// Starts a provider; nobody calls it yet.
    pub async fn new(folder: &Path, urls: Urls) -> Self {
        write_fleet(&folder.join("agents"));
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_agentry"));
        let (folder, keeps) = (folder.to_owned(), Vec::new());
        let program = Program { binary, folder, keeps, group: ProcessGroup::Callers };
        let mut command = program.command(&["sim", "llm", "--listen", "127.0.0.1:0", "--ledger", "ledger.jsonl"]);
        let simulator = program.listen("simulator", &mut command).await.unwrap();
        let provider = format!("{}/v1", simulator.url());
        let mut lab = agentry_lab::Deployment::new(program, Some(urls));
        let args = ["--engine", "cluster", "--drain", DRAIN, "--sim-url", &provider, "--log", "info"];
        lab.args = args.map(str::to_owned).to_vec();
        Self { lab, proxies: BTreeMap::new(), _simulator: simulator }
    }

    /// Has these reach the servers, on these ports, through proxies from now on.
    pub async fn proxy(&mut self, names: &[&str], ports: [u16; 3]) {
        for name in names {
            let proxies = Proxies::to(ports).await;
            self.lab.detour(name, proxies.urls());
            self.proxies.insert((*name).to_owned(), proxies);
        }
    }

    /// Starts processes side by side and waits until they listen.
    pub async fn start(&mut self, names: &[&str]) {
        let members: Vec<Member> = names.iter().map(|name| member(name)).collect();
        self.lab.start(&members).await.unwrap();
    }

    pub fn process(&mut self, name: &str) -> &mut Process {
        self.lab.process(name).unwrap()
    }

    pub fn url(&self, name: &str) -> String {
        self.lab.instance(name).unwrap().url()
    }

    /// Waits for the end of a process.
    pub async fn ended(&mut self, name: &str, limit: Duration) -> ExitStatus {
        let process = self.process(name);
        let exit = process.wait(limit).await;
        exit.unwrap_or_else(|| panic!("{name} does not end:\n{}", process.tail())).status
    }

    /// What the provider counted itself: a line for each request.
    pub fn ledger(&self) -> PathBuf {
        self.lab.program.folder.join("ledger.jsonl")
    }
}

fn member(name: &str) -> Member {
    let (role, modes) = match name.split('-').next().unwrap_or(name) {
        "api" => ("api", ""),
        "scheduler" => ("scheduler", ""),
        "autonomous" => ("worker", "autonomous,scheduled"),
        "continuous" => ("worker", "continuous"),
        "collaborative" => ("worker", "collaborative"),
        other => panic!("no process is called `{other}`"),
    };
    Member::new(name, role, modes)
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
