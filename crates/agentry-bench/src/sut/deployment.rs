//! A deployment for one measurement: a folder, agent files, the binary in one process or in roles, and the simulators.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentry_lab::{Instance, LabError, Member, Process, ProcessGroup, Program, Urls};
use tempfile::TempDir;

use super::api::Api;
use super::fleet::AgentFile;
use crate::load::clock;
use crate::model::Engine;
use crate::sample::{Part, Sampler, pss_of, usage_of};

/// Longest time agents may take until they are healthy.
const STARTS: Duration = Duration::from_secs(60);
/// State of a healthy agent in the platform's metrics.
const HEALTHY: &str = "agentry_agents{state=\"healthy\"}";

/// The LLM simulator's behaviour.
#[derive(Debug, Clone)]
pub struct Llm {
    /// `instant`, `fast` or `realistic`.
    pub profile: &'static str,
    /// Faults, each as `KIND=RATE`.
    pub faults: &'static [&'static str],
    /// Calls of one second at most.
    pub rate_limit: Option<u32>,
}

impl Default for Llm {
    fn default() -> Self {
        Self { profile: "instant", faults: &[], rate_limit: None }
    }
}

/// The secret with which events of Slack are signed, and the token with which answers are posted. Both are known to
/// everybody: nothing but simulators believes them.
pub const SLACK_SECRET: &str = "bench-signing-secret";
const SLACK_TOKEN: &str = "xoxb-bench-token";

/// Deployment a scenario asks for.
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

/// A deployment. Everything ends with it.
pub struct Deployment {
    /// Its processes.
    pub lab: agentry_lab::Deployment,
    apis: BTreeMap<String, Api>,
    simulator: Option<Instance>,
    slack: Option<Instance>,
    plan: Plan,
    engine: Engine,
    /// Schema, prefix and connection name on the servers.
    name: String,
    sampler: Arc<Sampler>,
    _folder: TempDir,
}

impl Deployment {
    /// Writes the agent files and starts the simulators; no process of the platform runs yet.
    ///
    /// `urls`: the servers of the cluster engine. `name`: unique on them, in letters, digits and underscores.
    pub async fn prepare(
        engine: Engine,
        urls: Option<Urls>,
        name: &str,
        plan: Plan,
        sampler: &Arc<Sampler>,
    ) -> Result<Self, LabError> {
        let temporary = tempfile::Builder::new().prefix("agentry-bench-").tempdir();
        let temporary = temporary.map_err(LabError::file(std::env::temp_dir()))?;
        let folder = temporary.path();
        let agents = folder.join("agents");
        std::fs::create_dir(&agents).map_err(LabError::file(&agents))?;
        let fleet = plan.agents.iter().map(|(name, text)| (agents.join(format!("{name}.yml")), text.as_str()));
        let others = plan.files.iter().map(|(name, text)| (folder.join(name), *text));
        for (file, text) in fleet.chain(others) {
            std::fs::write(&file, text).map_err(LabError::file(file))?;
        }
        let binary = std::env::current_exe().map_err(LabError::file("the path of this program"))?;
        let (folder, keeps) = (folder.to_owned(), plan.keeps.clone());
        let program = Program { binary, folder, keeps, group: ProcessGroup::Own };
        let mut lab = agentry_lab::Deployment::new(program, urls.map(|urls| named(urls, name)));
        lab.args = ["--engine", engine.word(), "--log", "warn"].map(str::to_owned).to_vec();
        lab.args.extend(plan.flags.iter().cloned());
        if engine == Engine::Cluster {
            lab.environment.push(("AGENTRY_POSTGRES_SCHEMA", name.to_owned()));
            lab.environment.push(("AGENTRY_RABBITMQ_PREFIX", name.to_owned()));
        }
        let mut deployment = Self {
            lab,
            apis: BTreeMap::new(),
            simulator: None,
            slack: None,
            plan,
            engine,
            name: name.to_owned(),
            sampler: Arc::clone(sampler),
            _folder: temporary,
        };
        deployment.start_simulator().await?;
        deployment.start_slack().await?;
        Ok(deployment)
    }

    /// [`Deployment::prepare`], then every process, until each agent is healthy.
    pub async fn open(
        engine: Engine,
        urls: Option<Urls>,
        name: &str,
        plan: Plan,
        sampler: &Arc<Sampler>,
    ) -> Result<Self, LabError> {
        let mut deployment = Self::prepare(engine, urls, name, plan, sampler).await?;
        deployment.start_all().await?;
        deployment.healthy().await?;
        Ok(deployment)
    }

    async fn start_simulator(&mut self) -> Result<(), LabError> {
        let Some(llm) = &self.plan.llm else { return Ok(()) };
        let program = &self.lab.program;
        let mut command = program.command(&["sim", "llm", "--listen", "127.0.0.1:0", "--profile", llm.profile]);
        command.arg("--ledger").arg(self.llm_ledger());
        if let Some(limit) = llm.rate_limit {
            command.args(["--rate-limit", &limit.to_string()]);
        }
        command.args(llm.faults.iter().flat_map(|fault| ["--fault", fault]));
        let simulator = program.listen("LLM simulator", &mut command).await?;
        self.sampler.watch(Part::Simulators, simulator.process.pid());
        self.lab.args.extend(["--sim-url".to_owned(), format!("{}/v1", simulator.url())]);
        self.simulator = Some(simulator);
        Ok(())
    }

    async fn start_slack(&mut self) -> Result<(), LabError> {
        let Some(routes) = self.plan.slack else { return Ok(()) };
        let program = &self.lab.program;
        let mut command =
            program.command(&["sim", "slack", "--listen", "127.0.0.1:0", "--no-rate-limits", "--any-thread"]);
        command.args(["--signing-secret", SLACK_SECRET, "--bot-token", SLACK_TOKEN]);
        command.arg("--ledger").arg(self.slack_ledger());
        let slack = program.listen("Slack simulator", &mut command).await?;
        self.sampler.watch(Part::Simulators, slack.process.pid());
        self.lab.environment.extend([
            ("AGENTRY_SLACK_SIGNING_SECRET", SLACK_SECRET.to_owned()),
            ("AGENTRY_SLACK_BOT_TOKEN", SLACK_TOKEN.to_owned()),
            ("AGENTRY_SLACK_API_URL", format!("{}/api", slack.url())),
            ("AGENTRY_SLACK_ROUTES", routes.to_owned()),
        ]);
        self.slack = Some(slack);
        Ok(())
    }

    /// Returns the file in which the Slack simulator writes every call.
    pub fn slack_ledger(&self) -> PathBuf {
        self.folder().join("slack-ledger.jsonl")
    }

    /// Returns the file in which the LLM simulator writes every call.
    pub fn llm_ledger(&self) -> PathBuf {
        self.folder().join("llm-ledger.jsonl")
    }

    /// Returns the members of the plan.
    pub fn members(&self) -> Vec<Member> {
        match self.engine {
            Engine::Embedded => vec![Member::new("agentry", "", "")],
            Engine::Cluster if self.plan.members.is_empty() => {
                let roles =
                    [("api", "api"), ("scheduler", "scheduler"), ("worker-1", "worker"), ("worker-2", "worker")];
                roles.map(|(name, role)| Member::new(name, role, "")).to_vec()
            }
            Engine::Cluster => self.plan.members.clone(),
        }
    }

    /// Returns the names of the processes that run or ran.
    pub fn names(&self) -> Vec<String> {
        self.lab.instances().keys().cloned().collect()
    }

    /// Starts every member side by side and waits until all listen.
    pub async fn start_all(&mut self) -> Result<(), LabError> {
        let mut starting = Vec::new();
        for member in self.members() {
            let process = self.spawn(&member)?;
            starting.push((member.name, process));
        }
        for (name, process) in starting {
            self.admit(&name, process).await?;
        }
        Ok(())
    }

    /// Starts a member, on the address it had before when it ran before.
    pub async fn start(&mut self, member: &Member) -> Result<(), LabError> {
        let process = self.spawn(member)?;
        self.admit(&member.name, process).await
    }

    /// Starts a member that ran before again.
    pub async fn start_again(&mut self, name: &str) -> Result<(), LabError> {
        let member = self.members().into_iter().find(|member| member.name == name);
        let member = member.ok_or_else(|| LabError::Server(format!("no process is called `{name}`")))?;
        self.start(&member).await
    }

    fn spawn(&mut self, member: &Member) -> Result<Process, LabError> {
        let address = self.lab.instances().get(&member.name).map(|instance| instance.address.clone());
        let process = self.lab.spawn(member, address.as_deref())?;
        self.sampler.watch(Part::Sut, process.pid());
        Ok(process)
    }

    async fn admit(&mut self, name: &str, process: Process) -> Result<(), LabError> {
        self.lab.admit(name, process).await?;
        self.apis.insert(name.to_owned(), Api::new(&self.lab.instance(name)?.url())?);
        Ok(())
    }

    /// Returns the folder of everything.
    pub fn folder(&self) -> &Path {
        &self.lab.program.folder
    }

    /// Returns its schema and prefix on the servers.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Has a member reach the servers at these addresses from its next start on.
    pub fn detour(&mut self, name: &str, urls: Urls) {
        self.lab.detour(name, named(urls, &self.name));
    }

    /// Returns the process that answers the API.
    pub fn api(&self) -> Result<&Api, LabError> {
        let found = self.apis.get("agentry").or_else(|| self.apis.get("api"));
        found.ok_or_else(|| LabError::Server("no process of this deployment answers the API".to_owned()))
    }

    /// Returns the API of one process.
    pub fn api_of(&self, name: &str) -> Result<&Api, LabError> {
        self.apis.get(name).ok_or_else(|| LabError::Server(format!("`{name}` does not run")))
    }

    /// Returns where the load generator connects to.
    pub fn target(&self) -> Result<SocketAddr, LabError> {
        Ok(self.api()?.target()?.0)
    }

    /// Returns when the first process was spawned, on the monotonic clock in nanoseconds.
    pub fn spawned(&self) -> u64 {
        let first = self.processes().map(|process| process.started).min();
        first.map_or(0, |first| clock::now() - clock::nanos(first.elapsed()))
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        self.lab.instances().values().map(|instance| &instance.process)
    }

    /// Waits until every agent is healthy; returns the milliseconds since the first process was spawned.
    pub async fn healthy(&self) -> Result<f64, LabError> {
        let expected = self.plan.agents.len() as f64;
        self.api()?.until_metric(HEALTHY, STARTS, |healthy| healthy == expected).await?;
        Ok((clock::now() - self.spawned()) as f64 / 1e6)
    }

    /// Returns the memory of all processes of the platform, in bytes.
    pub fn pss(&self) -> u64 {
        self.processes().filter_map(|process| pss_of(process.pid())).sum()
    }

    /// Returns the processor time of all processes of the platform, in nanoseconds.
    pub fn cpu(&self) -> u64 {
        self.processes().map(|process| usage_of(process.pid())).sum()
    }
}

/// The same servers, on which connections carry a name.
fn named(mut urls: Urls, name: &str) -> Urls {
    let mark = if urls.postgres.contains('?') { '&' } else { '?' };
    urls.postgres.push_str(&format!("{mark}application_name={name}"));
    urls
}

impl Drop for Deployment {
    fn drop(&mut self) {
        let simulators = self.simulator.iter().chain(&self.slack).map(|instance| &instance.process);
        for process in self.processes().chain(simulators) {
            self.sampler.forget(process.pid());
        }
    }
}
