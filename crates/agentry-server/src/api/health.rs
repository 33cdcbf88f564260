//! `/health/live`, `/health/ready` and `/metrics`: for probes and scrapers, outside the bound on requests.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use agentry_core::fleet::AgentState;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::agents::Seen;
use crate::metrics::head;
use crate::problem::Answer;
use crate::state::AppState;

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

/// Whether tasks can be accepted and executed, per dependency.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ready {
    /// `ready`, or `not_ready` when any check is not ok.
    status: &'static str,
    /// The checks, by name: `store`, `workers`, `queue`, `shutdown`.
    #[schema(value_type = Object)]
    checks: BTreeMap<&'static str, Check>,
}

/// One check.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Check {
    /// Whether it is as it must be.
    ok: bool,
    /// What was found.
    detail: String,
}

/// Says whether tasks can be accepted and executed
#[utoipa::path(
    get, path = "/health/ready", tag = "health",
    responses(
        (status = 200, description = "Every check is ok", body = Ready),
        (status = 503, description = "A check is not ok", body = Ready),
    )
)]
pub(crate) async fn ready(State(state): State<AppState>) -> Response {
    let mut checks = BTreeMap::new();
    let stopping = state.shutdown.is_cancelled();
    let detail = if stopping { "shutting down" } else { "serving" };
    checks.insert("shutdown", Check { ok: !stopping, detail: detail.to_owned() });
    match state.store().counts().await {
        Ok(counts) => {
            let (queued, running, waiting) = (counts.queued, counts.running, counts.waiting);
            checks.insert("store", Check { ok: true, detail: "answers".to_owned() });
            let detail =
                format!("{queued} queued, {running} running, {waiting} waiting; {} wakes", state.bus().depth());
            checks.insert("queue", Check { ok: true, detail });
        }
        Err(error) => {
            checks.insert("store", Check { ok: false, detail: error.to_string() });
        }
    }
    let workers = match state.store().workers().await {
        Ok(workers) => {
            let now = state.now();
            let alive = workers.iter().filter(|worker| worker.is_alive(now)).count();
            Check { ok: alive > 0, detail: format!("{alive} of {} alive", workers.len()) }
        }
        Err(error) => Check { ok: false, detail: error.to_string() },
    };
    checks.insert("workers", workers);
    let ok = checks.values().all(|check| check.ok);
    let (code, status) = if ok { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not_ready") };
    (code, axum::Json(Ready { status, checks })).into_response()
}

/// Shows metrics in Prometheus' text format
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses((status = 200, description = "Text format 0.0.4", body = String, content_type = "text/plain"))
)]
pub(crate) async fn metrics(State(state): State<AppState>) -> Answer {
    let counts = state.store().counts().await?;
    let seen = Seen::read(&state).await?;
    let now = state.now();
    let alive = state.store().workers().await?.iter().filter(|worker| worker.is_alive(now)).count();
    let mut out = String::with_capacity(8 * 1024);
    head(&mut out, "agentry_tasks", "gauge", "Tasks that have not ended, by status.");
    for (status, count) in [("queued", counts.queued), ("running", counts.running), ("waiting", counts.waiting)] {
        let _ = writeln!(out, "agentry_tasks{{status=\"{status}\"}} {count}");
    }
    head(&mut out, "agentry_agents", "gauge", "Agents of the fleet, by state.");
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
    for (name, help, value) in [
        ("agentry_bus_depth", "Wakes that wait for a consumer.", state.bus().depth()),
        ("agentry_workers_alive", "Workers whose last heartbeat is recent.", alive),
        ("agentry_http_requests_in_flight", "Requests being answered.", state.metrics.in_flight()),
        ("agentry_http_streams", "Event streams open.", state.open_streams()),
    ] {
        head(&mut out, name, "gauge", help);
        let _ = writeln!(out, "{name} {value}");
    }
    state.metrics.render(&mut out);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], out).into_response())
}
