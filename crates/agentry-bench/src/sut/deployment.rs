//! A deployment for one measurement: a folder, agent files, the binary in one process or in roles, and the simulator.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::SutError;
use super::api::Api;
use super::child::{Child, Ended, until};
use super::fleet::AgentFile;
use super::servers::Urls;
use crate::model::Engine;
use crate::sample::{Part, Sampler, memory_of};

/// How long a process may take until it listens.
const STARTS: Duration = Duration::from_secs(60);
/// How long a process may take to end: its own drain, and a margin.
const ENDS: Duration = Duration::from_secs(45);
/// What the platform calls a healthy agent in its metrics.
const HEALTHY: &str = "agentry_agents{state=\"healthy\"}";

/// The LLM simulator's behaviour.
#[derive(Debug, Clone)]
pub struct Llm {
    /// `instant`, `fast` or `realistic`.
    pub profile: &'static str,
    /// Part of the calls that fail with a server error.
    pub error_rate: f64,
    /// Further faults, each as `KIND=RATE`.
    pub faults: &'static [&'static str],
    /// Calls of one second at most.
    pub rate_limit: Option<u32>,
}

impl Default for Llm {
    fn default() -> Self {
        Self { profile: "instant", error_rate: 0.0, faults: &[], rate_limit: None }
    }
}

/// A process of a deployment.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its roles by commas; all when empty.
    pub roles: &'static str,
    /// The modes it executes by commas; all when empty.
    pub modes: &'static str,
}

impl Member {
    /// A process.
    #[must_use]
    pub fn new(name: impl Into<String>, roles: &'static str, modes: &'static str) -> Self {
        Self { name: name.into(), roles, modes }
    }
}

/// The secret with which events of Slack are signed, and the token with which answers are posted. Both are known to
/// everybody: nothing but simulators believes them.
pub const SLACK_SECRET: &str = "bench-signing-secret";
const SLACK_TOKEN: &str = "xoxb-bench-token";

/// What a scenario wants.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The fleet.
    pub agents: Vec<AgentFile>,
    /// The simulator, when calls go over HTTP.
    pub llm: Option<Llm>,
    /// Processes on the cluster engine; two workers, a scheduler and an API when empty. Embedded there is one.
    pub members: Vec<Member>,
    /// Files beside the agents, by name and text.
    pub files: Vec<(&'static str, &'static str)>,
    /// More flags of `serve`.
    pub flags: Vec<String>,
    /// Variables of the caller's environment that the processes keep: keys and addresses of real providers.
    pub keeps: Vec<&'static str>,
    /// With the Slack simulator: which agent answers where, as in `C0123=agent`; everything else goes to subscribers.
    pub slack: Option<&'static str>,
}

/// The processes of a deployment on the cluster engine unless a scenario says otherwise.
#[must_use]
pub fn roles() -> Vec<Member> {
    vec![
        Member::new("api", "api", ""),
        Member::new("scheduler", "scheduler", ""),
        Member::new("worker-1", "worker", ""),
        Member::new("worker-2", "worker", ""),
    ]
}

/// Settings and credentials of the caller have no part in what is measured, unless a plan keeps them.
fn is_taken_away(variable: &str, keeps: &[&str]) -> bool {
    const SETTINGS: [&str; 6] = ["AGENTRY_", "OPENAI_", "ANTHROPIC_", "AWS_", "OLLAMA_", "SLACK_"];
    SETTINGS.iter().any(|start| variable.starts_with(start)) && !keeps.contains(&variable)
}

struct Process {
    child: Child,
    address: String,
    api: Api,
}

/// A deployment. Everything ends with it.
pub struct Deployment {
    processes: BTreeMap<String, Process>,
    simulator: Option<(Child, String)>,
    slack: Option<(Child, String)>,
    plan: Plan,
    engine: Engine,
    urls: Option<Urls>,
    /// Of members whose way to the servers is another one.
    detours: BTreeMap<String, Urls>,
    /// Schema, prefix and connection name on the servers.
    name: String,
    binary: PathBuf,
    sampler: Arc<Sampler>,
    starts: u32,
    folder: TempDir,
}

impl Deployment {
    /// Writes the agent files and starts the simulator; no process of the platform runs yet.
    ///
    /// `urls`: the servers of the cluster engine. `name`: unique on them, in letters, digits and underscores.
    ///
    /// # Errors
    /// When something cannot be written or started.
    pub async fn prepare(
        engine: Engine,
        urls: Option<Urls>,
        name: &str,
        plan: Plan,
        sampler: &Arc<Sampler>,
    ) -> Result<Self, SutError> {
        let folder = tempfile::Builder::new().prefix("agentry-bench-").tempdir();
        let folder = folder.map_err(SutError::file(std::env::temp_dir()))?;
        let binary = std::env::current_exe().map_err(SutError::file("the path of this program"))?;
        let agents = folder.path().join("agents");
        std::fs::create_dir(&agents).map_err(SutError::file(&agents))?;
        for (name, text) in &plan.agents {
            let file = agents.join(format!("{name}.yml"));
            std::fs::write(&file, text).map_err(SutError::file(file))?;
        }
        for (name, text) in &plan.files {
            let file = folder.path().join(name);
            std::fs::write(&file, text).map_err(SutError::file(file))?;
        }
        let mut deployment = Self {
            processes: BTreeMap::new(),
            simulator: None,
            slack: None,
            plan,
            engine,
            urls,
            detours: BTreeMap::new(),
            name: name.to_owned(),
            binary,
            sampler: Arc::clone(sampler),
            starts: 0,
            folder,
        };
        if let Some(llm) = deployment.plan.llm.clone() {
            deployment.start_simulator(&llm).await?;
        }
        if deployment.plan.slack.is_some() {
            deployment.start_slack().await?;
        }
        Ok(deployment)
    }

    /// [`Deployment::prepare`], then every process, until each agent is healthy.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn open(
        engine: Engine,
        urls: Option<Urls>,
        name: &str,
        plan: Plan,
        sampler: &Arc<Sampler>,
    ) -> Result<Self, SutError> {
        let mut deployment = Self::prepare(engine, urls, name, plan, sampler).await?;
        deployment.start_all().await?;
        deployment.healthy().await?;
        Ok(deployment)
    }

    async fn start_simulator(&mut self, llm: &Llm) -> Result<(), SutError> {
        let mut command = self.command();
        command.args(["sim", "llm", "--listen", "127.0.0.1:0", "--profile", llm.profile]);
        command.args(["--error-rate", &llm.error_rate.to_string()]).arg("--ledger").arg(self.llm_ledger());
        if let Some(limit) = llm.rate_limit {
            command.args(["--rate-limit", &limit.to_string()]);
        }
        command.args(llm.faults.iter().flat_map(|fault| ["--fault", fault]));
        let mut child = Child::start("LLM simulator", &mut command, &self.log("simulator"))?;
        self.sampler.watch(Part::Simulators, child.pid());
        let address = child.address(STARTS).await?;
        self.simulator = Some((child, address));
        Ok(())
    }

    async fn start_slack(&mut self) -> Result<(), SutError> {
        let mut command = self.command();
        command.args(["sim", "slack", "--listen", "127.0.0.1:0", "--no-rate-limits", "--any-thread"]);
        command
            .args(["--signing-secret", SLACK_SECRET, "--bot-token", SLACK_TOKEN])
            .arg("--ledger")
            .arg(self.slack_ledger());
        let mut child = Child::start("Slack simulator", &mut command, &self.log("slack"))?;
        self.sampler.watch(Part::Simulators, child.pid());
        let address = child.address(STARTS).await?;
        self.slack = Some((child, address));
        Ok(())
    }

    /// The file in which the Slack simulator writes every call.
    #[must_use]
    pub fn slack_ledger(&self) -> PathBuf {
        self.folder.path().join("slack-ledger.jsonl")
    }

    /// The file in which the LLM simulator writes every call.
    #[must_use]
    pub fn llm_ledger(&self) -> PathBuf {
        self.folder.path().join("llm-ledger.jsonl")
    }

    /// The LLM simulator's address.
    #[must_use]
    pub fn simulator(&self) -> Option<&str> {
        self.simulator.as_ref().map(|(_, address)| address.as_str())
    }

    /// The members of the plan.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        match self.engine {
            Engine::Embedded => vec![Member::new("agentry", "", "")],
            Engine::Cluster if self.plan.members.is_empty() => roles(),
            Engine::Cluster => self.plan.members.clone(),
        }
    }

    /// Names of the processes that run or ran.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.processes.keys().cloned().collect()
    }

    /// Starts every member side by side and waits until all listen.
    ///
    /// # Errors
    /// When one does not.
    pub async fn start_all(&mut self) -> Result<(), SutError> {
        let mut starting = Vec::new();
        for member in self.members() {
            let child = self.spawn(&member, None)?;
            starting.push((member.name, child));
        }
        for (name, mut child) in starting {
            let address = child.address(STARTS).await?;
            self.admit(name, child, address)?;
        }
        Ok(())
    }

    /// Starts a member, on the address it had before when it ran before.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(&mut self, member: &Member) -> Result<(), SutError> {
        let before = self.processes.get(&member.name).map(|process| process.address.clone());
        let mut child = self.spawn(member, before.as_deref())?;
        let address = child.address(STARTS).await?;
        self.admit(member.name.clone(), child, address)
    }

    /// Starts a member that ran before again.
    ///
    /// # Errors
    /// When there is none of that name, or it does not start.
    pub async fn start_again(&mut self, name: &str) -> Result<(), SutError> {
        let member = self.members().into_iter().find(|member| member.name == name);
        let member = member.ok_or_else(|| SutError::Server(format!("no process is called `{name}`")))?;
        self.start(&member).await
    }

    fn admit(&mut self, name: String, child: Child, address: String) -> Result<(), SutError> {
        let api = Api::new(&format!("http://{address}"))?;
        self.processes.insert(name, Process { child, address, api });
        Ok(())
    }

    fn spawn(&mut self, member: &Member, listen: Option<&str>) -> Result<Child, SutError> {
        self.starts += 1;
        let log = self.log(&format!("{}-{}", member.name, self.starts));
        let mut command = self.command();
        command.args(["serve", "--listen", listen.unwrap_or("127.0.0.1:0"), "--agents", "agents", "--data", "data"]);
        command.args(["--engine", self.engine.word(), "--log", "warn"]).args(&self.plan.flags);
        for (flag, value) in [("--role", member.roles), ("--mode", member.modes)] {
            if !value.is_empty() {
                command.args([flag, value]);
            }
        }
        if let Some(address) = self.simulator() {
            command.args(["--sim-url", &format!("http://{address}/v1")]);
        }
        if let Some((_, address)) = &self.slack {
            command
                .env("AGENTRY_SLACK_SIGNING_SECRET", SLACK_SECRET)
                .env("AGENTRY_SLACK_BOT_TOKEN", SLACK_TOKEN)
                .env("AGENTRY_SLACK_API_URL", format!("http://{address}/api"))
                .env("AGENTRY_SLACK_ROUTES", self.plan.slack.unwrap_or_default());
        }
        if let Some(urls) = self.detours.get(&member.name).or(self.urls.as_ref()) {
            let mark = if urls.postgres.contains('?') { '&' } else { '?' };
            command
                .env("AGENTRY_POSTGRES_URL", format!("{}{mark}application_name={}", urls.postgres, self.name))
                .env("AGENTRY_POSTGRES_SCHEMA", &self.name)
                .env("AGENTRY_RABBITMQ_URL", &urls.rabbitmq)
                .env("AGENTRY_RABBITMQ_PREFIX", &self.name)
                .env("AGENTRY_REDIS_URL", &urls.redis);
        }
        let child = Child::start(&member.name, &mut command, &log)?;
        self.sampler.watch(Part::Sut, child.pid());
        Ok(child)
    }

    /// The binary in our folder, with nothing of the caller's settings but what the plan keeps.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            if is_taken_away(&name.to_string_lossy(), &self.plan.keeps) {
                command.env_remove(&name);
            }
        }
        command.current_dir(self.folder.path());
        command
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    /// The folder of everything.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Schema and prefix on the servers.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From its next start on, a member reaches the servers at these addresses.
    pub fn detour(&mut self, name: &str, urls: Urls) {
        self.detours.insert(name.to_owned(), urls);
    }

    /// The process that answers the API.
    ///
    /// # Errors
    /// When there is none.
    pub fn api(&self) -> Result<&Api, SutError> {
        let of = |name: &str| self.processes.get(name).map(|process| &process.api);
        let found = of("agentry").or_else(|| of("api"));
        found.ok_or_else(|| SutError::Server("no process of this deployment answers the API".to_owned()))
    }

    /// The API of one process.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn api_of(&self, name: &str) -> Result<&Api, SutError> {
        let process = self.processes.get(name);
        process.map(|process| &process.api).ok_or_else(|| SutError::Server(format!("`{name}` does not run")))
    }

    /// Where the load generator connects to.
    ///
    /// # Errors
    /// When no process answers the API.
    pub fn target(&self) -> Result<SocketAddr, SutError> {
        Ok(self.api()?.target()?.0)
    }

    /// When the first process was spawned, on the monotonic clock.
    #[must_use]
    pub fn spawned(&self) -> u64 {
        self.processes.values().map(|process| process.child.spawned).min().unwrap_or(0)
    }

    /// A process.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn child(&mut self, name: &str) -> Result<&mut Child, SutError> {
        let process = self.processes.get_mut(name);
        process.map(|process| &mut process.child).ok_or_else(|| SutError::Server(format!("`{name}` does not run")))
    }

    /// Waits until every agent is healthy; milliseconds since the first process was spawned.
    ///
    /// # Errors
    /// When they do not become so in time.
    pub async fn healthy(&self) -> Result<f64, SutError> {
        let wanted = self.plan.agents.len() as f64;
        self.api()?.until_metric(HEALTHY, STARTS, |healthy| healthy == wanted).await?;
        Ok((crate::load::clock::now() - self.spawned()) as f64 / 1e6)
    }

    /// Memory of all processes of the platform, in bytes.
    #[must_use]
    pub fn pss(&self) -> u64 {
        self.processes.values().filter_map(|process| memory_of(process.child.pid())).map(|memory| memory.pss).sum()
    }

    /// Processor time of all processes of the platform, in nanoseconds.
    #[must_use]
    pub fn cpu(&self) -> u64 {
        self.processes.values().map(|process| crate::sample::usage_of(process.child.pid())).sum()
    }

    /// kill -9 of a member, gone when this returns.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self, name: &str) -> Result<(), SutError> {
        let child = self.child(name)?;
        child.must_run()?;
        child.kill();
        Ok(())
    }

    /// Sends a signal to a member.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&mut self, name: &str, signal: Signal) -> Result<(), SutError> {
        self.child(name)?.signal(signal)
    }

    /// SIGTERM and the end of a member's drain; `None` when it had to be killed.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn stop(&mut self, name: &str) -> Result<Option<Ended>, SutError> {
        Ok(self.child(name)?.stop(ENDS).await)
    }

    /// Waits until a process answers that it is ready.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn ready(&self, name: &str, limit: Duration) -> Result<(), SutError> {
        let api = self.api_of(name)?;
        until(&format!("{name} to be ready"), limit, async || api.get("/health/ready").await.ok().map(|_| ())).await
    }

    /// The ends of all logs.
    #[must_use]
    pub fn tails(&self) -> String {
        self.processes.iter().map(|(name, process)| format!("{name}: {}\n", process.child.tail())).collect()
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        let children = self.processes.values().map(|process| &process.child);
        let simulators = self.simulator.iter().chain(&self.slack).map(|(child, _)| child);
        for child in children.chain(simulators) {
            self.sampler.forget(child.pid());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_plan_keeps_its_own_credentials_and_nothing_else_of_the_caller() {
        let keeps = ["OPENAI_API_KEY", "OPENAI_BASE_URL"];
        for kept in ["OPENAI_API_KEY", "OPENAI_BASE_URL", "PATH", "HTTPS_PROXY"] {
            assert!(!is_taken_away(kept, &keeps), "{kept}");
        }
        for taken in ["OPENAI_ORG", "ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY", "OLLAMA_HOST", "AGENTRY_PRICES"] {
            assert!(is_taken_away(taken, &keeps), "{taken}");
        }
        assert!(is_taken_away("OPENAI_API_KEY", &[]));
    }
}
