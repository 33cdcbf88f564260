//! Shared parts of tests: a clock and random numbers under a seed, stores and buses with faults, scripted models.

mod clock;
mod counts;
mod faulty_bus;
mod faulty_store;
mod model;
mod outage;
mod script;
mod store_faults;

pub use clock::{SeededRng, SimClock};
pub use counts::FaultCounts;
pub use faulty_bus::FaultyBus;
pub use faulty_store::FaultyStore;
pub use model::{CallEnd, CallRecord, ModelFaults, ScriptedModel};
pub use outage::Outage;
pub use store_faults::StoreFaults;
