//! The store on its real servers: the contract of the port on every backend, and what each backend promises beyond it.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod cache;
mod contract;
mod migrate;
mod postgres;
mod schema;
mod sqlite;
mod wire;

use agentry_core::time::Timestamp;

/// The time of the system's clock.
fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_micros()).unwrap())
}
