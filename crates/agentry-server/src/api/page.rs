//! `/openapi.json`: the OpenAPI document.

use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::openapi::openapi;

/// Returns the OpenAPI document
#[utoipa::path(
    get, path = "/openapi.json", tag = "health",
    responses((status = 200, description = "OpenAPI 3.1", body = Object))
)]
pub(crate) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi()).into_response()
}
