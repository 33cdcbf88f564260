//! The LLM simulator: one answer generator and one ledger behind four protocols.

mod answer;
mod directive;
mod fault;
mod generate;
mod handle;
mod ids;
mod latency;
mod ledger;
mod limits;
mod models;
mod overrides;
mod paced_body;
mod persona;
mod plan;
mod prompt;
mod server;
mod wire;

pub use fault::{Fault, FaultRate};
pub use latency::Profile;
pub use ledger::Stats;
pub use server::{LlmSim, SimOptions};
