//! What tests share: a clock and a chance that a seed owns, stores and buses with faults, scripted models, a
//! TCP link that can be cut.

mod clock;
mod faulty_bus;
mod faulty_store;
mod model;
mod proxy;

pub use clock::{Dice, SimClock};
pub use faulty_bus::FaultyBus;
pub use faulty_store::{FaultyStore, StoreFaults};
pub use model::{ModelFaults, ScriptedModel};
pub use proxy::FaultProxy;
