//! 4.2 CPU: what the platform uses when nothing is asked of it, and under its target load.

use super::callers::TaskCaller;
use super::experiment::Experiment;
use super::loads::{Drawing, LoadRow, Rate};
use super::stalls::Stalls;
use crate::load::clock;
use crate::run::{Purpose, RunError, gates};
use crate::sample::{CpuLedger, Part, Sample, Scraper, processors};
use crate::stats::{count, deviation, mean};
use crate::sut::{Plan, fleet};
use crate::verdict::Observation;

/// The target load: the modes' rates and the events of the peak together.
const LOAD: LoadRow = LoadRow::new("cpu.load", Rate::Random(245.0), [5.0, 10.0, 120.0, 600.0])
    .warm_up([2.0; 4])
    .target(100.0)
    .draws(&[Drawing::Processors]);
/// Seconds for which the executor's threads may all be busy before a growing queue means that they are too few.
const BUSY: u64 = 5;
/// Part of the time from which on they count as busy.
const BUSY_SHARE: f64 = 0.95;

/// Measures idle, then loaded.
pub(super) async fn run(x: &mut Experiment<'_>) -> Result<(), RunError> {
    let shares = idle(x, 20).await?;
    let source = "schedstat of every thread of the platform, share of all processors, half-second blocks";
    let seen = observation(&shares, 100.0 / processors() as f64, source);
    x.observe("4.2/idle", seen.shown_by(&["cpu.idle.20"]));
    if x.by([false, true, true, true]) {
        let shares = idle(x, 1_000).await?;
        x.observe("stretch/idle-cpu", observation(&shares, 100.0, "the same of one processor, 1,000 agents"));
        loaded(x).await?;
    }
    Ok(())
}

/// The mean of shares of one processor, with the interval of its blocks.
pub(super) fn observation(shares: &[f64], unit: f64, source: &str) -> Observation {
    let (n, centre) = (count(shares.len()), mean(shares));
    let half = 2.1 * deviation(shares) / n.max(1.0).sqrt();
    let ci = (shares.len() >= 6).then_some([(centre - half).max(0.0) * unit, (centre + half) * unit]);
    Observation::exact(centre * unit, shares.len() as u64, source).ci(ci)
}

async fn idle(x: &mut Experiment<'_>, agents: usize) -> Result<Vec<f64>, RunError> {
    let _deployment = x.deploy(Plan { agents: fleet::mixed(agents), ..Plan::default() }).await?;
    tokio::time::sleep(x.seconds([1.0, 3.0, 60.0, 60.0])).await;
    x.lab.progress.tick(&format!("idle with {agents} agents"));
    Ok(at_rest(x, &format!("cpu.idle.{agents}"), [5.0, 10.0, 300.0, 1_800.0]).await)
}

/// Shares of one processor that the platform uses while nothing is asked of it, in blocks of half a second.
pub(super) async fn at_rest(x: &mut Experiment<'_>, name: &str, seconds: [f64; 4]) -> Vec<f64> {
    let (began, ended) = x.window(x.seconds(seconds)).await;
    let samples = x.lab.sampler.between(began, ended);
    let ledger = CpuLedger::of(&samples);
    gates::of_machine(&mut x.lab.gates, &x.test.id, &samples, &ledger, Purpose::target(100.0));
    let (share, n) = (ledger.part(Part::Sut), samples.all.len() as u64);
    x.cost(name, ("%", "share"), share.cores * 100.0, n, "of one processor");
    let waited = share.waited as f64 / 1e6;
    x.cost(&format!("{name}.wait"), ("ms", "count"), waited, n, "schedstat of every thread");
    shares(&samples.all)
}

fn shares(samples: &[Sample]) -> Vec<f64> {
    const BLOCK: usize = 5;
    let used = |at: usize| samples[at].parts.get(&Part::Sut).map_or(0, |part| part.cpu);
    let share = |at: usize| {
        let wall = samples[at].at - samples[at - BLOCK].at;
        used(at).saturating_sub(used(at - BLOCK)) as f64 / wall.max(1) as f64
    };
    (BLOCK..samples.len()).step_by(BLOCK).map(share).collect()
}

async fn loaded(x: &mut Experiment<'_>) -> Result<(), RunError> {
    let mut agents = fleet::mixed(19);
    agents.push(fleet::noop());
    let deployment = x.deploy(Plan { agents, ..Plan::default() }).await?;
    let api = deployment.api()?;
    let (scraper, before) = (Scraper::start(api.client().clone(), api.base()), Stalls::of(&deployment).await);
    let driven = x.drive(&LOAD, &deployment, |host, seed| TaskCaller::of(host, &fleet::noop().0, seed)).await?;
    let stalls = Stalls::of(&deployment).await.since(&before);
    let source = "schedstat of every thread of the platform at 245 tasks/s, share of all processors";
    let seen = observation(&shares(&driven.samples.all), 100.0 / processors() as f64, source);
    x.observe("4.2/load", seen.shown_by(&["cpu.load.cpu.sut", "cpu.load-cpu"]));
    let busy = exhausted(
        &scraper.series("agentry_executor_busy_seconds_total"),
        &scraper.series("agentry_executor_queue_depth"),
    );
    x.counts("cpu.executor", &[("stalls", stalls.count()), ("exhausted", busy)], stalls.looks(), "/metrics");
    let source = "looks at the executors that came over 50 ms late, and times at which the threads of the API's were busy \
                  over 95 % for 5 s while its queue grew";
    let seen = Observation::exact((stalls.count() + busy) as f64, stalls.looks(), source);
    x.observe("4.2/pool", seen.shown_by(&["cpu.executor.stalls", "cpu.executor.exhausted"]));
    Ok(())
}

/// Times at which an executor was busy over [`BUSY_SHARE`] for [`BUSY`] seconds while its queue grew.
fn exhausted(busy: &[(u64, f64)], queue: &[(u64, f64)]) -> u64 {
    let both: Vec<_> = busy.iter().zip(queue).collect();
    let spans = both.iter().zip(both.iter().skip(BUSY as usize));
    let full = spans.filter(|(((from, used), (_, short)), ((to, more), (_, long)))| {
        let seconds = (to - from) as f64 / clock::SECOND as f64 * processors() as f64;
        more - used > BUSY_SHARE * seconds && long > short
    });
    full.count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_threads_with_a_growing_queue_are_exhausted() {
        let all = processors() as f64;
        let series = |each: f64| (0..8_u64).map(|s| (s * clock::SECOND, s as f64 * each)).collect::<Vec<_>>();
        assert_eq!(exhausted(&series(all), &series(2.0)), 3);
        assert_eq!(exhausted(&series(all), &series(0.0)), 0);
        assert_eq!(exhausted(&series(all * 0.9), &series(2.0)), 0);
    }
}
