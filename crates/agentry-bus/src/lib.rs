//! The event bus: wakes workers, signals processes, fans out events.
//!
//! The bus wakes, the store decides: everything here is a hint that may be lost. [`EventBus`] is the port, `embedded`
//! its backend for one process, `rabbitmq` its backend for many.

mod embedded;
mod listeners;
mod port;
pub mod rabbitmq;
mod wake_queues;

pub use embedded::EmbeddedBus;
pub use port::{
    BusError, DeliveredEvent, DeliveryVerdict, EventBus, Inbound, ReceiveOutcome, Signal, Signals, Wake, Wakes,
};

#[cfg(any(test, feature = "contract"))]
pub mod contract;
