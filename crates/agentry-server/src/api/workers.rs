//! `/v1/workers`: the registered processes.

use agentry_api::{List, WorkerView};
use axum::extract::State;
use axum::response::IntoResponse;

use crate::problem::ApiResult;
use crate::state::AppState;

/// Lists workers
#[utoipa::path(
    get, path = "/v1/workers", tag = "workers",
    responses((status = 200, description = "The registered workers", body = List<WorkerView>))
)]
pub(crate) async fn list(State(state): State<AppState>) -> ApiResult {
    let now = state.now();
    let workers = state.store().workers(now).await?;
    let items =
        workers.into_iter().map(|worker| WorkerView { alive: worker.is_alive(now), worker }).collect::<Vec<_>>();
    Ok(axum::Json(List::from(items)).into_response())
}
