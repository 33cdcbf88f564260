//! `/health/live` and `/health/ready`: for probes, outside the bound on requests.

use std::collections::BTreeMap;
use std::time::Duration;

use agentry_api::{Check, Live, Ready};
use agentry_core::agent::ModeSet;
use agentry_core::worker::Role;
use agentry_store::{QueueCounts, StoreError};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::state::AppState;

/// How long a probe waits for the store.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Says that the process runs
#[utoipa::path(
    get, path = "/health/live", tag = "health",
    responses((status = 200, description = "It runs", body = Live))
)]
pub(crate) async fn live(State(state): State<AppState>) -> Response {
    axum::Json(Live { status: "ok".into(), version: state.deps.version.into(), engine: state.deps.engine.into() })
        .into_response()
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
    checks.insert("shutdown".into(), Check { ok: !stopping, required: true, detail: detail.to_owned() });
    let found = Found::look(&state).await;
    match &found.counts {
        Ok(QueueCounts { queued, running, waiting }) => {
            checks.insert("store".into(), Check { ok: true, required: true, detail: "answers".to_owned() });
            let depth = state.bus().depth();
            let detail = format!("{queued} queued, {running} running, {waiting} waiting; {depth} wakes");
            checks.insert("queue".into(), Check { ok: true, required: true, detail });
        }
        Err(error) => {
            checks.insert("store".into(), Check { ok: false, required: true, detail: error.clone() });
        }
    }
    // A process that executes must be seen to live; a door may accept for workers that come later.
    let required = state.deps.roles.contains(&Role::Worker);
    let workers = match &found.workers {
        Ok((alive, all)) => Check { ok: *alive > 0, required, detail: format!("{alive} of {all} alive") },
        Err(error) => Check { ok: false, required, detail: error.clone() },
    };
    checks.insert("workers".into(), workers);
    for dependency in &state.deps.dependencies {
        let seen = (dependency.look)();
        checks.insert(dependency.name.into(), Check { ok: seen.up, required: false, detail: seen.detail });
    }
    let (code, status) = verdict(checks.values());
    (code, axum::Json(Ready { status: status.into(), checks })).into_response()
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
pub(super) struct Found {
    pub counts: Result<QueueCounts, String>,
    /// Processes that execute: alive, and all that are registered.
    pub workers: Result<(usize, usize), String>,
}

impl Found {
    pub async fn look(state: &AppState) -> Self {
        let now = state.now();
        let workers = async {
            let workers = state.store().workers(now).await?;
            let executing: Vec<_> = workers.iter().filter(|worker| worker.modes != ModeSet::NONE).collect();
            Ok((executing.iter().filter(|worker| worker.is_alive(now)).count(), executing.len()))
        };
        let (counts, workers) = tokio::join!(in_time(state.store().counts()), in_time(workers));
        Self { counts, workers }
    }
}

/// An answer of the store within [`PATIENCE`]: a probe that hangs is a probe that fails.
pub(super) async fn in_time<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}
