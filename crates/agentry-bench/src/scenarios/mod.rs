//! The scenarios, one file each. Each deploys what it needs, measures from outside, and hands over figures and
//! observations; what follows from an observation is decided in one place.

mod callers;
mod cpu;
mod delivery;
mod events;
mod figures;
mod hearing;
mod latency;
mod live;
mod llm;
mod memory;
mod modes;
mod nemesis;
pub mod observe;
mod phases;
mod plots;
mod promises;
mod scaling;
mod scheduler;
mod slack;
mod startup;
mod state;

pub use figures::hdr;
pub use nemesis::Nemesis;

use crate::catalogue::Scenario;
use crate::model::Test;
use crate::run::{Lab, RunError};

/// What a scenario found.
#[derive(Debug, Default)]
pub struct Found {
    /// Its tests: usually one.
    pub tests: Vec<Test>,
    /// What it saw of criteria.
    pub seen: Vec<observe::Observation>,
}

/// Runs a scenario.
///
/// # Errors
/// When the platform, a server or the harness does not work. What had been measured is then lost with it.
pub async fn run(scenario: &Scenario, lab: &mut Lab) -> Result<Found, RunError> {
    match scenario.id {
        "1.1-startup" => startup::run(lab).await,
        "1.2-modes" => modes::run(lab).await,
        "1.3-scaling" => scaling::run(lab).await,
        "2.1-cache" => state::cache(lab).await,
        "2.2-persistence" => state::persistence(lab).await,
        "3.1-throughput" => events::run(lab).await,
        "3.2-delivery" => delivery::run(lab).await,
        "4.1-memory" => memory::run(lab).await,
        "4.2-cpu" => cpu::run(lab).await,
        "5.1-llm-latency" => latency::run(lab).await,
        "5.2-llm-concurrency" => llm::run(lab).await,
        "6.1-slack" => slack::run(lab).await,
        "6.2-scheduler" => scheduler::run(lab).await,
        "phase-baseline" => phases::baseline(lab).await,
        "phase-scale" => phases::scale(lab).await,
        "phase-stress" => phases::stress(lab).await,
        "phase-soak" => phases::soak(lab).await,
        _ => Ok(Found::default()),
    }
}
