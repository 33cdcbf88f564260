//! The control API's knobs: where things are sent, and what goes wrong.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;

use super::control::{read, refuse};
use super::fault::Wanted;
use super::server::App;

#[derive(Debug, Deserialize)]
struct Target {
    url: String,
}

/// `POST /sim/target`.
pub(super) async fn target(State(app): State<App>, body: Bytes) -> Response {
    match read::<Target>(&body) {
        Ok(Target { url }) if url.starts_with("http://") || url.starts_with("https://") => {
            app.sim.world().target = Some(url);
            StatusCode::NO_CONTENT.into_response()
        }
        Ok(Target { url }) => refuse((StatusCode::BAD_REQUEST, format!("`{url}` is no http address"))),
        Err(bad) => refuse(bad),
    }
}

/// `POST /sim/faults`.
pub(super) async fn faults(State(app): State<App>, body: Bytes) -> Response {
    let rule = read::<Wanted>(&body).and_then(|wanted| wanted.rule().map_err(|bad| (StatusCode::BAD_REQUEST, bad)));
    match rule {
        Ok(rule) => {
            app.sim.world().faults.push(rule);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(bad) => refuse(bad),
    }
}

/// `DELETE /sim/faults`.
pub(super) async fn no_faults(State(app): State<App>) -> StatusCode {
    app.sim.world().faults.clear();
    StatusCode::NO_CONTENT
}
