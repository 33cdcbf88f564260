//! The composition root: creates, starts and stops the parts of the platform. Backends are chosen in [`crate::engine`].

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agentry_bus::EventBus;
use agentry_config::{Engine, FleetHandle, FleetLoader, FleetWatcher, Role, Settings, SlackSettings, Tables};
use agentry_core::time::{Clock, Timestamp};
use agentry_intake::{Authority, Deployment, Intake, IntakeDeps, OsEntropy};
use agentry_llm::Providers;
use agentry_orchestrator::{
    HttpCallbacks, Metrics, Options, Orchestrator, OrchestratorDeps, Retention, Running, SlackOut,
};
use agentry_server::{Access, Dependency, ServerDeps, ServerLimits, SlackIngress, Tls};
use agentry_sim::llm::{LlmSim, SimOptions};
use agentry_sim::slack::{SlackOptions, SlackSim};
use agentry_store::{FleetChanges, StateStore, StoreError};
use agentry_tools::{ToolBox, Tools};
use prometheus_client::registry::Registry;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::engine::{self, Backends};
use crate::failure::Failure;
use crate::log::LogController;
use crate::providers;
use crate::serve::listen;
use crate::slack::SlackParts;
use crate::tape::Tape;
use crate::vitals::{self, ExecutorMonitor};

/// The seed of the embedded simulator: answers are reproducible.
const SIM_SEED: u64 = 1;
/// The time that the other parts get to stop after the orchestrator.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(15);

/// Returns the address of any free loopback port.
pub fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// The wall clock of the operating system.
struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        crate::access::now()
    }
}

/// A running platform.
pub struct Platform {
    url: String,
    agents: usize,
    drain: Duration,
    running: Running,
    watcher: FleetWatcher,
    /// Follows the fleet of the deployment until `unfollow` is cancelled.
    following: JoinHandle<()>,
    unfollow: CancellationToken,
    backends: Backends,
    tools: Arc<Tools>,
    shutdown: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
    /// Cancelled when the server has ended for any reason.
    server_ended: CancellationToken,
    simulators: Vec<EmbeddedSimulator>,
    slack_simulator: Option<String>,
    /// Measures the executor while the platform runs.
    _monitor: ExecutorMonitor,
    own_key: SecretString,
    /// The first key, if one was created; shown once.
    announced: Option<SecretString>,
}

/// A simulator in this process.
struct EmbeddedSimulator {
    shutdown: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Platform {
    /// Starts all parts. With `upstream`, all provider calls go there.
    pub async fn start(
        settings: &Settings,
        upstream: Option<String>,
        log: Arc<LogController>,
    ) -> Result<Self, Failure> {
        Self::start_taped(settings, upstream, None, log).await
    }

    /// Like [`Platform::start`], with model and tool calls recorded or replayed.
    pub async fn start_taped(
        settings: &Settings,
        upstream: Option<String>,
        tape: Option<&Tape>,
        log: Arc<LogController>,
    ) -> Result<Self, Failure> {
        check(settings)?;
        let tls = crate::tls::acceptor(settings)?;
        let (listener, address) = listen(settings.listen).await?;
        let (folder, tables) = (settings.agents.clone(), crate::settings::tables(settings)?);
        // Concurrently: files are read while servers are connected.
        let loading = tokio::task::spawn_blocking(move || load_fleet(&folder, tables));
        let (loaded, opened) = tokio::join!(loading, open(settings));
        let (backends, known) = opened?;
        let keyless = crate::access::lacks_key(settings, &*backends.store).await?;
        let (loader, fleet) = loaded.map_err(|error| Failure::new(format!("loading agent files broke: {error}")))??;
        let announced = if keyless { Some(crate::access::first_key(&*backends.store).await?) } else { None };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let deployment = join(settings, &backends, fleet.clone(), Arc::clone(&clock), known).await?;
        let watcher = FleetWatcher::resume(loader, fleet).map_err(|error| Failure::new(error.to_string()))?;
        let fleet = deployment.fleet().clone();
        let agents = fleet.current().len();
        let (mut simulators, mut upstream) = (Vec::new(), upstream);
        if settings.sim && upstream.is_none() {
            let (simulator, url) = EmbeddedSimulator::llm().await?;
            simulators.push(simulator);
            upstream = Some(url);
        }
        let (mut slack_settings, mut slack_simulator) = (settings.slack.clone(), None);
        if settings.sim && settings.roles.contains(&Role::Slack) && slack_settings.is_unset() {
            let (simulator, url) = EmbeddedSimulator::slack(format!("http://{address}"), &mut slack_settings).await?;
            tracing::info!(url, "Slack is simulated in this process; see docs/simulators.md");
            simulators.push(simulator);
            slack_simulator = Some(url);
        }
        let mut slack = SlackParts::new(&slack_settings);
        let (providers, own_tools) = (providers::of(settings, upstream)?, Arc::new(Tools::new()));
        let (providers, tools): (_, Arc<dyn ToolBox>) = match tape {
            Some(tape) => (tape.providers(providers), tape.tools(own_tools.clone())),
            None => (providers, own_tools.clone()),
        };
        let providers = Arc::new(providers);
        let mut dependencies: Vec<Dependency> =
            backends.dependencies.iter().cloned().chain(slack.dependency.take()).collect();
        // Only workers call models.
        if settings.roles.contains(&Role::Worker) {
            dependencies.push(providers::dependency(Arc::clone(&providers)));
            providers::warm(&providers, &fleet);
        }
        let (work, mut registry) = (Metrics::default(), backends.metrics());
        work.register(&mut registry);
        providers.register(&mut registry);
        let watch = vitals::register(&mut registry, settings.engine);
        let intake = Intake::new(IntakeDeps {
            store: Arc::clone(&backends.store),
            bus: Arc::clone(&backends.bus),
            deployment: Arc::clone(&deployment),
            clock: Arc::clone(&clock),
            entropy: Arc::new(OsEntropy),
        });
        let parts = SharedParts {
            store: Arc::clone(&backends.store),
            bus: Arc::clone(&backends.bus),
            intake,
            providers,
            dependencies,
            metrics: Arc::new(registry),
            work,
            clock,
        };
        let running = start_orchestrator(&parts, settings, tools, slack.out.take()).await?;
        let shutdown = CancellationToken::new();
        let unfollow = CancellationToken::new();
        let following = {
            let end = unfollow.clone();
            tokio::spawn(async move { deployment.follow(end).await })
        };
        let server_ended = CancellationToken::new();
        let (own_key, own_hash) = crate::access::own_key()?;
        let access = crate::access::of(settings, address, tls.is_some(), own_hash);
        let limits = ServerLimits { max_body_bytes: settings.max_body_bytes, ..ServerLimits::default() };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let setup = ListenerSetup { listener, tls, access, limits, slack: slack.ingress, log };
        let serving = serve(setup, parts, settings, shutdown.clone(), server_ended.clone());
        let (url, drain) = (format!("{scheme}://{address}"), settings.drain);
        Ok(Self {
            url,
            agents,
            drain,
            running,
            watcher,
            following,
            unfollow,
            backends,
            tools: own_tools,
            shutdown,
            serving,
            server_ended,
            simulators,
            slack_simulator,
            _monitor: watch,
            own_key,
            announced,
        })
    }

    /// Returns the address of the server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the key of this process for its own API.
    pub fn own_key(&self) -> SecretString {
        self.own_key.clone()
    }

    /// Returns the first key, if one was created.
    pub fn first_key(&self) -> Option<&SecretString> {
        self.announced.as_ref()
    }

    /// Returns the address of the Slack simulator, if it runs.
    pub fn slack_simulator(&self) -> Option<&str> {
        self.slack_simulator.as_deref()
    }

    /// Returns the number of agents at the start, including invalid ones.
    pub fn agents(&self) -> usize {
        self.agents
    }

    /// Returns the time that running tasks get to finish.
    pub fn drain_time(&self) -> Duration {
        self.drain
    }

    /// Waits until the server ends unexpectedly, and returns that failure.
    pub async fn broken(&self) -> Failure {
        self.server_ended.cancelled().await;
        Failure::new(format!("the server on {} ended by itself", self.url)).help("the log says why")
    }

    /// Stops accepting requests and claiming tasks, lets running tasks finish or releases them within `drain`, and stops.
    ///
    /// # Errors
    /// Fails when a part did not stop in time. Nothing is lost: recovery requeues the remaining tasks.
    pub async fn stop(self, drain: Duration) -> Result<(), Failure> {
        self.shutdown.cancel();
        let drained = self.running.drain(drain).await;
        let rest = async {
            let served = self.serving.await;
            for simulator in self.simulators {
                simulator.shutdown.cancel();
                // It serves only this process; its result does not matter.
                let _ = simulator.serving.await;
            }
            self.unfollow.cancel();
            let unfollowed = self.following.await.is_ok();
            // The watcher joins a thread of its own.
            let unwatched = tokio::task::spawn_blocking(move || drop(self.watcher)).await.is_ok();
            self.tools.close().await;
            let closed = self.backends.close().await;
            served.is_ok_and(|served| served.is_ok()) && unfollowed && unwatched && closed
        };
        let ended = tokio::time::timeout(SHUTDOWN_TIMEOUT, rest).await.unwrap_or(false);
        match (drained.clean, ended) {
            (true, true) => Ok(()),
            (false, _) => Err(Failure::new(format!("tasks were still running after {} s", drain.as_secs()))
                .help("they go on when the server is back; a longer drain gives them more time")),
            (true, false) => Err(Failure::new("a part of the server did not end well").help("the log says which")),
        }
    }
}

/// The parts that server and orchestrator share.
struct SharedParts {
    store: Arc<dyn StateStore>,
    bus: Arc<dyn EventBus>,
    providers: Arc<Providers>,
    dependencies: Vec<Dependency>,
    metrics: Arc<Registry>,
    work: Metrics,
    intake: Intake,
    clock: Arc<dyn Clock>,
}

/// Loads the fleet. Invalid files become agents with an error and do not prevent the start.
fn load_fleet(folder: &Path, tables: Tables) -> Result<(FleetLoader, FleetHandle), Failure> {
    let mut loader = FleetLoader::new(folder).with_tables(tables);
    let loaded = loader.load(&agentry_core::fleet::Fleet::default()).map_err(|problem| {
        let text = problem.to_string();
        Failure::new(text.trim_start_matches("error: "))
    })?;
    for problem in &loaded.problems {
        tracing::warn!(problem = %problem.one_line(), "invalid agent file");
    }
    for warning in &loaded.warnings {
        tracing::info!(warning = %warning.one_line(), "warning in an agent file");
    }
    if loaded.fleet.is_empty() {
        tracing::warn!(folder = %folder.display(), "there are no agent files (*.yml) yet; they are loaded when they appear");
    }
    Ok((loader, FleetHandle::new(loaded.fleet)))
}

/// Opens the backends and reads the fleet of the deployment.
async fn open(settings: &Settings) -> Result<(Backends, FleetChanges), Failure> {
    let backends = Backends::open(settings).await?;
    let known = backends.store.fleet_since(0).await.map_err(|error| fleet_unavailable(&error))?;
    Ok((backends, known))
}

fn fleet_unavailable(error: &StoreError) -> Failure {
    Failure::new(format!("cannot read the agents of the deployment: {error}"))
}

/// Joins the deployment with the agent files of this process.
async fn join(
    settings: &Settings,
    backends: &Backends,
    files: FleetHandle,
    clock: Arc<dyn Clock>,
    known: FleetChanges,
) -> Result<Arc<Deployment>, Failure> {
    let authority = match settings.engine {
        Engine::Embedded => Authority::Folder,
        Engine::Cluster => Authority::Store,
    };
    let (store, bus) = (Arc::clone(&backends.store), Arc::clone(&backends.bus));
    let joined = Deployment::join(store, bus, clock, files, authority, known).await;
    joined.map(Arc::new).map_err(|error| fleet_unavailable(&error))
}

async fn start_orchestrator(
    parts: &SharedParts,
    settings: &Settings,
    tools: Arc<dyn ToolBox>,
    slack: Option<SlackOut>,
) -> Result<Running, Failure> {
    let callbacks = HttpCallbacks::new(settings.callback_secret.clone());
    let deps = OrchestratorDeps {
        store: parts.store.clone(),
        bus: parts.bus.clone(),
        intake: parts.intake.clone(),
        providers: parts.providers.clone(),
        tools,
        callbacks: Arc::new(callbacks),
        slack,
        clock: parts.clock.clone(),
        entropy: Arc::new(OsEntropy),
        prices: (*crate::settings::tables(settings)?.prices).clone(),
        metrics: parts.work.clone(),
        options: options(settings),
    };
    Orchestrator::start(deps).await.map_err(|error| Failure::new(format!("cannot register as a worker: {error}")))
}

fn options(settings: &Settings) -> Options {
    Options {
        host: host(),
        roles: settings.roles.clone(),
        modes: settings.modes,
        slots: settings.slots,
        retention: Retention {
            events: settings.retention,
            tasks: settings.task_retention,
            usage: settings.usage_retention,
        },
        sampling: settings.traces.sampling(),
    }
}

/// The listener of the server and its settings.
struct ListenerSetup {
    listener: TcpListener,
    tls: Option<Tls>,
    access: Access,
    limits: ServerLimits,
    slack: Option<SlackIngress>,
    log: Arc<LogController>,
}

fn serve(
    setup: ListenerSetup,
    parts: SharedParts,
    settings: &Settings,
    shutdown: CancellationToken,
    ended: CancellationToken,
) -> JoinHandle<std::io::Result<()>> {
    let deps = ServerDeps {
        store: parts.store,
        bus: parts.bus,
        intake: parts.intake,
        clock: parts.clock,
        limits: setup.limits,
        slack: setup.slack,
        log: setup.log,
        roles: settings.roles.clone(),
        dependencies: parts.dependencies,
        metrics: parts.metrics,
        access: setup.access,
        slots_kept: settings.task_retention,
        reports: settings.reports.clone(),
        sampling: settings.traces.sampling(),
        engine: engine::word(settings.engine),
        version: env!("CARGO_PKG_VERSION"),
    };
    tokio::spawn(async move {
        let _ended = ended.drop_guard();
        let served = agentry_server::serve(setup.listener, setup.tls, deps, shutdown).await;
        if let Err(error) = &served {
            tracing::error!(%error, "the listener of the server failed");
        }
        served
    })
}

impl EmbeddedSimulator {
    /// Starts the provider simulator on a free port; returns it and its address.
    async fn llm() -> Result<(Self, String), Failure> {
        let options = SimOptions { seed: SIM_SEED, ..SimOptions::default() };
        let simulator = LlmSim::new(options).map_err(|error| Failure::new(error.to_string()))?;
        Self::start(|listener, until| async move { simulator.serve(listener, until).await }).await
    }

    /// Slack, which sends to `target`; the settings are those of the app that it has installed.
    async fn slack(target: String, settings: &mut SlackSettings) -> Result<(Self, String), Failure> {
        let options = SlackOptions { target: Some(target), ..SlackOptions::default() };
        settings.signing_secrets = vec![options.signing_secret.clone()];
        settings.bot_tokens =
            options.teams.iter().map(|team| (Some(team.id.clone()), team.bot_token.clone())).collect();
        let simulator = SlackSim::new(options).map_err(|error| Failure::new(error.to_string()))?;
        let started = Self::start(|listener, until| async move { simulator.serve(listener, until).await }).await?;
        settings.api_url = format!("{}/api", started.1);
        Ok(started)
    }

    async fn start<F>(serve: impl FnOnce(TcpListener, CancellationToken) -> F) -> Result<(Self, String), Failure>
    where
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let (listener, address) = listen(any_port()).await?;
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, shutdown.clone()));
        Ok((Self { shutdown, serving }, format!("http://{address}")))
    }
}

/// Returns host name and process id, as in the list of workers.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = if name.trim().is_empty() { "localhost" } else { name.trim() };
    format!("{name}:{}", std::process::id())
}

/// Refuses impossible settings before anything starts.
fn check(settings: &Settings) -> Result<(), Failure> {
    if settings.engine == Engine::Embedded && !settings.roles.contains(&Role::Api) {
        let message = "the embedded engine is one process, so it needs the role `api` to be given work";
        return Err(Failure::usage(message).help("add api to --role, or use --engine cluster"));
    }
    Ok(())
}
