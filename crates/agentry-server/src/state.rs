//! The shared state of the handlers: ports, fleet, limits and counters.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agentry_bus::EventBus;
use agentry_core::fleet::Fleet;
use agentry_core::time::{Clock, Timestamp};
use agentry_core::trace::Sampling;
use agentry_core::worker::Role;
use agentry_intake::Intake;
use agentry_store::StateStore;
use prometheus_client::registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::api::overview::OverviewCache;
use crate::auth::Access;
use crate::auth::verify::KeyCache;
use crate::dependency::{Dependency, DependencyCollector};
use crate::log::LogControl;
use crate::metrics::HttpMetrics;
use crate::problem::{ApiProblem, ApiResult, Code};
use crate::slack::{self, SlackCounts, SlackIngress};

/// The limits of the server.
#[derive(Debug, Clone)]
pub struct ServerLimits {
    /// The largest body of a request, in bytes.
    pub max_body_bytes: usize,
    /// The largest body of a batch, in bytes.
    pub max_batch_bytes: usize,
    /// The longest value of `?wait=`.
    pub max_wait: Duration,
    /// The most open event streams.
    pub max_streams: usize,
    /// The most requests in flight, without streams.
    pub max_in_flight: usize,
    /// The time that requests in flight get to finish on shutdown.
    pub drain: Duration,
}

impl Default for ServerLimits {
    /// Returns 1 MiB bodies, 16 MiB batches, 60 s of waiting, 1,024 streams, 8,192 requests in flight, 10 s to drain.
    fn default() -> Self {
        Self {
            max_body_bytes: 1 << 20,
            max_batch_bytes: 16 << 20,
            max_wait: Duration::from_secs(60),
            max_streams: 1_024,
            max_in_flight: 8_192,
            drain: Duration::from_secs(10),
        }
    }
}

/// The dependencies of the server.
#[derive(Clone)]
pub struct ServerDeps {
    /// The state store.
    pub store: Arc<dyn StateStore>,
    /// The event bus.
    pub bus: Arc<dyn EventBus>,
    /// The intake, which creates and changes work.
    pub intake: Intake,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The limits.
    pub limits: ServerLimits,
    /// The ingress for Slack; without it requests of Slack are refused.
    pub slack: Option<SlackIngress>,
    /// The roles of this process; each route belongs to a role, probes and metrics to all.
    pub roles: Vec<Role>,
    /// The servers besides the store, for readiness and metrics.
    pub dependencies: Vec<Dependency>,
    /// The metrics of the other parts of the process.
    pub metrics: Arc<Registry>,
    /// The access settings.
    pub access: Access,
    /// The retention of decided slots; `None` means for ever.
    pub slots_kept: Option<Duration>,
    /// The sampling of traces.
    pub sampling: Sampling,
    /// Controls the log filter of the process.
    pub log: Arc<dyn LogControl>,
    /// The folder with the reports of the validation suite.
    pub reports: PathBuf,
    /// The engine: `embedded` or `cluster`.
    pub engine: &'static str,
    /// The version of Agentry.
    pub version: &'static str,
}

/// The state that handlers share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AppState(Arc<SharedState>);

pub(crate) struct SharedState {
    pub(crate) deps: ServerDeps,
    pub(crate) metrics: HttpMetrics,
    pub(crate) slack: SlackCounts,
    /// The metrics of the server itself and of its dependencies.
    pub(crate) registry: Registry,
    pub(crate) slack_background: Arc<Semaphore>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) overview_cache: OverviewCache,
    pub(crate) keys: KeyCache,
    /// Locked while a profile is taken.
    pub(crate) profiling: tokio::sync::Mutex<()>,
    streams: Arc<Semaphore>,
}

impl std::ops::Deref for AppState {
    type Target = SharedState;

    fn deref(&self) -> &SharedState {
        &self.0
    }
}

impl AppState {
    pub(crate) fn new(deps: ServerDeps, shutdown: CancellationToken) -> Self {
        let keys = KeyCache::new(deps.access.rate);
        let streams = Arc::new(Semaphore::new(deps.limits.max_streams.min(Semaphore::MAX_PERMITS)));
        let (metrics, slack, mut registry) = (HttpMetrics::default(), SlackCounts::default(), Registry::default());
        metrics.register(&mut registry);
        slack.register(&mut registry);
        registry.register_collector(Box::new(DependencyCollector(deps.dependencies.clone())));
        Self(Arc::new(SharedState {
            deps,
            metrics,
            slack,
            registry,
            slack_background: slack::background(),
            shutdown,
            overview_cache: OverviewCache::default(),
            keys,
            profiling: tokio::sync::Mutex::default(),
            streams,
        }))
    }

    pub(crate) fn store(&self) -> &dyn StateStore {
        &*self.deps.store
    }

    pub(crate) fn bus(&self) -> &dyn EventBus {
        &*self.deps.bus
    }

    pub(crate) fn intake(&self) -> &Intake {
        &self.deps.intake
    }

    /// Returns the current agents of the deployment.
    pub(crate) fn fleet(&self) -> Arc<Fleet> {
        self.deps.intake.fleet()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.deps.clock.now()
    }

    /// Returns a permit for one event stream.
    pub(crate) fn stream_permit(&self) -> ApiResult<OwnedSemaphorePermit> {
        self.streams.clone().try_acquire_owned().map_err(|_| {
            let most = self.deps.limits.max_streams;
            ApiProblem::new(Code::TooManyStreams, format!("{most} event streams are open, the most this server keeps"))
                .retry_after(Duration::from_secs(5))
        })
    }

    /// Returns the number of open event streams.
    pub(crate) fn open_streams(&self) -> usize {
        self.deps.limits.max_streams.saturating_sub(self.streams.available_permits())
    }
}
