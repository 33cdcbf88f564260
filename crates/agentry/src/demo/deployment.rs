//! The demo's processes: simulators and the server, children of this one, over a temporary folder. On the cluster engine
//! the server is four of them, one role each and two workers.

use agentry_api::Client;
use agentry_config::Engine;
use agentry_lab::{Deployment, Instance, LabError, Member, ProcessGroup, Program};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::engine::DemoEngine;
use super::fleet;
use crate::failure::Failure;
use crate::out;

/// The text that a process prints before its address.
pub const LISTENING: &str = "listening on ";
/// The workspace that is simulated.
const SLACK_TEAM: &str = "T0SIM";
/// The channel where people are asked.
pub const PEOPLE: &str = "C0PEOPLE";

/// Everything the demo started. Dropping it ends the processes and removes the folder.
pub struct DemoDeployment {
    // The order of fields is the order of their end: processes before their folder.
    lab: Deployment,
    /// The model provider and Slack.
    simulators: Option<(Instance, Instance)>,
    engine: DemoEngine,
    /// Those who execute; the last one is killed.
    workers: Vec<Member>,
    url: String,
    _folder: TempDir,
}

impl DemoDeployment {
    /// Makes a folder with the example fleet in it; nothing runs yet.
    pub fn new(engine: DemoEngine) -> Result<Self, Failure> {
        let temporary = tempfile::Builder::new().prefix("agentry-demo-").tempdir().map_err(|error| {
            Failure::new(format!("cannot make a temporary folder: {error}"))
                .help("set TMPDIR to a folder that can be written")
        })?;
        let folder = temporary.path().to_owned();
        fleet::write(&folder.join("agents"))?;
        let binary = std::env::current_exe()
            .map_err(|error| Failure::new(format!("cannot find the executable of the demo: {error}")))?;
        let program = Program { binary, folder, keeps: Vec::new(), group: ProcessGroup::Callers };
        let mut lab = Deployment::new(program, None);
        lab.environment =
            [("AGENTRY_LOG", "warn"), ("NO_COLOR", "1")].map(|(name, value)| (name, value.to_owned())).to_vec();
        lab.environment.extend(engine.environment.iter().cloned());
        Ok(Self { lab, simulators: None, engine, workers: Vec::new(), url: String::new(), _folder: temporary })
    }

    /// Returns the word of its engine.
    pub fn engine(&self) -> &'static str {
        self.engine.word()
    }

    /// Ends all processes and removes what they left on servers.
    pub async fn end(self) -> Result<(), Failure> {
        drop(self.lab);
        self.engine.clean_up().await
    }

    /// Returns the server's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn simulators(&self) -> Result<(String, String), Failure> {
        let simulators = self.simulators.as_ref().ok_or_else(|| Failure::new("the demo's simulators do not run"))?;
        Ok((simulators.0.url(), simulators.1.url()))
    }

    /// Returns a client of the simulated provider, for its ledger.
    pub fn provider(&self) -> Result<Client, Failure> {
        client_of(&self.simulators()?.0)
    }

    /// Returns a client of the simulated Slack.
    pub fn slack(&self) -> Result<Client, Failure> {
        client_of(&self.simulators()?.1)
    }

    /// Starts the simulators, then the server that calls them.
    pub async fn start(&mut self) -> Result<Client, Failure> {
        let program = &self.lab.program;
        let mut provider = program.command(&["sim", "llm", "--listen", "127.0.0.1:0", "--seed", "1"]);
        let mut slack = program.command(&["sim", "slack", "--listen", "127.0.0.1:0", "--team", SLACK_TEAM]);
        let (provider, slack) =
            tokio::try_join!(program.listen("provider", &mut provider), program.listen("slack", &mut slack))
                .map_err(failure)?;
        self.lab.args = vec!["--sim-url".to_owned(), provider.url()];
        self.lab.environment.extend([
            ("AGENTRY_SLACK_SIGNING_SECRET", "sim-signing-secret".to_owned()),
            ("AGENTRY_SLACK_BOT_TOKEN", "xoxb-sim".to_owned()),
            ("AGENTRY_SLACK_API_URL", format!("{}/api", slack.url())),
            ("AGENTRY_SLACK_QUESTIONS", format!("{SLACK_TEAM}/{PEOPLE}")),
        ]);
        self.simulators = Some((provider, slack));
        let (others, workers) = match self.engine.engine {
            Engine::Embedded => (Vec::new(), vec![Member::new("server", "", "")]),
            Engine::Cluster => (
                vec![Member::new("api", "api,slack", ""), Member::new("scheduler", "scheduler", "")],
                vec![Member::new("worker-1", "worker", ""), Member::new("worker-2", "worker", "")],
            ),
        };
        self.lab.start(&[others.as_slice(), &workers].concat()).await.map_err(failure)?;
        let api = others.first().or(workers.first()).map_or("", |member| member.name.as_str());
        self.url = self.lab.instance(api).map_err(failure)?.url();
        self.workers = workers;
        let target = json!({"url": self.url});
        self.slack()?.call::<Value>(Method::POST, &["sim", "target"]).json(&target).await?;
        client_of(&self.url)
    }

    /// Kills who executes with SIGKILL, then starts another in its place: at the same address where it
    /// is the one that answers, and beside those that are left on the cluster engine.
    pub async fn kill_and_restart(&mut self) -> Result<Client, Failure> {
        if let Some(worker) = self.workers.last() {
            let killed = self.lab.instance(&worker.name).map_err(failure)?;
            let address = (killed.url() == self.url).then(|| killed.address.clone());
            self.lab.kill(&worker.name).map_err(failure)?;
            let process = self.lab.spawn(worker, address.as_deref()).map_err(failure)?;
            self.lab.admit(&worker.name, process).await.map_err(failure)?;
        }
        client_of(&self.url)
    }

    /// Shows the last lines of the processes' logs, for a demo that failed.
    pub fn show_logs(&self) {
        for (name, tail) in self.lab.program.tails() {
            if !tail.trim().is_empty() {
                out::eprint(&format!("--- end of {name}\n{tail}"));
            }
        }
    }
}

fn client_of(url: &str) -> Result<Client, Failure> {
    Ok(Client::builder(url).build()?)
}

fn failure(error: LabError) -> Failure {
    Failure::new(error.to_string())
}
