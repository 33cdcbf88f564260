//! The state store: the truth about every task, session, schedule and dollar.
//!
//! [`StateStore`] is the port; [`sqlite`] is its backend for one machine. One contract suite runs on
//! every backend.

#[cfg(feature = "contract")]
pub mod contract;
mod error;
mod port;
pub mod sqlite;

pub use error::StoreError;
pub use port::*;
