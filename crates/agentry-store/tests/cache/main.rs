//! The cache over the SQLite store and a real Redis: the contract of the port, races, and Redis failing.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod behind;
mod faults;
mod races;
mod reads;
mod server;

mod contract {
    agentry_store::contract_tests!(super::behind::cached);
}
