//! The LLM simulator: wire protocol, brain, latency, ledger.

mod brain;
mod directive;
mod latency;
mod ledger;
mod persona;
mod plan;
mod reply;
mod server;
mod wire;

pub use latency::Profile;
pub use ledger::Stats;
pub use server::{LlmSim, SimOptions};
