//! The event bus: wakes workers, signals processes, fans events out.
//!
//! The bus wakes, the store decides: everything here is a hint that may be lost. [`EventBus`] is the port, `embedded`
//! its backend for one process, `rabbitmq` its backend for many.

mod embedded;
mod lanes;
mod listeners;
mod port;
pub mod rabbitmq;

pub use embedded::EmbeddedBus;
pub use port::{BusError, Delivered, EventBus, Inbound, Received, Signal, Signals, Verdict, Wake, Wakes};

#[cfg(any(test, feature = "contract"))]
pub mod contract;
