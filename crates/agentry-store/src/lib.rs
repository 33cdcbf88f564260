//! The state store: the truth about every task, session, schedule and dollar.
//!
//! [`StateStore`] is the port; [`sqlite`] is its backend for one machine, [`postgres`] the one for many, and [`cache`]
//! stands before either. One contract suite runs on every backend; [`migrate`] moves what one holds to the other.

pub mod cache;
#[cfg(feature = "contract")]
pub mod contract;
mod error;
pub mod layer;
mod liveness;
pub mod migrate;
mod port;
pub mod postgres;
pub mod private;
mod sql;
pub mod sqlite;
pub mod table;

pub use error::StoreError;
pub use port::*;
