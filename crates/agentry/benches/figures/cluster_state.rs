//! The store of the cluster engine by itself: saves of running tasks' state, and reads through the cache. In this
//! process, through the store's port, because no request of the API is only that.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agentry_core::agent::{AgentName, ExecutionMode, ModeSet, ProviderKind};
use agentry_core::chat::{ChatReply, StopReason, Usage};
use agentry_core::id::{CallId, TaskId, WorkerId};
use agentry_core::journal::{JournalBody, JournalEntry, Scope};
use agentry_core::money::{CallStatus, LedgerRow, NanoUsd};
use agentry_core::task::{Outcome, Priority, Task, TaskSource, TraceId};
use agentry_core::time::Timestamp;
use agentry_core::worker::{Role, WorkerRecord};
use agentry_store::cache::{CachedStore, RedisOptions};
use agentry_store::postgres::{PostgresOptions, PostgresStore};
use agentry_store::{Advance, Claimed, Lease, StateStore, Step, Want};

use super::cluster_stage::Stage;
use super::open_loop::{self, Latencies};
use super::server::PATIENCE;
use super::{at_most, load_average};

/// Tasks whose state is saved in turn.
const RUNNING: u64 = 1_000;
/// Ended tasks that are read: each once before it is in the cache and once after.
const READ: usize = 6_000;
/// Bytes of the answer in each saved step.
const ANSWER_BYTES: usize = 1_024;
/// How long each open loop lasts.
const WINDOW: Duration = Duration::from_secs(10);

pub async fn measure(stage: &Stage) {
    let options = PostgresOptions { schema: stage.schema(), ..PostgresOptions::new(stage.postgres_url()) };
    let store: Arc<dyn StateStore> = Arc::new(PostgresStore::connect(options).await.unwrap());
    let worker = WorkerId::generate();
    store.heartbeat(&record(worker)).await.unwrap();
    saves(&store, worker).await;
    reads(stage, &store, worker).await;
}

/// One journal entry with an answer of a KiB and one ledger row, durable when it returns.
async fn saves(store: &Arc<dyn StateStore>, worker: WorkerId) {
    let leases: Arc<Vec<Lease>> = Arc::new(running(store, worker, RUNNING as usize).await);
    let save = |number: u64| {
        let (store, lease) = (Arc::clone(store), leases[(number % RUNNING) as usize]);
        async move { store.advance(step(lease, Step::Continue).into()).await.is_ok() }
    };
    open_loop::run(500, Duration::from_secs(2), save).await;
    for (rate, goal) in [(500, 2.0), (2_000, 5.0)] {
        let latencies = open_loop::run(rate, WINDOW, save).await;
        line(&format!("state saves, {rate}/s"), &latencies, goal);
    }
}

/// Reads of ended tasks: by the store, by the cache that does not have them yet, and by the cache that has.
async fn reads(stage: &Stage, store: &Arc<dyn StateStore>, worker: WorkerId) {
    let mut tasks = Vec::with_capacity(READ);
    for lease in running(store, worker, READ).await {
        tasks.push(lease.task);
        let outcome = Outcome::completed("done".into());
        store.advance(step(lease, Step::Finish { outcome, dead_letter: false }).into()).await.unwrap();
    }
    let mut options = RedisOptions::new(stage.redis_url()).unwrap();
    options.prefix = stage.name.clone();
    let cache = Arc::new(CachedStore::connect(Arc::clone(store), options));
    until("Redis answers", || cache.stats().connected).await;
    let tasks: Arc<[TaskId]> = tasks.into();
    line("store alone, 500/s", &read(store, &tasks).await, 2.0);
    let cached: Arc<dyn StateStore> = cache.clone();
    let missed = read(&cached, &tasks).await;
    let reads = missed.count() as u64;
    line("store on miss, 500/s", &missed, 2.0);
    until("fills are written", || cache.stats().fills + cache.stats().refused_fills >= reads).await;
    let hit = read(&cached, &tasks).await;
    line("cache hit, 500/s", &hit, 0.25);
    let stats = cache.stats();
    assert!(stats.tasks.hits >= reads.min(hit.count() as u64) && stats.tasks.misses >= reads, "{stats:?}");
}

async fn read(store: &Arc<dyn StateStore>, tasks: &Arc<[TaskId]>) -> Latencies {
    let one = |number: u64| {
        let (store, task) = (Arc::clone(store), tasks[number as usize % tasks.len()]);
        async move { store.task(task).await.is_ok_and(|found| found.is_some()) }
    };
    open_loop::run(500, WINDOW, one).await
}

fn line(what: &str, latencies: &Latencies, goal: f64) {
    println!(
        "cluster-state, {what}: {}; p95 {}; {}",
        latencies.text(),
        at_most(latencies.at(0.95), goal),
        load_average()
    );
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// So many claimed tasks.
async fn running(store: &Arc<dyn StateStore>, worker: WorkerId, count: usize) -> Vec<Lease> {
    let mut leases = Vec::with_capacity(count);
    while leases.len() < count {
        let tasks: Vec<Arc<Task>> = (0..200.min(count - leases.len())).map(|_| task()).collect();
        let ids = tasks.iter().map(|task| task.id).collect();
        assert!(store.accept(tasks).await.unwrap().iter().all(Result::is_ok));
        let claimed: Vec<Claimed> = store.claim(worker, Want::Known(ids), now()).await.unwrap();
        leases.extend(claimed.iter().map(|claimed| claimed.lease));
    }
    leases
}

fn task() -> Arc<Task> {
    Arc::new(Task {
        id: TaskId::generate(),
        agent: agent(),
        mode: ExecutionMode::Autonomous,
        input: "Summarise the ticket of the customer in one sentence.".into(),
        session: None,
        priority: Priority::Normal,
        source: TaskSource::Api,
        trace_id: TraceId(7),
        parent: None,
        created_at: now(),
        timeout_ms: 300_000,
        callback_url: None,
        reply_to: None,
        budget: None,
        stream: false,
        hops: 0,
        idempotency: None,
        not_before: None,
    })
}

/// What a worker writes after a model call.
fn step(lease: Lease, step: Step) -> Advance {
    let (at, call) = (now(), CallId::generate());
    let usage = Usage { input_tokens: 120, output_tokens: 250, ..Usage::default() };
    let provider = ProviderKind::Simulated;
    let (cost, duration_us) = (Some(NanoUsd::ZERO), 10);
    let reply = ChatReply {
        content: "x".repeat(ANSWER_BYTES),
        tool_calls: Vec::new(),
        stop: StopReason::End,
        usage,
        model: "echo".to_owned(),
    };
    let body = JournalBody::ModelCompleted { call, turn: 0, provider, reply, cost, duration_us, first_token_us: None };
    let mut advance = Advance::new(lease, at, step);
    advance.journal.push(JournalEntry { seq: 1, attempt: 1, scope: Scope::MAIN, at, body });
    advance.ledger.push(LedgerRow {
        provider_call: None,
        call,
        task: lease.task,
        agent: agent(),
        provider,
        model: "echo".to_owned(),
        status: CallStatus::Completed,
        usage,
        cost,
        at,
        duration_us,
    });
    advance
}

fn record(id: WorkerId) -> WorkerRecord {
    WorkerRecord {
        id,
        host: "figures".to_owned(),
        roles: Role::ALL.to_vec(),
        modes: ModeSet::ALL,
        slots: 8,
        busy: 0,
        started_at: now(),
        heartbeat_at: now(),
        files: Vec::new(),
    }
}

fn agent() -> AgentName {
    AgentName::new("echo").unwrap()
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_micros() as i64)
}
