//! `/health/live` and `/health/ready`: probes, exempt from the limit of requests in flight.

use std::collections::BTreeMap;
use std::time::Duration;

use agentry_api::{LiveReply, ReadinessCheck, ReadyReply};
use agentry_core::agent::ModeSet;
use agentry_core::worker::Role;
use agentry_store::{QueueCounts, StoreError};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::state::AppState;

/// The time that a probe waits for the store.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Reports liveness
#[utoipa::path(
    get, path = "/health/live", tag = "health",
    responses((status = 200, description = "The process runs", body = LiveReply))
)]
pub(crate) async fn live(State(state): State<AppState>) -> Response {
    axum::Json(LiveReply { status: "ok".into(), version: state.deps.version.into(), engine: state.deps.engine.into() })
        .into_response()
}

/// Reports readiness
///
/// Without the broker or the cache, work is slower but nothing is lost, so such a process is `degraded` and accepts requests.
#[utoipa::path(
    get, path = "/health/ready", tag = "health",
    responses(
        (status = 200, description = "Every required check is ok", body = ReadyReply),
        (status = 503, description = "A required check is not ok", body = ReadyReply),
    )
)]
pub(crate) async fn ready(State(state): State<AppState>) -> Response {
    let mut checks = BTreeMap::new();
    let stopping = state.shutdown.is_cancelled();
    let detail = if stopping { "shutting down" } else { "serving" };
    checks.insert("shutdown".into(), ReadinessCheck { ok: !stopping, required: true, detail: detail.to_owned() });
    let found = DeploymentHealth::read(&state).await;
    match &found.counts {
        Ok(QueueCounts { queued, running, waiting }) => {
            checks.insert("store".into(), ReadinessCheck { ok: true, required: true, detail: "answers".to_owned() });
            let depth = state.bus().depth();
            let detail = format!("{queued} queued, {running} running, {waiting} waiting; {depth} wakes");
            checks.insert("queue".into(), ReadinessCheck { ok: true, required: true, detail });
        }
        Err(error) => {
            checks.insert("store".into(), ReadinessCheck { ok: false, required: true, detail: error.clone() });
        }
    }
    // A worker must be alive; an API process may accept tasks for workers that start later.
    let required = state.deps.roles.contains(&Role::Worker);
    let workers = match &found.workers {
        Ok((alive, all)) => ReadinessCheck { ok: *alive > 0, required, detail: format!("{alive} of {all} alive") },
        Err(error) => ReadinessCheck { ok: false, required, detail: error.clone() },
    };
    checks.insert("workers".into(), workers);
    for dependency in &state.deps.dependencies {
        let seen = (dependency.probe)();
        checks.insert(dependency.name.into(), ReadinessCheck { ok: seen.up, required: false, detail: seen.detail });
    }
    let (code, status) = verdict(checks.values());
    (code, axum::Json(ReadyReply { status: status.into(), checks })).into_response()
}

fn verdict<'c>(checks: impl Iterator<Item = &'c ReadinessCheck>) -> (StatusCode, &'static str) {
    let missing: Vec<bool> = checks.filter(|check| !check.ok).map(|check| check.required).collect();
    match (missing.is_empty(), missing.contains(&true)) {
        (true, _) => (StatusCode::OK, "ready"),
        (false, false) => (StatusCode::OK, "degraded"),
        (false, true) => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
    }
}

/// The state of the whole deployment, from the store.
pub(super) struct DeploymentHealth {
    pub counts: Result<QueueCounts, String>,
    /// The number of live workers, and of all registered ones.
    pub workers: Result<(usize, usize), String>,
}

impl DeploymentHealth {
    pub async fn read(state: &AppState) -> Self {
        let now = state.now();
        let workers = async {
            let workers = state.store().workers(now).await?;
            let executing: Vec<_> = workers.iter().filter(|worker| worker.modes != ModeSet::NONE).collect();
            Ok((executing.iter().filter(|worker| worker.is_alive(now)).count(), executing.len()))
        };
        let (counts, workers) = tokio::join!(with_probe_timeout(state.store().counts()), with_probe_timeout(workers));
        Self { counts, workers }
    }
}

/// An answer of the store within [`PROBE_TIMEOUT`]: a probe that hangs is a probe that fails.
pub(super) async fn with_probe_timeout<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, String> {
    match tokio::time::timeout(PROBE_TIMEOUT, asked).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PROBE_TIMEOUT.as_secs())),
    }
}
