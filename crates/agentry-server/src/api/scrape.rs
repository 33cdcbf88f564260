//! `/metrics`: the metrics of this process, and those of the whole deployment as its store reports them.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use agentry_core::agent::ExecutionMode;
use agentry_core::fleet::AgentState;
use agentry_store::{Backlog, QueueCounts};
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::agents::FleetStatus;
use super::health::{DeploymentHealth, PROBE_TIMEOUT, with_probe_timeout};
use crate::problem::{ApiProblem, ApiResult, Code};
use crate::state::AppState;

/// Shows metrics in Prometheus' text format
///
/// Numbers of the whole deployment (tasks, agents, workers) come from the store: every process exports the same ones,
/// and omits them while the store does not answer.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses((status = 200, description = "Text format 0.0.4", body = String, content_type = "text/plain"))
)]
pub(crate) async fn metrics(State(state): State<AppState>) -> ApiResult {
    let mut deployment = Registry::default();
    register_deployment(&state, &mut deployment).await;
    register_process(&state, &mut deployment);
    let mut out = String::with_capacity(32 * 1024);
    for registry in [&deployment, &*state.deps.metrics, &state.registry] {
        encode(&mut out, registry).map_err(|_| ApiProblem::new(Code::Internal, "the metrics could not be written"))?;
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], out).into_response())
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueModeLabels {
    mode: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DependencyLabels {
    dependency: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AgentStateLabels {
    state: &'static str,
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Gauge::<u64, AtomicU64>::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

/// Registers the numbers of the whole deployment, and whether the store answered.
async fn register_deployment(state: &AppState, registry: &mut Registry) {
    let (found, backlog) = tokio::join!(DeploymentHealth::read(state), with_probe_timeout(state.store().backlog()));
    dependencies(state, found.counts.is_ok(), registry);
    if let Ok(counts) = found.counts {
        register_tasks(counts, registry);
        register_agents(state, registry).await;
    }
    if let Ok(backlog) = backlog {
        register_backlog(state, &backlog, registry);
    }
    if let Ok((alive, _)) = found.workers {
        gauge(registry, "agentry_workers_alive", "Workers whose last heartbeat is recent", alive as u64);
    }
}

fn dependencies(state: &AppState, is_store_up: bool, registry: &mut Registry) {
    let family = Family::<DependencyLabels, Gauge>::default();
    let others = state.deps.dependencies.iter().map(|dependency| (dependency.name, (dependency.probe)().up));
    for (dependency, is_up) in others.chain([("store", is_store_up)]) {
        family.get_or_create(&DependencyLabels { dependency }).set(i64::from(is_up));
    }
    registry.register("agentry_dependency_up", "Whether a dependency of this process is up", family);
}

fn register_tasks(counts: QueueCounts, registry: &mut Registry) {
    let family = Family::<StatusLabels, Gauge>::default();
    for (status, count) in [("queued", counts.queued), ("running", counts.running), ("waiting", counts.waiting)] {
        family.get_or_create(&StatusLabels { status }).set(count.cast_signed());
    }
    registry.register("agentry_tasks", "Tasks that have not ended, by status", family);
}

fn register_backlog(state: &AppState, backlog: &Backlog, registry: &mut Registry) {
    let (depths, ages) =
        (Family::<QueueModeLabels, Gauge>::default(), Family::<QueueModeLabels, Gauge<f64, AtomicU64>>::default());
    for (mode, queued) in ExecutionMode::ALL.iter().zip(backlog.queued) {
        let of = QueueModeLabels { mode: mode.as_str() };
        let age = queued.due_since.map_or(0.0, |since| state.now().since(since).as_secs_f64());
        depths.get_or_create(&of).set(queued.count.cast_signed());
        ages.get_or_create(&of).set(age);
    }
    registry.register("agentry_queue_depth", "Tasks that wait to be executed, by mode", depths);
    let help = "Time since the oldest task that waits to be executed was due, by mode";
    registry.register("agentry_queue_oldest_seconds", help, ages);
    gauge(registry, "agentry_outbox_depth", "Messages that wait to be sent", backlog.outbox);
    let help = "Dead letters that nobody has replayed or dropped";
    gauge(registry, "agentry_dead_letters", help, backlog.dead_letters);
}

async fn register_agents(state: &AppState, registry: &mut Registry) {
    let Ok(Ok(seen)) = tokio::time::timeout(PROBE_TIMEOUT, FleetStatus::without_usage(state)).await else { return };
    let mut counts: BTreeMap<&'static str, i64> = AgentState::ALL.iter().map(|state| (state.as_str(), 0)).collect();
    for (name, entry) in state.fleet().iter() {
        *counts.entry(seen.state_of(name, entry).as_str()).or_default() += 1;
    }
    let family = Family::<AgentStateLabels, Gauge>::default();
    for (state, count) in counts {
        family.get_or_create(&AgentStateLabels { state }).set(count);
    }
    registry.register("agentry_agents", "Agents of the fleet, by state", family);
}

/// Registers the numbers of this process.
fn register_process(state: &AppState, registry: &mut Registry) {
    gauge(registry, "agentry_bus_depth", "Wakes that wait for a consumer", state.bus().depth() as u64);
    let help = "Requests being answered";
    gauge(registry, "agentry_http_requests_in_flight", help, state.metrics.in_flight() as u64);
    gauge(registry, "agentry_http_streams", "Event streams open", state.open_streams() as u64);
}
