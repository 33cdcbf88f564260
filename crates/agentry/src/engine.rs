//! The backends: one `match` over the engine. The only place that names concrete ones.

use std::sync::{Arc, OnceLock};

use agentry_bus::{EmbeddedBus, EventBus};
use agentry_config::{Engine, Settings};
use agentry_server::Dependency;
use agentry_store::StateStore;
use agentry_store::sqlite::{SqliteOptions, SqliteStore};
use prometheus_client::registry::Registry;

use crate::cluster::ClusterConnections;
use crate::failure::Failure;

/// A store that stands before another one.
pub type Layer = fn(Arc<dyn StateStore>) -> Arc<dyn StateStore>;

static LAYER: OnceLock<Layer> = OnceLock::new();

/// From now on this process puts a layer before the store of whatever engine it opens; the first one said stays. The shipped
/// binary has none: this is how `agentry-mutants` breaks the platform, to see whether the validation suite notices.
pub fn put_before_the_store(layer: Layer) {
    // Said twice, the first one stays.
    let _ = LAYER.set(layer);
}

/// Store and bus of an engine.
pub struct Backends {
    /// The state store.
    pub store: Arc<dyn StateStore>,
    /// The event bus.
    pub bus: Arc<dyn EventBus>,
    /// What else `/health/ready` looks at.
    pub dependencies: Vec<Dependency>,
    /// What ends with them.
    closing: Closing,
}

/// What a clean end has to wait for.
enum Closing {
    /// The store joins its writer when it is dropped.
    Embedded,
    Cluster(ClusterConnections),
}

impl Backends {
    /// Opens or connects what the engine needs.
    ///
    /// # Errors
    /// Which part cannot be used, and what to do.
    pub async fn open(settings: &Settings) -> Result<Self, Failure> {
        let opened = match settings.engine {
            Engine::Embedded => embedded(settings).await,
            Engine::Cluster => cluster(settings).await,
        }?;
        Ok(match LAYER.get() {
            Some(layer) => Self { store: layer(opened.store), ..opened },
            None => opened,
        })
    }

    /// A registry with what they measure.
    #[must_use]
    pub fn metrics(&self) -> Registry {
        let mut registry = Registry::default();
        if let Closing::Cluster(parts) = &self.closing {
            parts.postgres.register(&mut registry);
        }
        registry
    }

    /// Ends them once everything that used them has ended.
    pub async fn close(self) -> bool {
        match &self.closing {
            Closing::Embedded => {}
            Closing::Cluster(servers) => servers.bus.close().await,
        }
        // A store may join threads of its own.
        tokio::task::spawn_blocking(move || drop(self)).await.is_ok()
    }
}

/// The word of an engine.
#[must_use]
pub fn word(engine: Engine) -> &'static str {
    match engine {
        Engine::Embedded => "embedded",
        Engine::Cluster => "cluster",
    }
}

async fn embedded(settings: &Settings) -> Result<Backends, Failure> {
    let (data, options) = (settings.data.clone(), SqliteOptions { max_queued: settings.max_queued });
    let opened = tokio::task::spawn_blocking(move || SqliteStore::open(&data, options)).await;
    let opened = opened.map_err(|error| Failure::new(format!("opening the data folder broke: {error}")))?;
    let store = opened.map_err(|error| of_store(&error))?;
    Ok(Backends {
        store: Arc::new(store),
        bus: Arc::new(EmbeddedBus::new()),
        dependencies: Vec::new(),
        closing: Closing::Embedded,
    })
}

/// The store's errors carry the way out behind a semicolon.
fn of_store(error: &impl ToString) -> Failure {
    let text = error.to_string();
    match text.split_once("; ") {
        Some((what, help)) => Failure::new(what).help(help),
        None => Failure::new(text),
    }
}

/// What the cluster engine needs and has not.
///
/// # Errors
/// Every setting that is missing.
pub fn cluster_settings(settings: &Settings) -> Result<agentry_config::Cluster, Failure> {
    settings.cluster().map_err(|problems| {
        let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        Failure::usage(text.trim_start_matches("error: "))
    })
}

async fn cluster(settings: &Settings) -> Result<Backends, Failure> {
    crate::cluster::connect(settings).await.map(|parts| Backends {
        store: parts.store,
        bus: Arc::new(parts.servers.bus.clone()),
        dependencies: parts.dependencies,
        closing: Closing::Cluster(parts.servers),
    })
}
