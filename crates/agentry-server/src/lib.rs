//! The HTTP API: `/v1`, health, metrics, the OpenAPI document and the dashboard.
//!
//! The server meets the orchestrator only through the store and the bus, so that it runs the same lines in one process
//! or in ten. Every route is a row of `routes::table`; every error is a [`problem::Problem`].

mod api;
mod auth;
mod dependency;
mod extract;
mod log;
mod metrics;
mod openapi;
pub mod problem;
mod routes;
mod serve;
mod slack;
mod sse;
mod state;
mod tls;
mod ui;

pub use auth::{Access, key_hash, new_key};
pub use dependency::{Dependency, DependencyState, Metric};
pub use log::{BadLogFilter, LogControl, LogState};
pub use openapi::openapi;
pub use serve::{router, serve};
pub use slack::SlackDoor;
pub use state::{Limits, ServerDeps};
pub use tls::Tls;
