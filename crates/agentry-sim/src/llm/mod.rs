//! The LLM simulator: one answer generator and one ledger behind six protocols.

mod answer;
mod cache;
mod directive;
mod fault;
mod fingerprint;
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
mod prefix;
mod prompt;
mod rules;
mod server;
mod signature;
mod wire;

pub use fault::{Fault, FaultRate};
pub use latency::Profile;
pub use ledger::Stats;
pub use server::{LlmSim, SimOptions};
