//! `/v1/workers`: who executes, and who fires schedules.

use agentry_api::{WorkerList, WorkerView};
use axum::extract::State;
use axum::response::IntoResponse;

use crate::problem::Answer;
use crate::state::AppState;

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
