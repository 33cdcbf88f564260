//! The scenarios, one file each. Each deploys what it needs, measures from outside, and hands over figures and
//! observations; what follows from an observation is decided in one place.

mod callers;
mod consumer;
mod cpu;
mod delivery;
mod events;
mod experiment;
mod injection;
mod latency;
mod live;
mod llm;
mod loads;
mod memory;
mod modes;
mod overhead;
mod phases;
mod plots;
mod promises;
mod scaling;
mod scheduler;
mod skeleton;
mod slack;
mod stalls;
mod startup;
mod state;
mod tasks;
mod views;

use crate::catalogue::Scenario;
use crate::model::Engine;
use crate::run::{Findings, Lab, RunError};
use experiment::Experiment;

/// What a scenario needs of its own, so that it cannot measure a deployment that runs already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Nothing, or it says so for each criterion.
    Nothing,
    /// This.
    Own(&'static str),
    /// Several processes.
    Cluster,
}

/// How a scenario is run: its id, what a reader should know of it, the simulated model's profile, what it needs.
#[rustfmt::skip]
const SETUPS: [(&str, &str, &str, Needs); 19] = [
    ("1.1-startup", "Start-up, dependencies up beforehand, cold and warm", "none", Needs::Nothing),
    ("1.2-modes", "Throughput of durable no-op tasks, then the four modes", "instant, fast", Needs::Nothing),
    ("1.3-scaling", "A pool of worker processes of this machine, 1 to 5 to 2 (no docker daemon is used)", "instant", Needs::Cluster),
    ("2.1-cache", "The last results of 20 agents read 500 times a second from cold, and misses alone", "none",
        Needs::Own("a Redis of the run's own, which it empties")),
    ("2.2-persistence", "20 agents, 160 saves each, work-equivalent to eight hours; then 500 and 2,000 saves a second", "none",
        Needs::Own("agents of its own")),
    ("3.1-throughput", "Four streams, 210 events/s of 1 KiB, then 500/s, then drained", "none", Needs::Nothing),
    ("3.2-delivery", "Faults under 50 tasks/s, then a full drain", "instant", Needs::Own("processes of its own, which it kills")),
    ("4.1-memory", "Pss over the number of agents, idle, settled", "none", Needs::Own("processes of its own")),
    ("4.2-cpu", "Processor use with 20 agents idle, then under load", "instant", Needs::Own("processes of its own")),
    ("5.1-llm-latency", "Five calls a second in each of four wire protocols", "realistic", Needs::Own("a simulator of the run's own")),
    ("5.2-llm-concurrency", "Closed loops of 1 to 100 callers, one model call each", "fast", Needs::Own("a simulator of the run's own")),
    ("6.1-slack", "Signed events at 3/s, answers as Slack received them", "realistic, instant",
        Needs::Own("a Slack simulator that the platform posts to")),
    ("6.2-scheduler", "40 schedules of 1 to 10 s, one restart of a scheduler across slots", "instant",
        Needs::Own("schedules and processes of its own")),
    ("phase-baseline", "One agent, one no-op task at a time, twice", "none", Needs::Own("processes of its own")),
    ("phase-scale", "Closed loops over 1 to 32 workers, tasks of 10 ms", "instant", Needs::Own("processes of its own")),
    ("phase-stress", "Steps of 1.25 until it breaks, then twice that rate, then back", "none", Needs::Own("processes of its own")),
    ("phase-soak", "Steady load, probes of a whole task five times a second", "none", Needs::Own("processes of its own")),
    ("stretch-views", "10,000 agents scraped, pages of many tasks, the dashboard's first paint", "instant", Needs::Own("processes of its own")),
    ("stretch-watched", "Pairs of rounds with and without traces and scrapes", "none", Needs::Own("processes of its own")),
];

/// Runs a scenario.
pub async fn run(scenario: &'static Scenario, lab: &mut Lab) -> Result<Findings, RunError> {
    let setup = SETUPS.iter().find(|(id, ..)| *id == scenario.id);
    let (_, title, llm_profile, needs) = *setup.unwrap_or(&(scenario.id, scenario.title, "none", Needs::Nothing));
    let mut x = Experiment::new(scenario, lab, title, llm_profile);
    match needs {
        Needs::Own(what) if x.lab.url.is_some() => x.not_run_at_all(&format!("needs {what}: leave out --url")),
        Needs::Cluster if x.lab.url.is_some() || x.lab.engine == Engine::Embedded => {
            x.not_run_at_all("needs several processes over servers of the run's own: --engine cluster without --url");
        }
        _ => measure(&mut x, scenario.id).await?,
    }
    Ok(x.end())
}

async fn measure(x: &mut Experiment<'_>, id: &str) -> Result<(), RunError> {
    match id {
        "1.1-startup" => startup::run(x).await,
        "1.2-modes" => modes::run(x).await,
        "1.3-scaling" => scaling::run(x).await,
        "2.1-cache" => state::cache(x).await,
        "2.2-persistence" => state::persistence(x).await,
        "3.1-throughput" => events::run(x).await,
        "3.2-delivery" => delivery::run(x).await,
        "4.1-memory" => memory::run(x).await,
        "4.2-cpu" => cpu::run(x).await,
        "5.1-llm-latency" => latency::run(x).await,
        "5.2-llm-concurrency" => llm::run(x).await,
        "6.1-slack" => slack::run(x).await,
        "6.2-scheduler" => scheduler::run(x).await,
        "phase-baseline" => phases::baseline(x).await,
        "phase-scale" => phases::scale(x).await,
        "phase-stress" => phases::stress(x).await,
        "phase-soak" => phases::soak(x).await,
        "stretch-views" => views::run(x).await,
        "stretch-watched" => overhead::run(x).await,
        _ => {
            x.not_run_at_all("not built into this version");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::SCENARIOS;

    #[test]
    fn every_scenario_has_a_setup() {
        let ids: Vec<&str> = SETUPS.iter().map(|(id, ..)| *id).collect();
        assert_eq!(ids, SCENARIOS.iter().map(|scenario| scenario.id).collect::<Vec<_>>());
    }
}
