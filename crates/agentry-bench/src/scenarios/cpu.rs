//! 4.2 CPU: what the platform uses when nothing is asked of it, and under its target load.

use std::time::Duration;

use super::Found;
use super::callers::Tasks;
use super::figures::{self, cost};
use super::observe::Observation;
use super::plots;
use crate::load::{Load, clock};
use crate::model::{Stage, Test, Window};
use crate::run::{Lab, Purpose, RunError, gates};
use crate::sample::{CpuLedger, Part, processors};
use crate::sut::{Plan, fleet};

/// Tasks per second of the target load: the modes' rates and the events of the peak together.
const LOAD: f64 = 245.0;

/// Measures idle, then loaded.
///
/// # Errors
/// When the platform does not start or the harness does not work.
pub async fn run(lab: &mut Lab) -> Result<Found, RunError> {
    let mut test = lab.test("4.2-cpu", "Processor use with 20 agents idle, then under load", "instant");
    let mut seen = Vec::new();
    if lab.url.is_some() {
        let why = "needs processes of its own: leave out --url";
        seen.extend(["4.2/idle", "4.2/load", "4.2/pool", "stretch/idle-cpu"].map(|id| Observation::not_run(id, why)));
        return Ok(Found { tests: vec![test], seen });
    }
    let share = idle(lab, &mut test, 20).await?;
    let source = "schedstat of every thread of the platform, share of all processors, half-second blocks";
    seen.push(share.observation("4.2/idle", 100.0 / processors() as f64, source).shown_by(&["cpu.idle.20"]));
    if lab.by(false, true, true, true) {
        let share = idle(lab, &mut test, 1_000).await?;
        seen.push(share.observation("stretch/idle-cpu", 100.0, "the same of one processor, 1,000 agents"));
        loaded(lab, &mut test, &mut seen).await?;
    }
    let stalls = "the platform tells neither its workers' busy ratio nor stalls: nothing outside shows them";
    seen.push(Observation::not_run("4.2/pool", stalls));
    Ok(Found { tests: vec![test], seen })
}

/// Shares of one processor in blocks of half a second.
struct Shares(Vec<f64>);

impl Shares {
    fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len().max(1) as f64
    }

    /// The mean with the interval of its blocks.
    fn observation(&self, id: &'static str, unit: f64, source: &str) -> Observation {
        let n = self.0.len() as f64;
        let mean = self.mean();
        let variance = self.0.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        let half = 2.1 * (variance / n.max(1.0)).sqrt();
        let ci = (self.0.len() >= 6).then_some([(mean - half).max(0.0) * unit, (mean + half) * unit]);
        Observation::new(id, mean * unit, self.0.len() as u64, source).ci(ci)
    }
}

async fn idle(lab: &mut Lab, test: &mut Test, agents: usize) -> Result<Shares, RunError> {
    let deployment = lab.deploy(Plan { agents: fleet::mixed(agents), ..Plan::default() }).await?;
    tokio::time::sleep(lab.seconds(1.0, 3.0, 60.0, 60.0)).await;
    let began = clock::now();
    lab.progress.tick(&format!("idle with {agents} agents"));
    tokio::time::sleep(lab.seconds(5.0, 10.0, 300.0, 1_800.0)).await;
    let ended = clock::now();
    test.windows.push(Window { stage: Stage::Measure, t0: lab.time(began), t1: lab.time(ended) });
    let samples = lab.sampler.between(began, ended);
    let ledger = CpuLedger::of(&samples);
    gates::of_machine(&mut lab.gates, &test.id, &samples, &ledger, Purpose::target(100.0));
    let shares = shares(&samples.all);
    let share = ledger.part(Part::Sut);
    let n = samples.all.len() as u64;
    let source = "schedstat of every thread";
    test.metrics.push(cost(&format!("cpu.idle.{agents}"), "%", "share", share.cores * 100.0, n, "of one processor"));
    test.metrics.push(cost(&format!("cpu.idle_wait.{agents}"), "ms", "count", share.waited as f64 / 1e6, n, source));
    drop(deployment);
    Ok(shares)
}

fn shares(samples: &[crate::sample::Sample]) -> Shares {
    /// Samples of a block.
    const BLOCK: usize = 5;
    let used = |at: usize| samples[at].parts.get(&Part::Sut).map_or(0, |part| part.cpu);
    let blocks = (BLOCK..samples.len()).step_by(BLOCK);
    let share = |at: usize| {
        let wall = samples[at].at - samples[at - BLOCK].at;
        used(at).saturating_sub(used(at - BLOCK)) as f64 / wall.max(1) as f64
    };
    Shares(blocks.map(share).collect())
}

async fn loaded(lab: &mut Lab, test: &mut Test, seen: &mut Vec<Observation>) -> Result<(), RunError> {
    let mut agents = fleet::mixed(19);
    agents.push(fleet::noop());
    let deployment = lab.deploy(Plan { agents, ..Plan::default() }).await?;
    let (target, host) = lab.target(Some(&deployment))?;
    let load = Load::open(target, LOAD, lab.seconds(5.0, 10.0, 120.0, 600.0), lab.seed_of("4.2"));
    let load = load.warm_up(Duration::from_secs(2));
    let driven = lab.drive(test, load, Tasks::of(&host, &fleet::noop().0, lab.seed), Purpose::target(100.0)).await?;
    figures::of_load(test, lab, "cpu.load", &driven);
    test.plots.push(plots::cpu(lab, "load", &driven));
    let source = "schedstat of every thread of the platform at 245 tasks/s, share of all processors";
    let unit = 100.0 / processors() as f64;
    seen.push(
        shares(&driven.samples.all).observation("4.2/load", unit, source).shown_by(&["cpu.load.cpu.sut", "load-cpu"]),
    );
    Ok(())
}
