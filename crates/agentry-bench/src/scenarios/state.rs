//! 2.1 and 2.2: the state manager. Reads through the cache and past it, and saves of conversations, as a caller sees them.
//!
//! What the platform tells of itself are counters; latencies are those of whole requests, which bound the cache's and the
//! store's own from above.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use super::Found;
use super::callers::Tasks;
use super::figures::{self, cost, gain, metric, quantile_ci};
use super::observe::Observation;
use super::plots;
use crate::load::{Answer, Caller, Load, Outcome, by_status, get};
use crate::model::{Engine, Invariant, Test};
use crate::run::{Driven, Lab, Purpose, RunError};
use crate::sample::{Metrics, Scraper};
use crate::sut::{Api, Deployment, Plan, fleet};

/// Reads per second.
const READS: f64 = 500.0;
const AGENTS: u64 = 20;

/// Reads states in turn, each time another one.
struct Reads {
    requests: Vec<Vec<u8>>,
}

impl Caller for Reads {
    fn request(&mut self, number: u64, _: u64, out: &mut Vec<u8>) {
        let at = usize::try_from(number).unwrap_or(0) % self.requests.len().max(1);
        out.extend_from_slice(&self.requests[at]);
    }

    fn judge(&mut self, answer: &Answer<'_>) -> Outcome {
        by_status(answer.status)
    }
}

/// 2.1: hit rate, latencies, and reads that are older than they may be.
///
/// # Errors
/// When the platform does not start or the harness does not work.
pub async fn cache(lab: &mut Lab) -> Result<Found, RunError> {
    let title = "The last results of 20 agents read 500 times a second from cold, and misses alone";
    let mut test = lab.test("2.1-cache", title, "none");
    let mut seen = Vec::new();
    if lab.url.is_some() {
        let why = "needs a Redis of the run's own, which it empties: leave out --url";
        seen.extend(
            ["2.1/hit-rate", "2.1/redis-p95", "2.1/pg-p95", "2.1/stale"].map(|id| Observation::not_run(id, why)),
        );
        return Ok(Found { tests: vec![test], seen });
    }
    let agents = vec![fleet::noop(), fleet::agent_of("bench-state", "continuous", "simulated", "echo", "")];
    let deployment = lab.deploy(Plan { agents, ..Plan::default() }).await?;
    let api = deployment.api()?.clone();
    let (target, host) = lab.target(Some(&deployment))?;
    let ids = results(&api, 2_000).await?;
    let of = |ids: &[String]| ids.iter().map(|id| get(&host, &format!("/v1/tasks/{id}"))).collect::<Vec<_>>();

    forget(lab).await?;
    let (before, redis) = (api.metrics().await?, keyspace(lab).await);
    let window = lab.seconds(2.0, 5.0, 60.0, 300.0);
    let load = Load::open(target, READS, window, lab.seed_of("2.1"));
    let hot = lab.drive(&mut test, load, Reads { requests: of(&ids[..AGENTS as usize]) }, Purpose::target(5.0)).await?;
    figures::of_load(&mut test, lab, "cache.hot", &hot);
    test.plots.push(plots::percentiles(
        "cache.hot",
        "Reads of 20 states at 500/s",
        &hot.seen,
        Some((5.0, "target 5 ms")),
    ));
    let (after, redis_after) = (api.metrics().await?, keyspace(lab).await);
    if lab.engine == Engine::Cluster {
        hit_rate(&mut test, &mut seen, (&before, &after), (redis, redis_after));
    } else {
        let why = "the embedded engine reads from SQLite's own page cache and counts no hits";
        seen.extend(["2.1/hit-rate", "2.1/hit-rate-95", "stretch/hit-rate"].map(|id| Observation::not_run(id, why)));
    }
    let whole = "the whole HTTP request, which bounds the cache's answer from above";
    let p95 = |driven: &Driven<Reads>, id, source: &str| {
        let latency = &driven.seen.latency;
        Observation::new(id, driven.seen.ms(0.95), latency.len(), source).ci(quantile_ci(latency, 0.95))
    };
    seen.push(p95(&hot, "2.1/redis-p95", whole).shown_by(&["cache.hot.latency", "cache.hot"]));
    seen.push(p95(&hot, "stretch/cache-p95", whole));

    forget(lab).await?;
    let misses = (ids.len() as f64 / READS).max(1.0);
    let load = Load::open(target, READS, Duration::from_secs_f64(misses * 0.9), lab.seed_of("2.1-miss"));
    let cold = lab.drive(&mut test, load, Reads { requests: of(&ids) }, Purpose::target(50.0)).await?;
    figures::of_load(&mut test, lab, "cache.cold", &cold);
    let source = "the whole HTTP request for a state that is in no cache, which bounds the store's answer from above";
    seen.push(p95(&cold, "2.1/pg-p95", source).shown_by(&["cache.cold.latency"]));
    seen.push(p95(&cold, "stretch/miss-p95", source));
    seen.push(stale(lab, &mut test, &deployment).await?);
    Ok(Found { tests: vec![test], seen })
}

/// Ids of tasks that have ended: the states that are read.
async fn results(api: &Api, count: usize) -> Result<Vec<String>, RunError> {
    const BATCH: usize = 500;
    let mut ids = Vec::new();
    while ids.len() < count {
        let tasks: Vec<_> =
            (0..BATCH).map(|n| json!({"agent": fleet::noop().0, "input": format!("state {n}")})).collect();
        let (_, answer) = api.post("/v1/tasks/batch", &json!({"tasks": tasks})).await?;
        ids.extend(
            answer["tasks"].as_array().into_iter().flatten().filter_map(|row| Some(row["id"].as_str()?.to_owned())),
        );
    }
    api.drained(Duration::from_secs(60)).await?;
    Ok(ids)
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

fn hit_rate(test: &mut Test, seen: &mut Vec<Observation>, ours: (&Metrics, &Metrics), redis: ((f64, f64), (f64, f64))) {
    let delta = |name: &str| ours.1.sum(name).unwrap_or(0.0) - ours.0.sum(name).unwrap_or(0.0);
    let (hits, misses) = (delta("agentry_cache_hits_total"), delta("agentry_cache_misses_total"));
    let n = (hits + misses) as u64;
    let rate = hits / (hits + misses).max(1.0) * 100.0;
    let server = (redis.1.0 - redis.0.0, redis.1.1 - redis.0.1);
    let by_redis = server.0 / (server.0 + server.1).max(1.0) * 100.0;
    test.metrics.push(gain("cache.hit_rate", "%", "share", rate, n, "agentry_cache_hits_total, misses_total"));
    test.metrics.push(gain(
        "cache.hit_rate.redis",
        "%",
        "share",
        by_redis,
        (server.0 + server.1) as u64,
        "keyspace_hits, misses",
    ));
    test.metrics.push(metric(
        "cache.bypasses",
        "count",
        "count",
        delta("agentry_cache_bypasses_total"),
        n,
        "reads past the cache",
    ));
    let wilson = crate::stats::wilson(hits as u64, n);
    let ci = Some([wilson[0] * 100.0, wilson[1] * 100.0]);
    let source = "the platform's counters; Wilson interval; 20 states, read in turn from cold, nothing evicted";
    for id in ["2.1/hit-rate", "2.1/hit-rate-95", "stretch/hit-rate"] {
        let observed =
            Observation::new(id, rate, n, source).ci(ci).shown_by(&["cache.hit_rate", "cache.hit_rate.redis"]);
        seen.push(match (rate - by_redis).abs() {
            // Redis is also asked by others of the platform's processes.
            apart if apart > 2.0 => {
                observed.undecided(format!("the witnesses disagree: Redis counted {by_redis:.1} %"))
            }
            _ => observed.remark(format!("Redis itself counted {by_redis:.1} %")),
        });
    }
}

/// Turns of a conversation, each followed by a read, which must show it.
async fn stale(lab: &mut Lab, test: &mut Test, deployment: &Deployment) -> Result<Observation, RunError> {
    let api = deployment.api()?;
    let reads = lab.by(50, 100, 1_000, 5_000);
    let mut old = 0_u64;
    for turn in 1..=reads {
        let body = json!({"agent": "bench-state", "input": format!("turn {turn}"), "session": "stale"});
        api.post("/v1/tasks?wait=30", &body).await?;
        let session = api.get("/v1/sessions/bench-state:stale?limit=1").await?;
        old += u64::from(session["turns"].as_u64().unwrap_or(0) < turn);
    }
    let source = "reads of a conversation after an acknowledged turn that did not show it";
    test.metrics.push(cost("cache.stale", "count", "count", old as f64, reads, source));
    lab.safety.push(Invariant {
        invariant: "I7".to_owned(),
        text: "what is read is never older than the last acknowledged write".to_owned(),
        test: test.id.clone(),
        valid: Some(old == 0),
        counts: [("reads", reads), ("stale", old)].map(|(key, count)| (key.to_owned(), count)).into(),
        examples: Vec::new(),
    });
    Ok(Observation::new("2.1/stale", old as f64, reads, source).shown_by(&["I7"]))
}

/// 2.2: saves of conversations, one for each turn.
///
/// # Errors
/// When the platform does not start or the harness does not work.
pub async fn persistence(lab: &mut Lab) -> Result<Found, RunError> {
    let title = "20 agents, 160 saves each, work-equivalent to eight hours; then 500 and 2,000 saves a second";
    let mut test = lab.test("2.2-persistence", title, "none");
    let mut seen = Vec::new();
    if lab.url.is_some() {
        let why = "needs agents of its own: leave out --url";
        seen.extend(["2.2/save-p95", "2.2/pool"].map(|id| Observation::not_run(id, why)));
        return Ok(Found { tests: vec![test], seen });
    }
    let agents = (0..AGENTS)
        .map(|n| fleet::agent_of(&format!("bench-state-{n}"), "continuous", "simulated", "echo", ""))
        .collect();
    let deployment = lab.deploy(Plan { agents, ..Plan::default() }).await?;
    let api = deployment.api()?.clone();
    let scraper = Scraper::start(api.client().clone(), api.base());
    let (target, host) = lab.target(Some(&deployment))?;
    let seconds = lab.by(4.0, 10.0, 480.0, 28_800.0);
    let rates = [(3_200.0 / seconds, "2.2/save-p95"), (500.0, "stretch/save-500"), (2_000.0, "stretch/save-2000")];
    let handled = Arc::new(AtomicU64::new(0));
    for (rate, criterion) in rates {
        let window = if criterion == "2.2/save-p95" {
            Duration::from_secs_f64(seconds)
        } else {
            lab.seconds(2.0, 5.0, 30.0, 60.0)
        };
        let name = format!("state.{rate:.0}");
        let caller = Saves {
            tasks: Tasks { sessions: 200, ..Tasks::of(&host, "bench-state-0", lab.seed) },
            handled: Arc::clone(&handled),
        };
        // What a stretch row asks for may be more than the machine gives, which voids nothing of the row that must hold.
        let purpose = if criterion == "2.2/save-p95" { Purpose::target(100.0) } else { Purpose::capacity() };
        let load = Load::open(target, rate, window, lab.seed_of(&name));
        let driven = lab.drive(&mut test, load, caller, purpose).await?;
        figures::of_load(&mut test, lab, &name, &driven);
        test.plots.push(plots::percentiles(
            &name,
            &format!("Turns saved at {rate:.0}/s"),
            &driven.seen,
            Some((100.0, "target 100 ms")),
        ));
        let source = "a whole turn, intended start to durable end, which bounds its save from above";
        let latency = &driven.seen.latency;
        let observed =
            Observation::new(criterion, driven.seen.ms(0.95), latency.len(), source).ci(quantile_ci(latency, 0.95));
        seen.push(observed.shown_by(&[&format!("{name}.latency"), &name]));
    }
    let waiting = scraper.series("agentry_postgres_waiting");
    let worst = waiting.iter().map(|(_, waiting)| *waiting).fold(0.0, f64::max);
    let turns = handled.load(Ordering::Relaxed);
    test.metrics.push(metric(
        "state.pool_waiting",
        "count",
        "max",
        worst,
        waiting.len() as u64,
        "agentry_postgres_waiting, once a second",
    ));
    let source =
        "turns that failed or were not answered while saving; a caller that waited for a connection in vain is one";
    let failed: f64 =
        test.metrics.iter().filter(|metric| metric.name.ends_with(".failed")).filter_map(|metric| metric.value).sum();
    seen.push(
        Observation::new("2.2/pool", failed, turns, source)
            .remark(format!("at most {worst:.0} callers waited at once")),
    );
    seen.push(Observation::not_run(
        "2.2/no-blocking",
        "saves cannot be switched off from outside: every turn ends with one",
    ));
    seen.push(Observation::not_run("2.2/stall", "the platform tells no executor stalls"));
    Ok(Found { tests: vec![test], seen })
}

/// Turns of twenty agents in turn.
struct Saves {
    tasks: Tasks,
    handled: Arc<AtomicU64>,
}

impl Caller for Saves {
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
        let mut reads = Reads { requests: vec![b"a".to_vec(), b"b".to_vec()] };
        let mut out = Vec::new();
        (0..4).for_each(|number| reads.request(number, 0, &mut out));
        assert_eq!(out, b"abab");
        let mut saves = Saves { tasks: Tasks::of("h", "x", 1), handled: Arc::default() };
        out.clear();
        saves.request(21, 0, &mut out);
        assert_eq!(number_after(&out, b"bench-state-"), Some(1));
    }
}
