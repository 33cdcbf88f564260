//! The HTTP API: `/v1`, health, metrics, the OpenAPI document and the dashboard.
//!
//! Server and orchestrator interact only through the store and the bus, so that the code is the same in one process
//! and in ten. Every route is a row of `routes::table`; every error is a [`problem::ApiProblem`].

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

pub use auth::{Access, NewKeyError, key_hash, new_key};
pub use dependency::{Dependency, DependencyMetric, DependencyState};
pub use log::{BadLogFilter, LogControl, LogState};
pub use openapi::openapi;
pub use serve::{router, serve};
pub use slack::SlackIngress;
pub use state::{ServerDeps, ServerLimits};
pub use tls::Tls;
