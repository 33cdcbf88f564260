//! `/health/live`, `/health/ready` and `/metrics`: for probes and scrapers, outside the bound on requests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use agentry_core::agent::{ExecutionMode, ModeSet};
use agentry_core::fleet::AgentState;
use agentry_core::worker::Role;
use agentry_store::{QueueCounts, StoreError};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::agents::Seen;
use crate::metrics::head;
use crate::problem::Answer;
use crate::state::AppState;

/// How long a probe waits for the store.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the process runs at all.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Live {
    /// `ok`.
    status: &'static str,
    /// The version of Agentry.
    version: &'static str,
    /// `embedded` or `cluster`.
    engine: &'static str,
}

/// Says that the process runs
#[utoipa::path(
    get, path = "/health/live", tag = "health",
    responses((status = 200, description = "It runs", body = Live))
)]
pub(crate) async fn live(State(state): State<AppState>) -> Response {
    axum::Json(Live { status: "ok", version: state.deps.version, engine: state.deps.engine }).into_response()
}

/// Whether this process can do its part, per dependency.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ready {
    /// `ready`; `degraded` when something is missing that this process can do without for a while; `not_ready`.
    status: &'static str,
    /// The checks, by name: `store`, `queue`, `workers`, `shutdown`; on the cluster engine also `bus` and `cache`.
    #[schema(value_type = Object)]
    checks: BTreeMap<&'static str, Check>,
}

/// One check.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Check {
    /// Whether it is as it must be.
    ok: bool,
    /// Whether this process is of no use while it is not.
    required: bool,
    /// What was found.
    detail: String,
}

/// Says whether this process can do its part
///
/// Losing the broker or the cache costs time and no task, so a process without them is `degraded` and takes requests.
#[utoipa::path(
    get, path = "/health/ready", tag = "health",
    responses(
        (status = 200, description = "Every required check is ok", body = Ready),
        (status = 503, description = "A required check is not ok", body = Ready),
    )
)]
pub(crate) async fn ready(State(state): State<AppState>) -> Response {
    let mut checks = BTreeMap::new();
    let stopping = state.shutdown.is_cancelled();
    let detail = if stopping { "shutting down" } else { "serving" };
    checks.insert("shutdown", Check { ok: !stopping, required: true, detail: detail.to_owned() });
    let found = Found::look(&state).await;
    match &found.counts {
        Ok(QueueCounts { queued, running, waiting }) => {
            checks.insert("store", Check { ok: true, required: true, detail: "answers".to_owned() });
            let depth = state.bus().depth();
            let detail = format!("{queued} queued, {running} running, {waiting} waiting; {depth} wakes");
            checks.insert("queue", Check { ok: true, required: true, detail });
        }
        Err(error) => {
            checks.insert("store", Check { ok: false, required: true, detail: error.clone() });
        }
    }
    // A process that executes must be seen to live; a door may accept for workers that come later.
    let required = state.deps.roles.contains(&Role::Worker);
    let workers = match &found.workers {
        Ok((alive, all)) => Check { ok: *alive > 0, required, detail: format!("{alive} of {all} alive") },
        Err(error) => Check { ok: false, required, detail: error.clone() },
    };
    checks.insert("workers", workers);
    for dependency in &state.deps.dependencies {
        let seen = (dependency.look)();
        checks.insert(dependency.name, Check { ok: seen.up, required: false, detail: seen.detail });
    }
    let (code, status) = verdict(checks.values());
    (code, axum::Json(Ready { status, checks })).into_response()
}

fn verdict<'c>(checks: impl Iterator<Item = &'c Check>) -> (StatusCode, &'static str) {
    let missing: Vec<bool> = checks.filter(|check| !check.ok).map(|check| check.required).collect();
    match (missing.is_empty(), missing.contains(&true)) {
        (true, _) => (StatusCode::OK, "ready"),
        (false, false) => (StatusCode::OK, "degraded"),
        (false, true) => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
    }
}

/// What the store says of the whole deployment.
struct Found {
    counts: Result<QueueCounts, String>,
    /// Processes that execute: alive, and all that are registered.
    workers: Result<(usize, usize), String>,
}

impl Found {
    async fn look(state: &AppState) -> Self {
        let now = state.now();
        let workers = async {
            let workers = state.store().workers().await?;
            let executing: Vec<_> = workers.iter().filter(|worker| worker.modes != ModeSet::NONE).collect();
            Ok((executing.iter().filter(|worker| worker.is_alive(now)).count(), executing.len()))
        };
        let (counts, workers) = tokio::join!(in_time(state.store().counts()), in_time(workers));
        Self { counts, workers }
    }
}

/// An answer of the store within [`PATIENCE`]: a probe that hangs is a probe that fails.
async fn in_time<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

/// Shows metrics in Prometheus' text format
///
/// Numbers of the whole deployment (tasks, agents, workers) come from the store: every process shows the same ones,
/// and none while the store does not answer.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses((status = 200, description = "Text format 0.0.4", body = String, content_type = "text/plain"))
)]
pub(crate) async fn metrics(State(state): State<AppState>) -> Answer {
    let mut out = String::with_capacity(8 * 1024);
    let found = Found::look(&state).await;
    if let Ok(counts) = &found.counts {
        head(&mut out, "agentry_tasks", "gauge", "Tasks that have not ended, by status.");
        for (status, count) in [("queued", counts.queued), ("running", counts.running), ("waiting", counts.waiting)] {
            let _ = writeln!(out, "agentry_tasks{{status=\"{status}\"}} {count}");
        }
        agents(&state, &mut out).await;
    }
    if let Ok(queued) = in_time(state.store().queued_by_mode()).await {
        head(&mut out, "agentry_queue_depth", "gauge", "Tasks that wait to be executed, by mode.");
        for (mode, count) in ExecutionMode::ALL.iter().zip(queued) {
            let _ = writeln!(out, "agentry_queue_depth{{mode=\"{mode}\"}} {count}");
        }
    }
    let alive = found.workers.ok().map(|(alive, _)| alive);
    for (name, help, value) in [
        ("agentry_bus_depth", "Wakes that wait for a consumer.", Some(state.bus().depth())),
        ("agentry_workers_alive", "Workers whose last heartbeat is recent.", alive),
        ("agentry_http_requests_in_flight", "Requests being answered.", Some(state.metrics.in_flight())),
        ("agentry_http_streams", "Event streams open.", Some(state.open_streams())),
    ] {
        let Some(value) = value else { continue };
        head(&mut out, name, "gauge", help);
        let _ = writeln!(out, "{name} {value}");
    }
    dependencies(&state, found.counts.is_ok(), &mut out);
    state.metrics.render(&mut out);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], out).into_response())
}

async fn agents(state: &AppState, out: &mut String) {
    let Ok(Ok(seen)) = tokio::time::timeout(PATIENCE, Seen::read(state)).await else { return };
    head(out, "agentry_agents", "gauge", "Agents of the fleet, by state.");
    let fleet = state.deps.fleet.current();
    for wanted in [
        AgentState::Starting,
        AgentState::Healthy,
        AgentState::Restarting,
        AgentState::Failed,
        AgentState::Invalid,
        AgentState::Disabled,
    ] {
        let count = fleet.iter().filter(|(name, entry)| seen.state_of(name, entry) == wanted).count();
        let _ = writeln!(out, "agentry_agents{{state=\"{}\"}} {count}", wanted.as_str());
    }
}

fn dependencies(state: &AppState, store_answers: bool, out: &mut String) {
    let looked: Vec<_> = state.deps.dependencies.iter().map(|dep| (dep.name, (dep.look)())).collect();
    head(out, "agentry_dependency_up", "gauge", "Whether a server that this process needs is there.");
    let _ = writeln!(out, "agentry_dependency_up{{dependency=\"store\"}} {}", u8::from(store_answers));
    for (name, seen) in &looked {
        let _ = writeln!(out, "agentry_dependency_up{{dependency=\"{name}\"}} {}", u8::from(seen.up));
    }
    for metric in looked.iter().flat_map(|(_, seen)| &seen.metrics) {
        head(out, metric.name, if metric.is_counter { "counter" } else { "gauge" }, metric.help);
        let _ = writeln!(out, "{} {}", metric.name, metric.value);
    }
    for (_, seen) in &looked {
        out.push_str(&seen.exposition);
    }
}
