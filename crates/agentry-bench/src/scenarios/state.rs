//! 2.1 and 2.2: the state manager. Reads through the cache and past it, and saves of conversations, as a caller sees them.
//!
//! The platform's own figures are counters; latencies are those of whole requests, which bound the cache's and the
//! store's own from above.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use super::callers::TaskCaller;
use super::experiment::Experiment;
use super::loads::{Drawing, LoadRow, Rate, Reading};
use super::stalls::Stalls;
use super::tasks::submit_many;
use crate::load::{Answer, Caller, Outcome, by_status, get};
use crate::model::Engine;
use crate::run::{Lab, RunError};
use crate::sample::{Metrics, Scraper};
use crate::stats::{mean, ratio, wilson};
use crate::sut::{Deployment, Plan, fleet};
use crate::verdict::Observation;

/// States that are read while they are not in the cache.
const STATES: usize = 2_000;
const AGENTS: u64 = 20;
const HIT: &str = "the whole HTTP request, which bounds the cache's answer from above";
const MISS: &str = "the whole HTTP request for a state that is in no cache, which bounds the store's answer from above";
const SAVE: &str = "a whole turn, intended start to durable end, which bounds its save from above";

const HOT: LoadRow = LoadRow::new("cache.hot", Rate::Random(500.0), [2.0, 5.0, 60.0, 300.0])
    .target(5.0)
    .draws(&[Drawing::Percentiles])
    .decides(&[("2.1/redis-p95", Reading::Latency(0.95), HIT), ("stretch/cache-p95", Reading::Latency(0.95), HIT)]);
/// Nine tenths of the states, each once.
const COLD: LoadRow = LoadRow::new("cache.cold", Rate::Random(500.0), [3.6; 4])
    .target(50.0)
    .decides(&[("2.1/pg-p95", Reading::Latency(0.95), MISS), ("stretch/miss-p95", Reading::Latency(0.95), MISS)]);

/// The stretch rows may ask for more than the machine gives, which voids nothing of the row that must hold.
const SAVES: [LoadRow; 3] =
    [
        LoadRow::new("state.hours", Rate::Random(0.0), [4.0, 60.0, 480.0, 28_800.0])
            .target(100.0)
            .draws(&[Drawing::Percentiles])
            .decides(&[("2.2/save-p95", Reading::Latency(0.95), SAVE)]),
        LoadRow::new("state.500", Rate::Random(500.0), [2.0, 5.0, 30.0, 60.0])
            .draws(&[Drawing::Percentiles])
            .decides(&[("stretch/save-500", Reading::Latency(0.95), SAVE)]),
        LoadRow::new("state.2000", Rate::Random(2_000.0), [2.0, 5.0, 30.0, 60.0])
            .draws(&[Drawing::Percentiles])
            .decides(&[("stretch/save-2000", Reading::Latency(0.95), SAVE)]),
    ];
/// One conversation, one turn after another.
const LONG: LoadRow = LoadRow::new("state.long", Rate::Callers(1), [0.0, 0.0, 40.0, 60.0]);
/// Saves of eight hours of twenty agents: the first row has as many, in its own time.
const SAVES_OF_HOURS: f64 = 3_200.0;

/// Sends requests in turn, each time another one.
pub(super) struct RotatingCaller {
    pub requests: Vec<Vec<u8>>,
}

impl Caller for RotatingCaller {
    fn request(&mut self, number: u64, _: u64, out: &mut Vec<u8>) {
        let at = usize::try_from(number).unwrap_or(0) % self.requests.len().max(1);
        out.extend_from_slice(&self.requests[at]);
    }

    fn judge(&mut self, answer: &Answer<'_>) -> Outcome {
        by_status(answer.status)
    }
}

/// 2.1: hit rate, latencies, and reads that are older than they may be.
pub(super) async fn cache(x: &mut Experiment<'_>) -> Result<(), RunError> {
    let agents = vec![fleet::noop(), fleet::agent_of("bench-state", "continuous", "simulated", "echo", "")];
    let deployment = x.deploy(Plan { agents, ..Plan::default() }).await?;
    let api = deployment.api()?.clone();
    let ids = submit_many(&api, &fleet::noop().0, STATES, "state").await?;
    api.drained(Duration::from_secs(60)).await?;
    let reads = |ids: &[String], host: &str| RotatingCaller {
        requests: ids.iter().map(|id| get(host, &format!("/v1/tasks/{id}"))).collect(),
    };

    forget(x.lab).await?;
    let (before, redis) = (api.metrics().await?, keyspace(x.lab).await);
    x.drive(&HOT, &deployment, |host, _| reads(&ids[..AGENTS as usize], host)).await?;
    let (after, redis_after) = (api.metrics().await?, keyspace(x.lab).await);
    if x.lab.engine == Engine::Cluster {
        hit_rate(x, (&before, &after), (redis, redis_after));
    } else {
        let why = "the embedded engine reads from SQLite's own page cache and counts no hits";
        x.not_run(&["2.1/hit-rate", "2.1/hit-rate-95", "stretch/hit-rate"], why);
    }
    forget(x.lab).await?;
    x.drive(&COLD, &deployment, |host, _| reads(&ids, host)).await?;
    stale(x, &deployment).await
}

/// Empties Redis, where there is one.
async fn forget(lab: &mut Lab) -> Result<(), RunError> {
    if lab.engine == Engine::Cluster {
        let redis = &lab.servers().await?.redis;
        redis.ask("FLUSHALL").await;
        redis.ask("CONFIG RESETSTAT").await;
    }
    Ok(())
}

/// (hits, misses) of the whole private Redis.
async fn keyspace(lab: &Lab) -> (f64, f64) {
    let Some(servers) = lab.running_servers() else { return (0.0, 0.0) };
    let info = servers.redis.info("stats").await;
    let of = |name: &str| info.get(name).copied().unwrap_or(0.0);
    (of("keyspace_hits"), of("keyspace_misses"))
}

fn hit_rate(x: &mut Experiment<'_>, ours: (&Metrics, &Metrics), redis: ((f64, f64), (f64, f64))) {
    let delta = |name: &str| ours.1.sum(name).unwrap_or(0.0) - ours.0.sum(name).unwrap_or(0.0);
    let (hits, misses) = (delta("agentry_cache_hits_total"), delta("agentry_cache_misses_total"));
    let n = (hits + misses) as u64;
    let rate = hits / (hits + misses).max(1.0) * 100.0;
    let server = (redis.1.0 - redis.0.0, redis.1.1 - redis.0.1);
    let (by_redis, asked) = (server.0 / (server.0 + server.1).max(1.0) * 100.0, (server.0 + server.1) as u64);
    x.benefit("cache.hit_rate", ("%", "share"), rate, n, "agentry_cache_hits_total, misses_total");
    x.benefit("cache.hit_rate.redis", ("%", "share"), by_redis, asked, "keyspace_hits, misses");
    x.figure("cache.bypasses", ("count", "count"), delta("agentry_cache_bypasses_total"), n, "reads past the cache");
    let source = "the platform's counters; Wilson interval; 20 states, read in turn from cold, nothing evicted";
    let seen = Observation::new(rate, wilson(hits as u64, n).map(|bound| bound * 100.0), n, source);
    let seen = seen.shown_by(&["cache.hit_rate", "cache.hit_rate.redis"]);
    let seen = match (rate - by_redis).abs() {
        // Redis is also asked by others of the platform's processes.
        apart if apart > 2.0 => seen.undecided(format!("the witnesses disagree: Redis counted {by_redis:.1} %")),
        _ => seen.remark(format!("Redis itself counted {by_redis:.1} %")),
    };
    for id in ["2.1/hit-rate", "2.1/hit-rate-95", "stretch/hit-rate"] {
        x.observe(id, seen.clone());
    }
}

/// Turns of a conversation, each followed by a read, which must show it.
async fn stale(x: &mut Experiment<'_>, deployment: &Deployment) -> Result<(), RunError> {
    let api = deployment.api()?;
    let reads = x.by([50, 100, 1_000, 5_000]);
    let mut old = 0_u64;
    for turn in 1..=reads {
        let body = json!({"agent": "bench-state", "input": format!("turn {turn}"), "session": "stale"});
        api.post("/v1/tasks?wait=30", &body).await?;
        let session = api.get("/v1/sessions/bench-state:stale?limit=1").await?;
        old += u64::from(session["turns"].as_u64().unwrap_or(0) < turn);
    }
    let source = "reads of a conversation after an acknowledged turn that did not show it";
    x.counts("cache", &[("stale", old)], reads, source);
    let text = "what is read is never older than the last acknowledged write";
    x.invariant("I7", text, old, &[("reads", reads), ("stale", old)], Vec::new());
    x.observe("2.1/stale", Observation::exact(old as f64, reads, source).shown_by(&["I7"]));
    Ok(())
}

/// 2.2: saves of conversations, one for each turn.
pub(super) async fn persistence(x: &mut Experiment<'_>) -> Result<(), RunError> {
    let agents = |n| fleet::agent_of(&format!("bench-state-{n}"), "continuous", "simulated", "echo", "");
    let deployment = x.deploy(Plan { agents: (0..AGENTS).map(agents).collect(), ..Plan::default() }).await?;
    let api = deployment.api()?.clone();
    let scraper = Scraper::start(api.client().clone(), api.base());
    let before = Stalls::of(&deployment).await;
    let (mut failed, handled) = (0, Arc::new(AtomicU64::new(0)));
    for mut row in SAVES {
        if row.name == "state.hours" {
            row.rate = Rate::Random(SAVES_OF_HOURS / x.by(row.seconds));
        }
        let caller = |host: &str, seed| SaveCaller {
            tasks: TaskCaller { sessions: 200, ..TaskCaller::of(host, "bench-state-0", seed) },
            handled: Arc::clone(&handled),
        };
        failed += x.drive(&row, &deployment, caller).await?.seen.failed();
    }
    let stalls = Stalls::of(&deployment).await.since(&before);
    let waiting = scraper.series("agentry_postgres_waiting");
    let worst = waiting.iter().map(|(_, waiting)| *waiting).fold(0.0, f64::max);
    let source = "agentry_postgres_waiting, once a second";
    x.figure("state.pool_waiting", ("count", "max"), worst, waiting.len() as u64, source);
    let source =
        "turns that failed or were not answered while saving; a caller that waited for a connection in vain is one";
    let seen = Observation::exact(failed as f64, handled.load(Ordering::Relaxed), source);
    x.observe("2.2/pool", seen.remark(format!("at most {worst:.0} callers waited at once")));
    x.not_run(&["2.2/no-blocking"], "saves cannot be switched off from outside: every turn ends with one");
    stalls.observe(x, "2.2/stall");
    if x.by([false, false, true, true]) {
        long_session(x, &deployment).await?;
    }
    Ok(())
}

/// Measures whether the turns of a long conversation stay as fast as its first.
async fn long_session(x: &mut Experiment<'_>, deployment: &Deployment) -> Result<(), RunError> {
    let caller = |host: &str, seed| TaskCaller { sessions: 1, ..TaskCaller::of(host, "bench-state-0", seed) };
    let seen = x.drive(&LONG, deployment, caller).await?.seen;
    let turns: Vec<f64> = seen.measured_seconds().iter().map(|second| second.ok as f64).collect();
    let tenth = turns.len() / 10;
    let (first, last) = (&turns[..tenth], &turns[turns.len() - tenth..]);
    let source = "turns per second of the first tenth of the time over those of the last; bootstrap of the seconds";
    let seen = Observation::exact(mean(first) / mean(last), seen.ok, source).ci(ratio(first, last, x.lab.seed, mean));
    x.observe(
        "stretch/long-session",
        seen.shown_by(&["state.long.latency"]).remark(format!("{:.0} turns", turns.iter().sum::<f64>())),
    );
    Ok(())
}

/// Turns of twenty agents in turn.
struct SaveCaller {
    tasks: TaskCaller,
    handled: Arc<AtomicU64>,
}

impl Caller for SaveCaller {
    fn request(&mut self, number: u64, intended: u64, out: &mut Vec<u8>) {
        self.tasks.agent = format!("bench-state-{}", number % AGENTS);
        self.tasks.request(number, intended, out);
    }

    fn judge(&mut self, answer: &Answer<'_>) -> Outcome {
        self.handled.fetch_add(1, Ordering::Relaxed);
        self.tasks.judge(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::super::callers::number_after;
    use super::*;

    #[test]
    fn states_are_read_in_turn_and_agents_save_in_turn() {
        let mut reads = RotatingCaller { requests: vec![b"a".to_vec(), b"b".to_vec()] };
        let mut out = Vec::new();
        (0..4).for_each(|number| reads.request(number, 0, &mut out));
        assert_eq!(out, b"abab");
        let mut saves = SaveCaller { tasks: TaskCaller::of("h", "x", 1), handled: Arc::default() };
        out.clear();
        saves.request(21, 0, &mut out);
        assert_eq!(number_after(&out, b"bench-state-"), Some(1));
    }
}
