//! What every part of the orchestrator shares.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentry_bus::EventBus;
use agentry_config::FleetHandle;
use agentry_core::agent::{AgentName, AgentSpec, ModeSet};
use agentry_core::id::{CallId, ClarificationId, OutboxId, WorkerId};
use agentry_core::prices::PriceTable;
use agentry_core::time::{Clock, Timestamp};
use agentry_core::trace::{Sampling, Trace};
use agentry_core::worker::Role;
use agentry_intake::{Entropy, Intake};
use agentry_llm::Providers;
use agentry_store::{Horizon, StateStore, StoreError};
use agentry_tools::ToolBox;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::claims::Claims;
use crate::lifecycle::Probes;
use crate::liveness::Liveness;
use crate::metrics::Metrics;
use crate::running::Running;
use crate::sessions::{Lanes, Windows};
use crate::slack::{Lanes as SlackLanes, SlackOut};
use crate::webhook::CallbackSender;

/// What the orchestrator is made of. Concrete backends are chosen by the caller.
pub struct OrchestratorDeps {
    /// The state store.
    pub store: Arc<dyn StateStore>,
    /// The event bus.
    pub bus: Arc<dyn EventBus>,
    /// The only way to create or change work; it knows the agents of the deployment.
    pub intake: Intake,
    /// The models.
    pub providers: Arc<Providers>,
    /// The tools.
    pub tools: Arc<dyn ToolBox>,
    /// Posts callbacks.
    pub callbacks: Arc<dyn CallbackSender>,
    /// Speaks in Slack; `None`: there is no bot token.
    pub slack: Option<SlackOut>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The randomness source.
    pub entropy: Arc<dyn Entropy>,
    /// What models cost.
    pub prices: PriceTable,
    /// What is measured.
    pub metrics: Metrics,
    /// How much of it.
    pub options: Options,
}

/// Which roles, and how much at once.
#[derive(Debug, Clone)]
pub struct Options {
    /// Host and process id, as shown among the workers.
    pub host: String,
    /// What this process does.
    pub roles: Vec<Role>,
    /// The modes whose tasks are executed here, when it is a worker.
    pub modes: ModeSet,
    /// Tasks executed at once.
    pub slots: u32,
    /// How long what is over is kept.
    pub retention: Retention,
    /// Which traces have spans.
    pub sampling: Sampling,
}

/// How long what is over is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Events and idempotency keys.
    pub events: Duration,
    /// Ended tasks with their journals, and conversations that nobody touches; `None`: for ever. At least as long as
    /// `events`, so that a key never names a task that is gone.
    pub tasks: Option<Duration>,
    /// Ledger rows; `None`: for ever.
    pub usage: Option<Duration>,
}

impl Retention {
    /// What is too old at `now`.
    pub(crate) fn horizon(&self, now: Timestamp) -> Horizon {
        let before =
            |age: Duration| Timestamp(now.0.saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX)));
        Horizon {
            events: before(self.events),
            tasks: self.tasks.map(|tasks| before(tasks.max(self.events))),
            usage: self.usage.map(before),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: String::new(),
            roles: Role::ALL.to_vec(),
            modes: ModeSet::ALL,
            slots: 1_024,
            retention: Retention { events: Duration::from_secs(24 * 3_600), tasks: None, usage: None },
            sampling: Sampling::Off,
        }
    }
}

impl Options {
    /// Whether tasks are executed here.
    pub(crate) fn executes(&self) -> bool {
        self.roles.contains(&Role::Worker) && self.modes != ModeSet::NONE
    }

    /// Whether schedules are fired here.
    pub(crate) fn fires(&self) -> bool {
        self.roles.contains(&Role::Scheduler)
    }

    /// Whether this process claims anything: then it is registered, says that it lives, and looks for what others left.
    pub(crate) fn claims(&self) -> bool {
        self.executes() || self.fires()
    }

    /// Whether events from outside are taken in here: every API process is a door, and so is every worker, for
    /// deployments without an API.
    pub(crate) fn takes_events(&self) -> bool {
        self.executes() || self.roles.contains(&Role::Api)
    }
}

/// The shared state of a running orchestrator.
pub(crate) struct Context {
    pub store: Arc<dyn StateStore>,
    pub bus: Arc<dyn EventBus>,
    pub intake: Intake,
    /// The agents of the deployment.
    pub fleet: FleetHandle,
    pub providers: Arc<Providers>,
    pub tools: Arc<dyn ToolBox>,
    pub callbacks: Arc<dyn CallbackSender>,
    pub slack: Option<Arc<SlackLanes>>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub prices: PriceTable,
    pub metrics: Metrics,
    pub options: Options,
    pub worker: WorkerId,
    pub started_at: Timestamp,
    /// Whether this worker's own heartbeats get through.
    pub liveness: Liveness,
    /// Places for tasks.
    pub slots: Arc<Semaphore>,
    /// No more work is taken from here on.
    pub stop: CancellationToken,
    /// Runs give their tasks back at once from here on.
    pub interrupt: CancellationToken,
    /// Everything that runs a task.
    pub runs: TaskTracker,
    pub running: Running,
    /// The leases of this process.
    pub claims: Claims,
    pub lanes: Lanes,
    pub windows: Windows,
    /// Messages of the outbox that this process has claimed and not settled.
    pub held_messages: Mutex<HashSet<OutboxId>>,
    /// Rings when this process put something into the outbox.
    pub outbox: Notify,
    /// Rings when work became due in the store that nobody is woken for.
    pub due: Notify,
    /// Rings when it is time to look for work whose wake was lost.
    pub unwoken: Notify,
    /// Rings when a delayed task was queued, so that the sweep looks again when it is due.
    pub delayed: Notify,
    /// Asks the dispatcher whether it listens; see [`crate::lifecycle`].
    pub probes: Probes,
    kept_versions: Mutex<HashSet<(AgentName, Box<str>)>>,
}

/// A task that executes.
pub(crate) struct Busy<'a>(&'a Gauge);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A poisoned lock guards maps that no panic can leave half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    pub fn new(deps: OrchestratorDeps) -> Self {
        let started_at = deps.clock.now();
        let worker = WorkerId::from_parts(millis(started_at), wide(&*deps.entropy));
        if deps.options.executes() {
            deps.metrics.slots.set(i64::from(deps.options.slots));
        }
        let slots = usize::try_from(deps.options.slots).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            store: deps.store,
            bus: deps.bus,
            fleet: deps.intake.deployment().fleet().clone(),
            intake: deps.intake,
            providers: deps.providers,
            tools: deps.tools,
            callbacks: deps.callbacks,
            slack: deps.slack.map(|out| Arc::new(SlackLanes::new(out))),
            clock: deps.clock,
            entropy: deps.entropy,
            prices: deps.prices,
            metrics: deps.metrics,
            options: deps.options,
            worker,
            started_at,
            liveness: Liveness::default(),
            slots: Arc::new(Semaphore::new(slots)),
            stop: CancellationToken::new(),
            interrupt: CancellationToken::new(),
            runs: TaskTracker::new(),
            running: Running::default(),
            claims: Claims::default(),
            lanes: Lanes::default(),
            windows: Windows::default(),
            held_messages: Mutex::default(),
            outbox: Notify::new(),
            due: Notify::new(),
            unwoken: Notify::new(),
            delayed: Notify::new(),
            kept_versions: Mutex::default(),
            probes: Probes::default(),
        }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn new_call_id(&self) -> CallId {
        CallId::from_parts(millis(self.now()), wide(&*self.entropy))
    }

    pub fn new_outbox_id(&self) -> OutboxId {
        OutboxId::from_parts(millis(self.now()), wide(&*self.entropy))
    }

    pub fn new_clarification_id(&self) -> ClarificationId {
        ClarificationId::from_parts(millis(self.now()), wide(&*self.entropy))
    }

    /// A trace that begins here.
    pub fn new_trace(&self) -> Trace {
        Trace::begin(wide(&*self.entropy))
    }

    /// A number from 0 to 1.
    pub fn jitter(&self) -> f64 {
        // The upper 53 bits fill a double's mantissa exactly.
        #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
        let unit = (self.entropy.next() >> 11) as f64 / (1_u64 << 53) as f64;
        unit
    }

    /// Whether an event on this topic has anyone to go to.
    pub fn is_heard(&self, topic: &str) -> bool {
        self.intake.is_heard(topic)
    }

    /// Keeps the version of an agent, once per process, before work on it leaves the first trace.
    pub async fn keep_version(&self, spec: &AgentSpec) -> Result<(), StoreError> {
        let key = (spec.name.clone(), spec.version.clone());
        if lock(&self.kept_versions).contains(&key) {
            return Ok(());
        }
        self.store.keep_version(spec).await?;
        lock(&self.kept_versions).insert(key);
        Ok(())
    }

    /// Counts a task as executing until the guard is dropped.
    pub fn enter(&self) -> Busy<'_> {
        self.metrics.busy.inc();
        Busy(&self.metrics.busy)
    }
}

fn millis(now: Timestamp) -> u64 {
    u64::try_from(now.millis()).unwrap_or(0)
}

fn wide(entropy: &dyn Entropy) -> u128 {
    (u128::from(entropy.next()) << 64) | u128::from(entropy.next())
}
