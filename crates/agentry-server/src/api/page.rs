//! `/openapi.json`: the API's document for programs.

use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::openapi::openapi;

/// The document of this API
#[utoipa::path(
    get, path = "/openapi.json", tag = "health",
    responses((status = 200, description = "OpenAPI 3.1", body = Object))
)]
pub(crate) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi()).into_response()
}
