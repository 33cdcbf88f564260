//! `/v1/workers`: who executes, and who fires schedules.

use agentry_core::worker::WorkerRecord;
use axum::extract::State;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::Answer;
use crate::state::AppState;

/// A worker: `id`, `host`, `roles`, `modes`, `slots`, `busy`, `started_at`, `heartbeat_at`, and whether it lives.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Worker)]
pub(crate) struct WorkerView {
    /// The worker.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    worker: WorkerRecord,
    /// Whether its last heartbeat is recent enough.
    alive: bool,
}

/// All workers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerList {
    /// The workers that are registered.
    items: Vec<WorkerView>,
}

/// Lists workers
#[utoipa::path(
    get, path = "/v1/workers", tag = "workers",
    responses((status = 200, description = "Every registered worker", body = WorkerList))
)]
pub(crate) async fn list(State(state): State<AppState>) -> Answer {
    let now = state.now();
    let workers = state.store().workers(now).await?;
    let items = workers.into_iter().map(|worker| WorkerView { alive: worker.is_alive(now), worker }).collect();
    Ok(axum::Json(WorkerList { items }).into_response())
}
