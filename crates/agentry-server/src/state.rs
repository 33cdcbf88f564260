//! What the handlers share: the ports, the fleet, the limits and the counters.

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

use crate::api::overview::Lately;
use crate::auth::Access;
use crate::auth::verify::Keys;
use crate::dependency::{Dependency, Looked};
use crate::log::LogControl;
use crate::metrics::HttpMetrics;
use crate::problem::{Answer, Code, Problem};
use crate::slack::{self, SlackCounts, SlackDoor};

/// The bounds of the server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest body of a request, in bytes.
    pub max_body_bytes: usize,
    /// The largest body of a batch, in bytes.
    pub max_batch_bytes: usize,
    /// The longest `?wait=`.
    pub max_wait: Duration,
    /// Event streams open at once.
    pub max_streams: usize,
    /// Requests in flight at once, streams not counted.
    pub max_in_flight: usize,
    /// How long requests in flight may take once the server shuts down.
    pub drain: Duration,
}

impl Default for Limits {
    /// 1 MiB bodies, 16 MiB batches, 60 s of waiting, 1,024 streams, 8,192 requests in flight, 10 s to drain.
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

/// What the server needs.
#[derive(Clone)]
pub struct ServerDeps {
    /// The state store.
    pub store: Arc<dyn StateStore>,
    /// The event bus.
    pub bus: Arc<dyn EventBus>,
    /// The only way to create or change work.
    pub intake: Intake,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The bounds.
    pub limits: Limits,
    /// Slack's door; without it Slack's requests are refused.
    pub slack: Option<SlackDoor>,
    /// What this process does: every route belongs to a role, probes and metrics to all.
    pub roles: Vec<Role>,
    /// Servers besides the store.
    pub dependencies: Vec<Dependency>,
    /// What the other parts of the process measure.
    pub metrics: Arc<Registry>,
    /// Who may do what.
    pub access: Access,
    /// How long the rows of decided slots are kept; `None`: for ever.
    pub slots_kept: Option<Duration>,
    /// Which traces have spans.
    pub sampling: Sampling,
    /// Steers the log of the process.
    pub log: Arc<dyn LogControl>,
    /// The folder of reports of the validation suite.
    pub reports: PathBuf,
    /// Which backends run: `embedded` or `cluster`.
    pub engine: &'static str,
    /// The version of Agentry.
    pub version: &'static str,
}

/// What the handlers share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AppState(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) deps: ServerDeps,
    pub(crate) metrics: HttpMetrics,
    pub(crate) slack: SlackCounts,
    /// What the server itself measures, and what is looked at for it.
    pub(crate) registry: Registry,
    pub(crate) slack_background: Arc<Semaphore>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) lately: Lately,
    pub(crate) keys: Keys,
    /// Held while a profile is taken.
    pub(crate) profiling: tokio::sync::Mutex<()>,
    streams: Arc<Semaphore>,
}

impl std::ops::Deref for AppState {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl AppState {
    pub(crate) fn new(deps: ServerDeps, shutdown: CancellationToken) -> Self {
        let keys = Keys::new(deps.access.rate);
        let streams = Arc::new(Semaphore::new(deps.limits.max_streams.min(Semaphore::MAX_PERMITS)));
        let (metrics, slack, mut registry) = (HttpMetrics::default(), SlackCounts::default(), Registry::default());
        metrics.register(&mut registry);
        slack.register(&mut registry);
        registry.register_collector(Box::new(Looked(deps.dependencies.clone())));
        Self(Arc::new(Inner {
            deps,
            metrics,
            slack,
            registry,
            slack_background: slack::background(),
            shutdown,
            lately: Lately::default(),
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

    /// The agents of the deployment, as of now.
    pub(crate) fn fleet(&self) -> Arc<Fleet> {
        self.deps.intake.fleet()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.deps.clock.now()
    }

    /// The right to keep one event stream open.
    pub(crate) fn stream_permit(&self) -> Answer<OwnedSemaphorePermit> {
        self.streams.clone().try_acquire_owned().map_err(|_| {
            let most = self.deps.limits.max_streams;
            Problem::new(Code::TooManyStreams, format!("{most} event streams are open, the most this server keeps"))
                .retry_after(Duration::from_secs(5))
        })
    }

    /// Event streams open now.
    pub(crate) fn open_streams(&self) -> usize {
        self.deps.limits.max_streams.saturating_sub(self.streams.available_permits())
    }
}
