//! The cluster engine: PostgreSQL, RabbitMQ and, if configured, Redis as a cache.

use std::sync::Arc;

use agentry_bus::rabbitmq::{RabbitBus, RabbitOptions};
use agentry_config::{Cluster, Settings};
use agentry_server::{Dependency, DependencyMetric, DependencyState};
use agentry_store::StateStore;
use agentry_store::cache::{CachedStore, ReadStats, RedisOptions};
use agentry_store::postgres::{PostgresOptions, PostgresStore};
use secrecy::ExposeSecret;

use crate::engine::cluster_settings;
use crate::failure::Failure;

/// The backends of the cluster engine.
pub struct ClusterBackends {
    /// The store, behind the cache when there is one.
    pub store: Arc<dyn StateStore>,
    /// The connections behind them.
    pub servers: ClusterConnections,
    /// The dependencies for `/health/ready` and `/metrics`.
    pub dependencies: Vec<Dependency>,
}

/// The connections of this process to the servers.
pub struct ClusterConnections {
    /// The store without the cache in front.
    pub postgres: Arc<PostgresStore>,
    /// The bus.
    pub bus: RabbitBus,
}

/// Connects to the servers.
pub async fn connect(settings: &Settings) -> Result<ClusterBackends, Failure> {
    let cluster = cluster_settings(settings)?;
    // Validated before connecting, so that a typing mistake is reported at once.
    let redis = redis_options(&cluster)?;
    let (store, bus) = tokio::join!(
        PostgresStore::connect(postgres_options(&cluster, settings.max_queued)),
        RabbitBus::connect(rabbit_options(&cluster)),
    );
    let store = store.map_err(|error| {
        Failure::new(error.to_string()).help(
            "check that PostgreSQL runs, and AGENTRY_POSTGRES_URL; `agentry doctor --engine cluster` looks closer",
        )
    })?;
    let bus = bus.map_err(|error| {
        Failure::new(error.to_string())
            .help("check that RabbitMQ runs, and AGENTRY_RABBITMQ_URL; `agentry doctor --engine cluster` looks closer")
    })?;
    let store = Arc::new(store);
    let mut dependencies = vec![pool(Arc::clone(&store)), broker(bus.clone())];
    let servers = ClusterConnections { postgres: Arc::clone(&store), bus };
    let store: Arc<dyn StateStore> = match redis {
        None => store,
        Some(options) => {
            let cached = Arc::new(CachedStore::connect(store, options));
            dependencies.push(cache(Arc::clone(&cached)));
            cached
        }
    };
    Ok(ClusterBackends { store, servers, dependencies })
}

/// Returns the options of the PostgreSQL store.
pub fn postgres_options(cluster: &Cluster, max_queued: u64) -> PostgresOptions {
    PostgresOptions {
        schema: cluster.postgres_schema.clone(),
        connections: cluster.postgres_connections,
        max_queued,
        ..PostgresOptions::new(cluster.postgres_url.expose_secret())
    }
}

/// Returns the options of the RabbitMQ bus.
pub fn rabbit_options(cluster: &Cluster) -> RabbitOptions {
    RabbitOptions {
        prefix: cluster.rabbitmq_prefix.clone(),
        shards: cluster.rabbitmq_shards,
        ..RabbitOptions::new(cluster.rabbitmq_url.expose_secret())
    }
}

/// Returns the options of the cache, if Redis is configured. The schema is the prefix of keys, so that deployments do not
/// share entries.
pub fn redis_options(cluster: &Cluster) -> Result<Option<RedisOptions>, Failure> {
    let Some(url) = &cluster.redis_url else { return Ok(None) };
    let mut options = RedisOptions::new(url.expose_secret()).map_err(|error| {
        Failure::usage(error.to_string()).help("correct AGENTRY_REDIS_URL, or unset it: without it nothing is cached")
    })?;
    options.prefix.clone_from(&cluster.postgres_schema);
    Ok(Some(options))
}

fn gauge(name: &'static str, help: &'static str, value: f64) -> DependencyMetric {
    DependencyMetric { name, help, is_counter: false, value }
}

#[allow(clippy::cast_precision_loss, reason = "counters stay exact far beyond what is ever counted")]
fn counter(name: &'static str, help: &'static str, value: u64) -> DependencyMetric {
    DependencyMetric { name, help, is_counter: true, value: value as f64 }
}

/// Returns the connection pool of PostgreSQL as a dependency; waiting callers indicate a pool that is too small.
#[allow(clippy::cast_precision_loss, reason = "a few connections")]
fn pool(store: Arc<PostgresStore>) -> Dependency {
    let probe = move || {
        let status = store.pool_status();
        let busy = status.size.saturating_sub(status.available);
        DependencyState {
            up: true,
            detail: format!("{} connections, {busy} in use, {} callers wait", status.size, status.waiting),
            metrics: vec![
                gauge("agentry_postgres_connections", "Connections to PostgreSQL.", status.size as f64),
                gauge("agentry_postgres_connections_busy", "Connections to PostgreSQL in use.", busy as f64),
                gauge("agentry_postgres_waiting", "Callers that wait for a connection.", status.waiting as f64),
            ],
        }
    };
    Dependency { name: "pool", probe: Arc::new(probe) }
}

#[allow(clippy::cast_precision_loss, reason = "events that wait for a confirm are bounded")]
fn broker(bus: RabbitBus) -> Dependency {
    let probe = move || {
        let status = bus.status();
        let detail = match (status.connected, status.blocked, &status.last_fault) {
            (true, false, _) => format!("connected, {} reconnects", status.reconnects),
            (true, true, _) => "connected, but RabbitMQ takes nothing: it is short of memory or disk".to_owned(),
            (false, _, Some(fault)) => format!("not connected: {fault}; tasks go on by looking into the store"),
            (false, _, None) => "not connected; tasks go on by looking into the store".to_owned(),
        };
        DependencyState {
            up: status.connected && !status.blocked,
            detail,
            metrics: vec![
                gauge(
                    "agentry_bus_blocked",
                    "Whether RabbitMQ takes nothing for now.",
                    f64::from(u8::from(status.blocked)),
                ),
                gauge("agentry_bus_unconfirmed", "Events that wait for their confirm.", status.unconfirmed as f64),
                counter("agentry_bus_reconnects", "Times that RabbitMQ was connected again.", status.reconnects),
                counter("agentry_bus_returned", "Events that nobody was bound to.", status.returned),
                counter("agentry_bus_rejected", "Foreign events that could not be taken.", status.rejected),
                counter("agentry_bus_dropped_wakes", "Wakes dropped before the broker.", status.dropped_wakes),
            ],
        }
    };
    Dependency { name: "bus", probe: Arc::new(probe) }
}

fn cache(store: Arc<CachedStore>) -> Dependency {
    let probe = move || {
        let stats = store.stats();
        let reads = [stats.tasks, stats.journals, stats.messages, stats.versions];
        let sum = |of: fn(&ReadStats) -> u64| reads.iter().map(of).sum::<u64>();
        let (hits, misses, bypasses) = (sum(|read| read.hits), sum(|read| read.misses), sum(|read| read.bypasses));
        let state = if stats.connected { "in use" } else { "not in use: Redis does not answer, the store is read" };
        DependencyState {
            up: stats.connected,
            detail: format!("{state}; {hits} hits, {misses} misses, {bypasses} bypasses"),
            metrics: vec![
                counter("agentry_cache_hits", "Reads answered by the cache.", hits),
                counter("agentry_cache_misses", "Reads that Redis had no entry for.", misses),
                counter("agentry_cache_bypasses", "Reads that Redis was not asked for.", bypasses),
                counter("agentry_cache_errors", "Answers of Redis that failed or were too slow.", stats.errors),
                counter("agentry_cache_fills", "Entries written to Redis.", stats.fills),
                counter("agentry_cache_openings", "Times that Redis was given up.", stats.breaker_openings),
                latency(&stats),
            ],
        }
    };
    Dependency { name: "cache", probe: Arc::new(probe) }
}

#[allow(clippy::cast_precision_loss, reason = "for display")]
fn latency(stats: &agentry_store::cache::CacheStats) -> DependencyMetric {
    let mean = stats.latency.sum_us as f64 / stats.latency.count.max(1) as f64 / 1e6;
    gauge("agentry_cache_answer_mean_seconds", "Mean time that Redis took to answer since the start.", mean)
}
