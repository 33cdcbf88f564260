//! Processes of the platform in the roles of a deployment, and the simulators beside them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Exit, LabError, Process, ProcessGroup, Signal, Urls, tail};

/// Longest time a process may take until it listens; the first ones create tables and queues.
const STARTS: Duration = Duration::from_secs(60);
/// Longest time a process may take to end: its own drain, and a margin.
const ENDS: Duration = Duration::from_secs(45);
/// Prefixes of variables that would change what a process of the platform does.
const SETTINGS: [&str; 6] = ["AGENTRY_", "OPENAI_", "ANTHROPIC_", "AWS_", "OLLAMA_", "SLACK_"];

/// The binary of the platform, started in a folder without settings of the caller.
#[derive(Debug, Clone)]
pub struct Program {
    /// The executable.
    pub binary: PathBuf,
    /// Working directory of the processes, which also holds their logs.
    pub folder: PathBuf,
    /// Variables of the caller that it keeps: keys and addresses of real providers.
    pub keeps: Vec<&'static str>,
    /// The group of its processes.
    pub group: ProcessGroup,
}

impl Program {
    /// Returns a command with these arguments.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            if is_taken_away(&name.to_string_lossy(), &self.keeps) {
                command.env_remove(&name);
            }
        }
        command.args(args).current_dir(&self.folder);
        self.group.apply(&mut command);
        command
    }

    /// Starts a command of its own and waits until it listens.
    ///
    /// # Errors
    /// It does not.
    pub async fn listen(&self, name: &str, command: &mut Command) -> Result<Instance, LabError> {
        let mut process = Process::start(name, command, &self.log(name))?;
        let address = process.address(STARTS).await?;
        Ok(Instance { process, address })
    }

    /// Returns the file to which the process of a name writes.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// Returns the ends of all logs, by file name.
    #[must_use]
    pub fn tails(&self) -> BTreeMap<String, String> {
        let files = std::fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.map(|log| (log.file_stem().unwrap_or_default().to_string_lossy().into_owned(), tail(&log))).collect()
    }
}

fn is_taken_away(variable: &str, keeps: &[&str]) -> bool {
    SETTINGS.iter().any(|start| variable.starts_with(start)) && !keeps.contains(&variable)
}

/// A process that listens.
#[derive(Debug)]
pub struct Instance {
    /// The process.
    pub process: Process,
    /// Its address, `host:port`.
    pub address: String,
}

impl Instance {
    /// Returns its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A process of a deployment.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name, unique in its deployment.
    pub name: String,
    /// Its roles by commas; all when empty.
    pub roles: &'static str,
    /// The modes it executes by commas; all when empty.
    pub modes: &'static str,
}

impl Member {
    /// Makes a member.
    #[must_use]
    pub fn new(name: impl Into<String>, roles: &'static str, modes: &'static str) -> Self {
        Self { name: name.into(), roles, modes }
    }
}

/// The processes of a deployment; they end with it. Agent files are those of the folder `agents`.
#[derive(Debug)]
pub struct Deployment {
    /// Program of the processes.
    pub program: Program,
    /// Arguments of every `serve`: its engine, and more.
    pub args: Vec<String>,
    /// Variables of every process.
    pub environment: Vec<(&'static str, String)>,
    servers: Option<Urls>,
    /// Of members that reach the servers at other addresses.
    detours: BTreeMap<String, Urls>,
    /// Of members with agent files of their own.
    agents: BTreeMap<String, PathBuf>,
    instances: BTreeMap<String, Instance>,
    starts: u32,
}

impl Deployment {
    /// Makes a deployment of which nothing runs yet.
    #[must_use]
    pub fn new(program: Program, servers: Option<Urls>) -> Self {
        let (args, environment) = (Vec::new(), Vec::new());
        let (detours, agents, instances) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { program, args, environment, servers, detours, agents, instances, starts: 0 }
    }

    /// Starts a member that does not listen yet, at an address or at one of its own choice.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&mut self, member: &Member, address: Option<&str>) -> Result<Process, LabError> {
        self.starts += 1;
        let mut command = self.program.command(&["serve"]);
        command.args(["--listen", address.unwrap_or("127.0.0.1:0")]).args(["--data", "data"]).args(&self.args);
        let agents = self.agents.get(&member.name).map_or_else(|| Path::new("agents"), PathBuf::as_path);
        command.arg("--agents").arg(agents);
        for (flag, value) in [("--role", member.roles), ("--mode", member.modes)] {
            if !value.is_empty() {
                command.args([flag, value]);
            }
        }
        if let Some(urls) = self.detours.get(&member.name).or(self.servers.as_ref()) {
            command
                .env("AGENTRY_POSTGRES_URL", &urls.postgres)
                .env("AGENTRY_RABBITMQ_URL", &urls.rabbitmq)
                .env("AGENTRY_REDIS_URL", &urls.redis);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Process::start(&member.name, &mut command, &self.program.log(&format!("{}-{}", member.name, self.starts)))
    }

    /// Waits until a process of [`Deployment::spawn`] listens.
    ///
    /// # Errors
    /// It does not.
    pub async fn admit(&mut self, name: &str, mut process: Process) -> Result<(), LabError> {
        let address = process.address(STARTS).await?;
        self.instances.insert(name.to_owned(), Instance { process, address });
        Ok(())
    }

    /// Starts members side by side and waits until all listen.
    ///
    /// # Errors
    /// One does not.
    pub async fn start(&mut self, members: &[Member]) -> Result<(), LabError> {
        let mut starting = Vec::new();
        for member in members {
            starting.push(self.spawn(member, None)?);
        }
        for (member, process) in members.iter().zip(starting) {
            self.admit(&member.name, process).await?;
        }
        Ok(())
    }

    /// Returns the processes that run or ran, by name.
    #[must_use]
    pub fn instances(&self) -> &BTreeMap<String, Instance> {
        &self.instances
    }

    /// Returns a process.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn instance(&self, name: &str) -> Result<&Instance, LabError> {
        self.instances.get(name).ok_or_else(|| unknown(name))
    }

    /// Returns a process, to be signalled or waited for.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn process(&mut self, name: &str) -> Result<&mut Process, LabError> {
        self.instances.get_mut(name).map(|instance| &mut instance.process).ok_or_else(|| unknown(name))
    }

    /// Kills a member with SIGKILL; it is gone when this returns.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self, name: &str) -> Result<(), LabError> {
        let process = self.process(name)?;
        process.must_run()?;
        process.kill();
        Ok(())
    }

    /// Sends a signal to a member.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&mut self, name: &str, signal: Signal) -> Result<(), LabError> {
        self.process(name)?.signal(signal)
    }

    /// Sends SIGTERM and waits for the end of its drain; `None` when it had to be killed.
    ///
    /// # Errors
    /// There is none of that name.
    pub async fn stop(&mut self, name: &str) -> Result<Option<Exit>, LabError> {
        Ok(self.process(name)?.stop(ENDS).await)
    }

    /// Has a member reach the servers at these addresses from its next start on.
    pub fn detour(&mut self, name: &str, urls: Urls) {
        self.detours.insert(name.to_owned(), urls);
    }

    /// Returns the folder of agent files that a member has for itself from its next start on: a copy of that of all.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn own_agents(&mut self, name: &str) -> Result<PathBuf, LabError> {
        let own = self.program.folder.join(format!("agents-{name}"));
        if self.agents.insert(name.to_owned(), own.clone()).is_none() {
            let copy = || {
                std::fs::create_dir(&own)?;
                for file in std::fs::read_dir(self.program.folder.join("agents"))? {
                    let file = file?;
                    std::fs::copy(file.path(), own.join(file.file_name()))?;
                }
                Ok(())
            };
            copy().map_err(LabError::file(&own))?;
        }
        Ok(own)
    }
}

fn unknown(name: &str) -> LabError {
    LabError::Server(format!("`{name}` does not run"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_that_are_kept_are_all_that_is_left_of_the_caller() {
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
