//! The state store, which is authoritative for every task, session, schedule and dollar.
//!
//! [`StateStore`] is the port; [`sqlite`] is its backend for one machine, [`postgres`] the one for many, and [`cache`]
//! stands in front of either. One contract suite runs on every backend; [`migrate`] moves a SQLite store to PostgreSQL.

pub mod cache;
#[cfg(feature = "contract")]
pub mod contract;
mod error;
pub mod layer;
mod liveness;
pub mod migrate;
mod port;
pub mod postgres;
pub mod private_files;
mod sql;
pub mod sqlite;
pub mod table;

pub use error::StoreError;
pub use port::*;
