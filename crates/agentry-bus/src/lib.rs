//! The event bus: wakes workers, signals processes, fans events out.
//!
//! The bus wakes, the store decides: everything here is a hint that may be lost. [`EventBus`] is the port, `embedded`
//! its backend for one process.

mod embedded;
mod port;

pub use embedded::EmbeddedBus;
pub use port::{BusError, EventBus, Received, Signal, Signals, Wake, Wakes};

#[cfg(any(test, feature = "contract"))]
pub mod contract;
