//! The state that every part of the orchestrator shares.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentry_bus::EventBus;
use agentry_config::FleetHandle;
use agentry_core::agent::{AgentName, AgentSpec, ModeSet};
use agentry_core::id::{CallId, OutboxId, WorkerId};
use agentry_core::prices::PriceTable;
use agentry_core::time::{Clock, Timestamp};
use agentry_core::trace::Sampling;
use agentry_core::worker::Role;
use agentry_intake::{Entropy, Intake};
use agentry_llm::Providers;
use agentry_store::{Horizon, StateStore, StoreError};
use agentry_tools::{Schemas, ToolBox};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::claims::Claims;
use crate::lifecycle::Probes;
use crate::liveness::HeartbeatFreshness;
use crate::metrics::Metrics;
use crate::running::Running;
use crate::sessions::{ActiveSessions, WindowCache};
use crate::slack::{ChannelQueues, SlackOut};
use crate::webhook::CallbackSender;

/// The dependencies of an orchestrator. The caller chooses the concrete backends.
pub struct OrchestratorDeps {
    /// State store.
    pub store: Arc<dyn StateStore>,
    /// Event bus.
    pub bus: Arc<dyn EventBus>,
    /// Ingress for new work; it knows the agents of the deployment.
    pub intake: Intake,
    /// Model providers.
    pub providers: Arc<Providers>,
    /// Tools.
    pub tools: Arc<dyn ToolBox>,
    /// Sender of callbacks.
    pub callbacks: Arc<dyn CallbackSender>,
    /// Slack delivery; `None` without a bot token.
    pub slack: Option<SlackOut>,
    /// Clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness source.
    pub entropy: Arc<dyn Entropy>,
    /// Prices of models.
    pub prices: PriceTable,
    /// Metrics.
    pub metrics: Metrics,
    /// Roles and limits.
    pub options: Options,
}

/// Roles and limits of an orchestrator.
#[derive(Debug, Clone)]
pub struct Options {
    /// Host and process id, as shown in the list of workers.
    pub host: String,
    /// Roles of this process.
    pub roles: Vec<Role>,
    /// Modes that a worker executes.
    pub modes: ModeSet,
    /// Maximum number of tasks executed at once.
    pub slots: u32,
    /// Retention of ended work.
    pub retention: Retention,
    /// Sampling of traces.
    pub sampling: Sampling,
}

/// Retention periods.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Retention of events and idempotency keys.
    pub events: Duration,
    /// Retention of ended tasks with their journals, and of idle conversations; `None` keeps them forever. At least as
    /// long as `events`, so that a key never refers to a deleted task.
    pub tasks: Option<Duration>,
    /// Retention of ledger rows; `None` keeps them forever.
    pub usage: Option<Duration>,
}

impl Retention {
    /// Returns the times before which data is deleted.
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
    /// Returns whether this process executes tasks.
    pub(crate) fn executes(&self) -> bool {
        self.roles.contains(&Role::Worker) && self.modes != ModeSet::NONE
    }

    /// Returns whether this process fires schedules.
    pub(crate) fn fires(&self) -> bool {
        self.roles.contains(&Role::Scheduler)
    }

    /// Returns whether this process claims anything: then it registers, sends heartbeats, and recovers work of dead
    /// workers.
    pub(crate) fn claims(&self) -> bool {
        self.executes() || self.fires()
    }

    /// Returns whether this process consumes events of foreign publishers: every API process is an ingress, and so is
    /// every worker, for deployments without an API.
    pub(crate) fn consumes_events(&self) -> bool {
        self.executes() || self.roles.contains(&Role::Api)
    }
}

/// The shared state of a running orchestrator.
pub(crate) struct Context {
    pub store: Arc<dyn StateStore>,
    pub bus: Arc<dyn EventBus>,
    pub intake: Intake,
    pub fleet: FleetHandle,
    pub providers: Arc<Providers>,
    pub tools: Arc<dyn ToolBox>,
    pub callbacks: Arc<dyn CallbackSender>,
    pub slack: Option<Arc<ChannelQueues>>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub prices: PriceTable,
    /// Compiled schemas of answers.
    pub schemas: Arc<Schemas>,
    pub metrics: Metrics,
    pub options: Options,
    pub worker: WorkerId,
    pub started_at: Timestamp,
    /// Freshness of this worker's heartbeats.
    pub liveness: HeartbeatFreshness,
    /// One permit for each task that may execute.
    pub slots: Arc<Semaphore>,
    /// Cancelled when the process stops taking new work.
    pub stop: CancellationToken,
    /// Cancelled when runs must release their tasks at once.
    pub interrupt: CancellationToken,
    /// Tracks everything that runs a task.
    pub runs: TaskTracker,
    pub running: Running,
    pub claims: Claims,
    pub sessions: ActiveSessions,
    pub windows: WindowCache,
    /// Outbox messages that this process has claimed and not settled.
    pub held_messages: Mutex<HashSet<OutboxId>>,
    /// Notified when this process added a message to the outbox.
    pub outbox: Notify,
    /// Notified when the store has due work that no wake was sent for.
    pub due: Notify,
    /// Notified when it is time to poll the store for tasks whose wake was lost.
    pub missed_wakes: Notify,
    /// Notified when a delayed task was queued, so that the timer is set again.
    pub delayed: Notify,
    /// Probes of the dispatcher; see [`crate::lifecycle`].
    pub probes: Probes,
    kept_versions: Mutex<HashSet<(AgentName, Box<str>)>>,
}

/// Counts a task as executing until it is dropped.
pub(crate) struct ExecutionGuard<'a>(&'a Gauge);

impl Drop for ExecutionGuard<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Locks a mutex, even a poisoned one: it guards maps that no panic can leave half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    pub fn new(deps: OrchestratorDeps) -> Self {
        let started_at = deps.clock.now();
        let worker = WorkerId::from_parts(millis(started_at), random_bits(&*deps.entropy));
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
            slack: deps.slack.map(|out| Arc::new(ChannelQueues::new(out))),
            clock: deps.clock,
            entropy: deps.entropy,
            prices: deps.prices,
            schemas: Arc::default(),
            metrics: deps.metrics,
            options: deps.options,
            worker,
            started_at,
            liveness: HeartbeatFreshness::default(),
            slots: Arc::new(Semaphore::new(slots)),
            stop: CancellationToken::new(),
            interrupt: CancellationToken::new(),
            runs: TaskTracker::new(),
            running: Running::default(),
            claims: Claims::default(),
            sessions: ActiveSessions::default(),
            windows: WindowCache::default(),
            held_messages: Mutex::default(),
            outbox: Notify::new(),
            due: Notify::new(),
            missed_wakes: Notify::new(),
            delayed: Notify::new(),
            kept_versions: Mutex::default(),
            probes: Probes::default(),
        }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn new_call_id(&self) -> CallId {
        CallId::from_parts(millis(self.now()), random_bits(&*self.entropy))
    }

    /// Returns a number from 0 to 1.
    pub fn jitter(&self) -> f64 {
        // The upper 53 bits fill a double's mantissa exactly.
        #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
        let unit = (self.entropy.next() >> 11) as f64 / (1_u64 << 53) as f64;
        unit
    }

    /// Stores the version of an agent, once per process, before work on it leaves the first trace.
    pub async fn store_version(&self, spec: &AgentSpec) -> Result<(), StoreError> {
        let key = (spec.name.clone(), spec.version.clone());
        if lock(&self.kept_versions).contains(&key) {
            return Ok(());
        }
        self.store.store_version(spec).await?;
        lock(&self.kept_versions).insert(key);
        Ok(())
    }

    /// Counts a task as executing until the guard is dropped.
    pub fn count_execution(&self) -> ExecutionGuard<'_> {
        self.metrics.busy.inc();
        ExecutionGuard(&self.metrics.busy)
    }
}

fn millis(now: Timestamp) -> u64 {
    u64::try_from(now.millis()).unwrap_or(0)
}

fn random_bits(entropy: &dyn Entropy) -> u128 {
    (u128::from(entropy.next()) << 64) | u128::from(entropy.next())
}
