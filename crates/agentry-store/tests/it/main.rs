//! Tests of the store on real servers: the contract of the port on every backend, and the guarantees of each backend
//! beyond it.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod cache;
mod contract;
mod migrate;
mod postgres;
mod schema;
mod sqlite;

use agentry_core::time::Timestamp;
use agentry_lab::FaultProxy;

/// Returns the time of the system's clock.
fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_micros()).unwrap())
}

/// Starts a proxy in front of a server.
async fn proxy_to(host: &str, port: u16) -> FaultProxy {
    let server = tokio::net::lookup_host((host, port)).await.unwrap().next().unwrap();
    FaultProxy::start(server, 1).await.unwrap()
}
