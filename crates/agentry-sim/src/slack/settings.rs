//! The control API's settings: the target and the faults.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;

use super::control::{read, refuse};
use super::fault::FaultRequest;
use super::server::App;

#[derive(Debug, Deserialize)]
struct Target {
    url: String,
}

pub(super) async fn target(State(app): State<App>, body: Bytes) -> Response {
    match read::<Target>(&body) {
        Ok(Target { url }) if url.starts_with("http://") || url.starts_with("https://") => {
            app.sim.workspaces().target = Some(url);
            StatusCode::NO_CONTENT.into_response()
        }
        Ok(Target { url }) => refuse((StatusCode::BAD_REQUEST, format!("`{url}` is no http address"))),
        Err(bad) => refuse(bad),
    }
}

pub(super) async fn faults(State(app): State<App>, body: Bytes) -> Response {
    let rule =
        read::<FaultRequest>(&body).and_then(|request| request.rule().map_err(|bad| (StatusCode::BAD_REQUEST, bad)));
    match rule {
        Ok(rule) => {
            app.sim.workspaces().faults.push(rule);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(bad) => refuse(bad),
    }
}

pub(super) async fn no_faults(State(app): State<App>) -> StatusCode {
    app.sim.workspaces().faults.clear();
    StatusCode::NO_CONTENT
}
