//! Builders of the contract tests: tasks, workers and writes with unique ids and fixed times.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::agent::{AgentName, AgentSpec, ExecutionMode, ModeSet, ProviderKind};
use agentry_core::chat::{Message, Usage};
use agentry_core::clarification::Clarification;
use agentry_core::event::Event;
use agentry_core::id::{CallId, ClarificationId, TaskId, WorkerId};
use agentry_core::money::{CallStatus, LedgerRow};
use agentry_core::schedule::{Overlap, ScheduleRecord, ScheduleSpec, Timing};
use agentry_core::session::{SessionId, SessionRecord, SessionWrite};
use agentry_core::task::{ErrorCode, IdempotencyKey, Outcome, Priority, Task, TaskError, TaskSource, TraceId};
use agentry_core::time::Timestamp;
use agentry_core::worker::{HEARTBEAT, MISSED_HEARTBEATS, WorkerRecord};
use async_trait::async_trait;

use crate::{Acceptance, Advance, ClaimRequest, ClaimedTask, Firing, Lease, SessionClaim, StateStore, Step};

/// Start time of every test: 2026-01-01T00:00:00Z.
pub const T0: Timestamp = Timestamp(1_767_225_600_000_000);

/// Returns the time `seconds` after [`T0`].
pub fn at(seconds: i64) -> Timestamp {
    Timestamp(T0.0 + seconds * 1_000_000)
}

/// Returns the agent of the tests.
pub fn agent() -> AgentName {
    AgentName::new("writer").unwrap()
}

/// Returns a version of the agent.
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

/// Returns a task created at `created`.
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

/// Returns a task of a session.
pub fn message(session: &SessionId, created: Timestamp) -> Task {
    Task { mode: ExecutionMode::Continuous, session: Some(session.clone()), ..task(created) }
}

/// Sets the idempotency key of a task.
pub fn keyed(task: Task, key: &str, fingerprint: u64) -> Arc<Task> {
    let idempotency = Some(IdempotencyKey { key: key.to_owned(), fingerprint });
    Arc::new(Task { idempotency, ..task })
}

/// Accepts a task.
pub async fn accept(store: &Arc<dyn StateStore>, task: Task) -> TaskId {
    let id = task.id;
    assert_eq!(store.accept(vec![Arc::new(task)]).await.unwrap(), [Ok(Acceptance::New)]);
    id
}

/// Accepts and claims a task.
pub async fn running(store: &Arc<dyn StateStore>, worker: WorkerId) -> ClaimedTask {
    let id = accept(store, task(T0)).await;
    claim(store, worker, id, T0).await.unwrap()
}

/// Claims a task; returns `None` when it cannot be claimed.
pub async fn claim(store: &Arc<dyn StateStore>, worker: WorkerId, id: TaskId, now: Timestamp) -> Option<ClaimedTask> {
    store.claim(worker, ClaimRequest::Tasks(vec![id]), now).await.unwrap().pop()
}

/// Registers a worker with a heartbeat at `now`.
pub async fn worker(store: &Arc<dyn StateStore>, now: Timestamp) -> WorkerId {
    let id = WorkerId::generate();
    heartbeat(store, id, now).await;
    id
}

/// Sends a heartbeat.
pub async fn heartbeat(store: &Arc<dyn StateStore>, id: WorkerId, now: Timestamp) {
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

/// Moves the heartbeats of a worker in time: a backend may stamp heartbeats with a clock that tests cannot set. The
/// guard of `contract_tests!` implements it.
#[async_trait]
pub trait AgeHeartbeats: Send + Sync {
    /// Makes the last heartbeat of a registered worker `age` old at `now`, after others without a gap.
    ///
    /// The default sends them, which suits backends that use the worker's time.
    async fn age(&self, store: &Arc<dyn StateStore>, worker: WorkerId, now: Timestamp, age: Duration) {
        for before in (0..HEARTBEATS_BEFORE).rev() {
            heartbeat(store, worker, now.before(age + HEARTBEAT * before)).await;
        }
    }
}

/// Heartbeats before an aged one: more than a judge needs.
const HEARTBEATS_BEFORE: u32 = 2 * MISSED_HEARTBEATS;

impl AgeHeartbeats for () {}

/// Ends a task as completed.
pub fn finish(lease: Lease, now: Timestamp) -> Advance {
    Advance::new(lease, now, Step::Finish { outcome: Outcome::completed("done".into()), dead_letter: false })
}

/// Ends a task with an error and a dead letter.
pub fn give_up(lease: Lease, now: Timestamp) -> Advance {
    let outcome = Outcome::from_error(TaskError::new(ErrorCode::Internal, "broken"));
    Advance::new(lease, now, Step::Finish { outcome, dead_letter: true })
}

/// Returns a completed call without a price, at [`T0`].
pub fn ledger_row(task: TaskId, model: &str) -> LedgerRow {
    LedgerRow {
        call: CallId::generate(),
        task,
        agent: agent(),
        provider: ProviderKind::Openai,
        model: model.to_owned(),
        provider_call: None,
        status: CallStatus::Completed,
        usage: Usage::default(),
        cost: None,
        at: T0,
        duration_us: 0,
    }
}

/// Returns an open question, asked at [`T0`].
pub fn question(task: TaskId) -> Clarification {
    Clarification {
        id: ClarificationId::generate(),
        task,
        agent: agent(),
        scope: "step/a".to_owned(),
        question: "Which?".to_owned(),
        options: vec!["this".to_owned(), "that".to_owned()],
        asked_at: T0,
        expires_at: at(60),
        default: None,
        reply_to: None,
        resolution: None,
    }
}

/// Asks questions with a write whose transition is `step`.
pub async fn ask(store: &Arc<dyn StateStore>, lease: Lease, count: usize, step: Step) -> Vec<Clarification> {
    let questions: Vec<_> = (0..count).map(|_| question(lease.task)).collect();
    let mut write = Advance::new(lease, at(1), step);
    write.clarifications.clone_from(&questions);
    assert!(!store.advance(write.into()).await.unwrap().requeued);
    questions
}

/// Returns an event of [`T0`].
pub fn event(id: &str) -> Event {
    Event {
        id: id.to_owned(),
        source: "crm".to_owned(),
        kind: "ticket".to_owned(),
        topic: "customer.ticket.created".to_owned(),
        time: T0,
        trace_id: TraceId(1),
        parent: None,
        hops: 0,
        data: "hello".into(),
    }
}

/// Returns a schedule from a file, created at [`T0`].
pub fn schedule(name: &str, every_ms: u64) -> ScheduleRecord {
    ScheduleRecord {
        name: name.to_owned(),
        agent: agent(),
        from_file: true,
        spec: ScheduleSpec {
            timing: Timing::Interval { every_ms },
            input: "go".into(),
            timeout_ms: None,
            enabled: true,
            overlap: Overlap::Skip,
            catchup_ms: 0,
            jitter_ms: 0,
        },
        paused: false,
        last_slot: None,
        missed: 0,
        skipped: 0,
        created_at: T0,
    }
}

/// Returns a slot with a task, `seconds` after [`T0`].
pub fn firing(schedule: &str, seconds: i64, max_open: u32) -> Firing {
    let (schedule, slot) = (schedule.to_owned(), at(seconds));
    Firing { schedule, slot, task: Some(Arc::new(task(slot))), max_open, buffer: false, backfill: false }
}

/// Claims a session that must be available.
pub async fn take_session(
    store: &Arc<dyn StateStore>,
    worker: WorkerId,
    session: &SessionId,
    now: Timestamp,
) -> (ClaimedTask, SessionRecord) {
    match store.claim_session(worker, session, now).await.unwrap() {
        SessionClaim::Claimed { claimed, session } => (*claimed, *session),
        other => panic!("expected a claim, got {other:?}"),
    }
}

/// Returns a write that ends a turn with these messages.
pub fn turn(lease: Lease, session: &SessionRecord, now: Timestamp, texts: &[&str]) -> Advance {
    let messages = texts.iter().map(|text| Message::User { content: (*text).to_owned() }).collect();
    let session = SessionWrite { session: session.id.clone(), fence: session.fence, messages, summary: None };
    Advance { session: Some(session), ..finish(lease, now) }
}
