//! The scenarios, one file each. Each deploys what it needs, measures from outside, and hands over figures and
//! observations; what follows from an observation is decided in one place.

mod callers;
mod consumer;
mod cpu;
mod delivery;
mod events;
mod experiment;
mod injection;
mod keyed_tasks;
mod latency;
mod live;
mod llm;
mod loads;
mod memory;
mod modes;
mod overhead;
mod phases;
mod plots;
mod scaling;
mod scheduler;
mod skeleton;
mod slack;
mod stalls;
mod startup;
mod state;
mod tasks;
mod views;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use crate::catalogue::Scenario;
use crate::model::Engine;
use crate::run::{Findings, Lab, RunError};
use experiment::Experiment;

/// Needs of a scenario that a deployment that runs already cannot fulfil.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Requirement {
    /// None, or it reports them for each criterion.
    Nothing,
    /// A thing of its own.
    Own(&'static str),
    /// Several processes.
    Cluster,
}

/// A scenario's implementation.
type Run = for<'x> fn(&'x mut Experiment<'_>) -> LocalBoxFuture<'x, Result<(), RunError>>;

/// A scenario as it is run: its id, a description for readers, the simulated model's profile, its needs, its code.
type Setup = (&'static str, &'static str, &'static str, Requirement, Run);

#[rustfmt::skip]
const SETUPS: [Setup; 19] = [
    ("1.1-startup", "Start-up, dependencies up beforehand, cold and warm", "none",
        Requirement::Nothing, |x| startup::run(x).boxed_local()),
    ("1.2-modes", "Throughput of durable no-op tasks, then the four modes", "instant, fast",
        Requirement::Nothing, |x| modes::run(x).boxed_local()),
    ("1.3-scaling", "A pool of worker processes of this machine, 1 to 5 to 2 (no docker daemon is used)", "instant",
        Requirement::Cluster, |x| scaling::run(x).boxed_local()),
    ("2.1-cache", "The last results of 20 agents read 500 times a second from cold, and misses alone", "none",
        Requirement::Own("a Redis of the run's own, which it empties"), |x| state::cache(x).boxed_local()),
    ("2.2-persistence", "20 agents, 160 saves each, work-equivalent to eight hours; then 500 and 2,000 saves a second", "none",
        Requirement::Own("agents of its own"), |x| state::persistence(x).boxed_local()),
    ("3.1-throughput", "Four streams, 210 events/s of 1 KiB, then 500/s, then drained", "none",
        Requirement::Nothing, |x| events::run(x).boxed_local()),
    ("3.2-delivery", "Faults under 50 tasks/s, then a full drain", "instant",
        Requirement::Own("processes of its own, which it kills"), |x| delivery::run(x).boxed_local()),
    ("4.1-memory", "Pss over the number of agents, idle, settled", "none",
        Requirement::Own("processes of its own"), |x| memory::run(x).boxed_local()),
    ("4.2-cpu", "Processor use with 20 agents idle, then under load", "instant",
        Requirement::Own("processes of its own"), |x| cpu::run(x).boxed_local()),
    ("5.1-llm-latency", "Five calls a second in each of four wire protocols", "realistic",
        Requirement::Own("a simulator of the run's own"), |x| latency::run(x).boxed_local()),
    ("5.2-llm-concurrency", "Closed loops of 1 to 100 callers, one model call each", "fast",
        Requirement::Own("a simulator of the run's own"), |x| llm::run(x).boxed_local()),
    ("6.1-slack", "Signed events at 3/s, answers as Slack received them", "realistic, instant",
        Requirement::Own("a Slack simulator that the platform posts to"), |x| slack::run(x).boxed_local()),
    ("6.2-scheduler", "40 schedules of 1 to 10 s, one restart of a scheduler across slots", "instant",
        Requirement::Own("schedules and processes of its own"), |x| scheduler::run(x).boxed_local()),
    ("phase-baseline", "One agent, one no-op task at a time, twice", "none",
        Requirement::Own("processes of its own"), |x| phases::baseline(x).boxed_local()),
    ("phase-scale", "Closed loops over 1 to 32 workers, tasks of 10 ms", "instant",
        Requirement::Own("processes of its own"), |x| phases::scale(x).boxed_local()),
    ("phase-stress", "Steps of 1.25 until it breaks, then twice that rate, then back", "none",
        Requirement::Own("processes of its own"), |x| phases::stress(x).boxed_local()),
    ("phase-soak", "Steady load, probes of a whole task five times a second", "none",
        Requirement::Own("processes of its own"), |x| phases::soak(x).boxed_local()),
    ("stretch-views", "10,000 agents scraped, pages of many tasks, the dashboard's first paint", "instant",
        Requirement::Own("processes of its own"), |x| views::run(x).boxed_local()),
    ("stretch-watched", "Pairs of rounds with and without traces and scrapes", "none",
        Requirement::Own("processes of its own"), |x| overhead::run(x).boxed_local()),
];

/// Runs a scenario.
pub async fn run(scenario: &'static Scenario, lab: &mut Lab) -> Result<Findings, RunError> {
    let Some((_, title, llm_profile, needs, run)) = SETUPS.iter().find(|(id, ..)| *id == scenario.id) else {
        return Err(RunError::Usage(format!("{} is not built into this version", scenario.id)));
    };
    let mut x = Experiment::new(scenario, lab, title, llm_profile);
    match needs {
        Requirement::Own(what) if x.lab.url.is_some() => x.not_run_at_all(&format!("needs {what}: leave out --url")),
        Requirement::Cluster if x.lab.url.is_some() || x.lab.engine == Engine::Embedded => {
            x.not_run_at_all("needs several processes over servers of the run's own: --engine cluster without --url");
        }
        _ => run(&mut x).await?,
    }
    Ok(x.end())
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
