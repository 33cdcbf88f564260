//! The LLM simulator: one brain and one ledger behind four protocols.

mod answer;
mod ask;
mod brain;
mod directive;
mod emission;
mod fault;
mod handle;
mod ids;
mod latency;
mod ledger;
mod limits;
mod models;
mod persona;
mod plan;
mod server;
mod wanted;
mod wire;

pub use fault::{Fault, FaultRate};
pub use latency::Profile;
pub use ledger::Stats;
pub use server::{LlmSim, SimOptions};
