//! What the rules are made of: tasks, workers, writes, with ids and times of their own.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::agent::{AgentName, AgentSpec, ExecutionMode, ModeSet};
use agentry_core::id::{TaskId, WorkerId};
use agentry_core::session::SessionId;
use agentry_core::task::{IdempotencyKey, Outcome, Priority, Task, TaskSource, TraceId};
use agentry_core::time::Timestamp;
use agentry_core::worker::{HEARTBEAT, MISSED_HEARTBEATS, WorkerRecord};
use async_trait::async_trait;

use crate::{Accepted, Advance, Claimed, Lease, StateStore, Step, Want};

/// When rules begin: 2026-01-01T00:00:00Z.
pub const T0: Timestamp = Timestamp(1_767_225_600_000_000);

/// So many seconds after [`T0`].
#[must_use]
pub fn at(seconds: i64) -> Timestamp {
    Timestamp(T0.0 + seconds * 1_000_000)
}

/// The agent of the rules.
#[must_use]
pub fn agent() -> AgentName {
    AgentName::new("writer").unwrap()
}

/// A version of the agent.
#[must_use]
pub fn spec() -> AgentSpec {
    let json = serde_json::json!({
        "name": agent(), "version": "v1", "mode": "autonomous", "enabled": true, "tags": [], "system_prompt": "You test.",
        "subscriptions": [], "tools": [],
        "llm": {
            "target": {"provider": "openai", "model": "m"}, "fallback": [], "params": {"stop_sequences": []}, "timeout_ms": 1_000,
        },
        "retry": agentry_core::retry::RetryPolicy::default(),
        "budget": {},
    });
    serde_json::from_value(json).unwrap()
}

/// A task accepted at `created`.
#[must_use]
pub fn task(created: Timestamp) -> Task {
    Task {
        id: TaskId::generate(),
        agent: agent(),
        mode: ExecutionMode::Autonomous,
        input: "hello".into(),
        session: None,
        priority: Priority::Normal,
        source: TaskSource::Api,
        trace_id: TraceId(1),
        parent: None,
        created_at: created,
        timeout_ms: 1_000,
        callback_url: None,
        reply_to: None,
        budget: None,
        stream: false,
        hops: 0,
        idempotency: None,
        not_before: None,
    }
}

/// A task of a session.
#[must_use]
pub fn message(session: &SessionId, created: Timestamp) -> Task {
    Task { mode: ExecutionMode::Continuous, session: Some(session.clone()), ..task(created) }
}

/// A task that was submitted under a key.
#[must_use]
pub fn keyed(task: Task, key: &str, fingerprint: u64) -> Arc<Task> {
    let idempotency = Some(IdempotencyKey { key: key.to_owned(), fingerprint });
    Arc::new(Task { idempotency, ..task })
}

/// Accepts a task.
pub async fn accept(store: &Arc<dyn StateStore>, task: Task) -> TaskId {
    let id = task.id;
    assert_eq!(store.accept(vec![Arc::new(task)]).await.unwrap(), [Ok(Accepted::New)]);
    id
}

/// Accepts and claims a task.
pub async fn running(store: &Arc<dyn StateStore>, worker: WorkerId) -> Claimed {
    let id = accept(store, task(T0)).await;
    claim(store, worker, id, T0).await.unwrap()
}

/// Claims a task; `None`: it was not to be had.
pub async fn claim(store: &Arc<dyn StateStore>, worker: WorkerId, id: TaskId, now: Timestamp) -> Option<Claimed> {
    store.claim(worker, Want::Known(vec![id]), now).await.unwrap().pop()
}

/// A worker that lives at `now`.
pub async fn worker(store: &Arc<dyn StateStore>, now: Timestamp) -> WorkerId {
    let id = WorkerId::generate();
    beat(store, id, now).await;
    id
}

/// A worker says that it lives.
pub async fn beat(store: &Arc<dyn StateStore>, id: WorkerId, now: Timestamp) {
    let record = WorkerRecord {
        id,
        host: "here".to_owned(),
        roles: agentry_core::worker::Role::ALL.to_vec(),
        modes: ModeSet::ALL,
        slots: 8,
        busy: 0,
        started_at: T0,
        heartbeat_at: now,
        files: Vec::new(),
    };
    store.heartbeat(&record).await.unwrap();
}

/// Moves the heartbeats of a worker in time, for the rules about who lives: a backend may stamp heartbeats with a clock
/// that no rule can set. What `contract_tests!` opens implements it.
#[async_trait]
pub trait AgeHeartbeats: Send + Sync {
    /// Makes the last heartbeat of a registered worker `age` old at `now`, after others that came without a gap.
    ///
    /// The default sends them, which suits backends that take the worker's word for the time.
    async fn age(&self, store: &Arc<dyn StateStore>, worker: WorkerId, now: Timestamp, age: Duration) {
        for before in (0..HEARTBEATS_BEFORE).rev() {
            beat(store, worker, now.before(age + HEARTBEAT * before)).await;
        }
    }
}

/// Heartbeats that an aged one has before it: more than a judge needs.
const HEARTBEATS_BEFORE: u32 = 2 * MISSED_HEARTBEATS;

impl AgeHeartbeats for () {}

/// Ends a task well.
#[must_use]
pub fn finish(lease: Lease, now: Timestamp) -> Advance {
    Advance::new(lease, now, Step::Finish { outcome: Outcome::completed("done".into()), dead_letter: false })
}
