//! The backends of each engine; the only module that names concrete ones.

use std::sync::{Arc, OnceLock};

use agentry_bus::{EmbeddedBus, EventBus};
use agentry_config::{Engine, Settings};
use agentry_server::Dependency;
use agentry_store::StateStore;
use agentry_store::sqlite::{SqliteOptions, SqliteStore};
use prometheus_client::registry::Registry;

use crate::cluster::ClusterConnections;
use crate::failure::Failure;

/// Wraps a store.
pub type StoreLayer = fn(Arc<dyn StateStore>) -> Arc<dyn StateStore>;

static LAYER: OnceLock<StoreLayer> = OnceLock::new();

/// Sets the layer around the store of any engine that this process opens; only the first call has an effect. The shipped
/// binary has none: `agentry-mutants` uses it to break the platform and test the validation suite.
pub fn set_store_layer(layer: StoreLayer) {
    let _ = LAYER.set(layer);
}

/// Store and bus of an engine.
pub struct Backends {
    /// The state store.
    pub store: Arc<dyn StateStore>,
    /// The event bus.
    pub bus: Arc<dyn EventBus>,
    /// The dependencies for `/health/ready` and `/metrics`.
    pub dependencies: Vec<Dependency>,
    /// The connections to close.
    closing: Closing,
}

/// The connections that a clean shutdown closes.
enum Closing {
    /// The store joins its writer when it is dropped.
    Embedded,
    Cluster(ClusterConnections),
}

impl Backends {
    /// Opens the backends of the engine.
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

    /// Returns a registry with the metrics of the backends.
    pub fn metrics(&self) -> Registry {
        let mut registry = Registry::default();
        if let Closing::Cluster(parts) = &self.closing {
            parts.postgres.register(&mut registry);
        }
        registry
    }

    /// Closes the backends; everything that used them must have stopped.
    pub async fn close(self) -> bool {
        match &self.closing {
            Closing::Embedded => {}
            Closing::Cluster(servers) => servers.bus.close().await,
        }
        // A store may join threads of its own.
        tokio::task::spawn_blocking(move || drop(self)).await.is_ok()
    }
}

/// Returns the name of an engine.
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

/// Splits the advice, after a semicolon, from an error of the store.
fn of_store(error: &impl ToString) -> Failure {
    let text = error.to_string();
    match text.split_once("; ") {
        Some((what, help)) => Failure::new(what).help(help),
        None => Failure::new(text),
    }
}

/// Returns the settings of the cluster engine.
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
