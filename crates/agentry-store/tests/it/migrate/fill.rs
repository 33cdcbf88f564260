//! A store filled with some of everything that it can hold.

use std::sync::Arc;

use agentry_core::access::{ApiKey, AuditEntry, KeyHash};
use agentry_core::agent::{AgentName, AgentSpec, ExecutionMode};
use agentry_core::chat::Usage;
use agentry_core::clarification::{Clarification, Resolution};
use agentry_core::event::Event;
use agentry_core::fleet::AgentState;
use agentry_core::id::{AuditId, ClarificationId, KeyId, OutboxId, TaskId, WorkerId};
use agentry_core::journal::{JournalBody, JournalEntry, Scope};
use agentry_core::money::{CallStatus, LedgerRow, NanoUsd};
use agentry_core::outbox::{OutboxBody, OutboxMessage};

use agentry_core::session::{SessionId, Summary};
use agentry_core::task::{ErrorCode, Outcome, Priority, Task, TaskError, TraceId};
use agentry_core::trace::Trace;
use agentry_store::contract::build::{
    self, T0, accept, agent, at, claim, finish, heartbeat, keyed, message, running, take_session, task, worker,
};
use agentry_store::{
    Advance, AgentStatus, Delivery, Firing, IncomingEvent, Lease, ReplacePolicy, StateStore, Step, VersionOffer,
};
use serde_json::json;

/// Text that is not ASCII and that a `text` column of PostgreSQL rejects.
pub const ODD: &str = "zürich \u{1f980} nul\0 one\u{1}0 \\ \"quoted\"";
/// A name with special characters that PostgreSQL accepts.
pub const NAME: &str = "zürich \u{1f980} \\ \"quoted\"";
/// Idempotency key of one task, and the fingerprint of its request.
pub const KEY: (&str, u64) = ("order-7 ü", u64::MAX - 5);

/// Contents that a test checks later.
pub struct Filled {
    pub keyed: TaskId,
    /// A running task; its owner is registered, and dead on the other side.
    pub running: Lease,
    /// The only open question.
    pub open_question: ClarificationId,
    pub sessions: Vec<SessionId>,
    pub schedule: String,
    pub event: Event,
    pub spec: AgentSpec,
}

pub fn event(id: &str) -> Event {
    Event {
        source: format!("crm {ODD}"),
        time: at(3),
        trace_id: TraceId(u128::MAX),
        parent: Some("b7ad6b7169203331-00".parse().expect("a parent")),
        hops: 1,
        data: json!({"text": ODD}),
        ..build::event(id)
    }
}

pub fn firing(schedule: &str, seconds: i64, task: Option<Task>) -> Firing {
    Firing { task: task.map(Arc::new), ..build::firing(schedule, seconds, 0) }
}

fn spec() -> AgentSpec {
    AgentSpec {
        version: "0123456789ab".into(),
        description: Some(ODD.into()),
        system_prompt: ODD.into(),
        ..build::spec()
    }
}

fn entry(scope: Scope, text: &str) -> JournalEntry {
    let body = JournalBody::PlanRejected { problems: vec![text.to_owned()] };
    JournalEntry { seq: 0, attempt: 1, scope, at: at(1), body }
}

fn ledger_row(lease: Lease, model: &str, cost: Option<i64>, seconds: i64) -> LedgerRow {
    LedgerRow {
        status: if cost == Some(0) { CallStatus::Failed } else { CallStatus::Completed },
        usage: Usage {
            input_tokens: 1_000,
            output_tokens: 50,
            cached_tokens: 30,
            reasoning_tokens: 10,
            cache_write_tokens: 5,
            cache_write_1h_tokens: 6,
            ..Usage::default()
        },
        provider_call: (seconds % 2 == 0).then(|| format!("call {ODD}").into()),
        cost: cost.map(NanoUsd),
        at: at(seconds),
        duration_us: 1_234_567,
        ..build::ledger_row(lease.task, model)
    }
}

fn question(task: TaskId) -> Clarification {
    Clarification {
        question: ODD.to_owned(),
        options: vec!["this".to_owned(), ODD.to_owned()],
        asked_at: at(1),
        expires_at: at(3_600),
        ..build::question(task)
    }
}

fn callback(task: TaskId, seconds: i64) -> OutboxMessage {
    let body = OutboxBody::Callback { url: "https://example.com".to_owned(), payload: json!({"text": ODD}) };
    let (created_at, trace) = (at(seconds), Some(Trace::begin(7)));
    OutboxMessage { id: OutboxId::generate(), task: Some(task), created_at, trace, body }
}

/// Fills a store; times are between 0 and 40 s.
pub async fn fill(store: &Arc<dyn StateStore>) -> Filled {
    let dead = worker(store, at(1)).await;
    let keyed = queued(store).await;
    let running = in_progress(store, dead).await;
    ended(store, dead).await;
    let open_question = waiting(store, dead).await;
    let sessions = conversations(store, dead).await;
    let schedule = schedules(store).await;
    let event = event("1");
    for id in ["0", "1"] {
        store.accept_event(IncomingEvent::new(self::event(id), vec![Arc::new(task(at(4)))])).await.unwrap();
    }
    outbox(store, dead).await;
    let spec = fleet(store).await;
    access(store).await;
    Filled { keyed, running, open_question, sessions, schedule, event, spec }
}

/// Adds a valid key that was used, one that expires and was revoked, and an audit entry.
async fn access(store: &Arc<dyn StateStore>) {
    for (number, expires_at) in [(1, None), (2, Some(at(60)))] {
        let key = ApiKey {
            id: KeyId::from_parts(1_000 + u64::from(number), 0),
            name: ODD.to_owned(),
            hash: KeyHash([number; 32]),
            scope: agentry_core::access::Scope::Admin,
            created_at: T0,
            expires_at,
            last_used_at: None,
            revoked_at: None,
        };
        store.add_key(&key).await.unwrap();
    }
    store.record_key_use(KeyId::from_parts(1_001, 0), at(5)).await.unwrap();
    store.revoke_key(KeyId::from_parts(1_002, 0), at(6)).await.unwrap();
    let line = AuditEntry {
        id: AuditId::generate(),
        at: at(6),
        who: ODD.to_owned(),
        key: Some(KeyId::from_parts(1_001, 0)),
        action: "DELETE /v1/keys/{id}".to_owned(),
        target: ODD.to_owned(),
        status: 204,
        trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
    };
    store.audit(&line).await.unwrap();
}

/// Queues tasks with priorities, modes, a delay and a key, whose order in the queue is not that of their ids.
async fn queued(store: &Arc<dyn StateStore>) -> TaskId {
    let (early, late) = (task(T0), task(T0));
    accept(store, late).await;
    accept(store, early).await;
    for priority in [Priority::Low, Priority::High, Priority::Normal, Priority::High] {
        accept(store, Task { priority, input: json!({"text": ODD}), ..task(T0) }).await;
    }
    for mode in [ExecutionMode::Scheduled, ExecutionMode::Collaborative] {
        accept(store, Task { mode, budget: Some(NanoUsd(5)), ..task(T0) }).await;
    }
    let delayed = Arc::new(Task { not_before: Some(at(150)), ..task(T0) });
    let keyed = keyed(task(T0), KEY.0, KEY.1);
    let id = keyed.id;
    assert!(store.accept(vec![delayed, keyed]).await.unwrap().iter().all(Result::is_ok));
    id
}

/// Starts tasks: one that was recovered before, and one that is to be cancelled.
async fn in_progress(store: &Arc<dyn StateStore>, owner: WorkerId) -> Lease {
    let fallen = worker(store, T0).await;
    let lease = running(store, fallen).await.lease;
    store.deregister(fallen).await.unwrap();
    assert_eq!(store.recover(owner, at(1), 10).await.unwrap().len(), 1);
    let lease = claim(store, owner, lease.task, at(2)).await.unwrap().lease;
    let mut write = Advance::new(lease, at(3), Step::Continue);
    write.agent_version = Some("0123456789ab".into());
    write.journal = vec![entry(Scope::MAIN, ODD), entry(Scope::step(NAME), "plain")];
    write.ledger = vec![
        ledger_row(lease, "gpt", Some(100), 2),
        ledger_row(lease, ODD, None, 3),
        ledger_row(lease, "gpt", Some(0), 86_400),
    ];
    store.advance(write.into()).await.unwrap();
    running(store, WorkerId::generate()).await;
    let cancelled = running(store, owner).await.lease;
    store.cancel(cancelled.task, at(2), Vec::new()).await.unwrap();
    lease
}

/// Ends tasks in every way, and adds a retry and a release.
async fn ended(store: &Arc<dyn StateStore>, owner: WorkerId) {
    for number in 0..3 {
        let lease = running(store, owner).await.lease;
        let mut end = finish(lease, at(5));
        end.journal.push(entry(Scope::MAIN, "end"));
        end.ledger.push(ledger_row(lease, "gpt", Some(41_000), number));
        store.advance(end.into()).await.unwrap();
    }
    for code in [ErrorCode::Internal, ErrorCode::TimedOut, ErrorCode::Cancelled] {
        let lease = running(store, owner).await.lease;
        let outcome = Outcome::from_error(TaskError::new(code, ODD));
        store.advance(Advance::new(lease, at(6), Step::Finish { outcome, dead_letter: true }).into()).await.unwrap();
    }
    let idle = accept(store, task(T0)).await;
    store.cancel(idle, at(7), vec![callback(idle, 7)]).await.unwrap();
    let retried = running(store, owner).await.lease;
    store.advance(Advance::new(retried, at(8), Step::Retry { at: at(120) }).into()).await.unwrap();
    let back = running(store, owner).await.lease;
    store.advance(Advance::new(back, at(9), Step::Release).into()).await.unwrap();
}

/// Adds a waiting task with one answered and one open question, and an ended task with questions.
async fn waiting(store: &Arc<dyn StateStore>, owner: WorkerId) -> ClarificationId {
    let ended = running(store, owner).await.lease;
    let mut write = Advance::new(ended, at(1), Step::Continue);
    write.clarifications = vec![question(ended.task)];
    store.advance(write.into()).await.unwrap();
    store.advance(finish(ended, at(2)).into()).await.unwrap();
    let lease = running(store, owner).await.lease;
    let mut write = Advance::new(lease, at(4), Step::Wait);
    write.clarifications = vec![question(lease.task), question(lease.task)];
    let (answered, open) = (write.clarifications[0].id, write.clarifications[1].id);
    store.advance(write.into()).await.unwrap();
    let answer = Resolution::Answered { answer: ODD.to_owned(), by: "ada".to_owned(), at: at(5) };
    store.resolve(answered, answer).await.unwrap();
    open
}

/// Adds a session with turns and an inbox, one whose first task runs, one that is over, and one that never started.
async fn conversations(store: &Arc<dyn StateStore>, owner: WorkerId) -> Vec<SessionId> {
    let names = [NAME, "runs", "over", "not begun"].map(|key| SessionId::new(&agent(), key)).to_vec();
    for session in &names[..3] {
        for turn in 0..2 {
            accept(store, message(session, at(9))).await;
            let (claimed, record) = take_session(store, owner, session, at(10)).await;
            let mut end = build::turn(claimed.lease, &record, at(11 + turn), &[ODD, "plain"]);
            if let Some(write) = end.session.as_mut().filter(|_| turn == 1) {
                write.summary = Some(Summary { text: ODD.to_owned(), through: 2 });
            }
            store.advance(end.into()).await.unwrap();
        }
    }
    for session in [&names[0], &names[0], &names[1], &names[1], &names[3]] {
        accept(store, message(session, at(20))).await;
    }
    take_session(store, owner, &names[1], at(21)).await;
    names
}

async fn schedules(store: &Arc<dyn StateStore>) -> String {
    let name = format!("report {ODD}");
    for (schedule, every_ms) in [(name.as_str(), 5_000), ("paused", 7_000)] {
        let mut record = build::schedule(schedule, every_ms);
        (record.spec.input, record.spec.timeout_ms) = (ODD.into(), Some(9));
        store.put_schedules(vec![record]).await.unwrap();
    }
    let firings =
        vec![firing(&name, 5, Some(task(at(5)))), firing(&name, 10, Some(task(at(10)))), firing(&name, 15, None)];
    store.fire(firings, at(16)).await.unwrap();
    store.set_paused("paused", true, at(17)).await.unwrap();
    name
}

/// Adds messages that wait, were tried, are claimed or were given up, and decided dead letters.
async fn outbox(store: &Arc<dyn StateStore>, owner: WorkerId) {
    let mut sent = Vec::new();
    for seconds in [33, 31, 32, 30, 34] {
        let lease = running(store, owner).await.lease;
        let mut end = finish(lease, at(seconds));
        sent.push(callback(lease.task, seconds));
        end.outbox.push(sent[sent.len() - 1].clone());
        store.advance(end.into()).await.unwrap();
    }
    heartbeat(store, owner, at(35)).await;
    assert_eq!(store.claim_outbox(owner, at(35), 5, &[]).await.unwrap().len(), 5);
    let results = vec![
        (sent[0].id, Delivery::RetryAt(at(60))),
        (sent[1].id, Delivery::Dead(ODD.to_owned())),
        (sent[2].id, Delivery::Sent),
    ];
    store.settle_outbox(results, at(36)).await.unwrap();
    let letters = store.dead_letters(true, None, 10).await.unwrap().items;
    assert!(store.drop_dead_letter(letters[1].id).await.unwrap());
    assert!(store.replay_dead_letter(letters[2].id, Some(Arc::new(task(at(37)))), at(37)).await.unwrap());
}

async fn fleet(store: &Arc<dyn StateStore>) -> AgentSpec {
    let spec = spec();
    store.store_version(&spec).await.unwrap();
    let gone = AgentSpec { name: AgentName::new("gone").unwrap(), ..spec.clone() };
    let offer = |spec: &AgentSpec| VersionOffer { spec: Arc::new(spec.clone()), replaces: ReplacePolicy::Any };
    store.offer_versions(vec![offer(&spec), offer(&gone)], at(1)).await.unwrap();
    assert_eq!(store.remove_agents(vec![gone.name], at(2)).await.unwrap().len(), 1);
    let status = |agent, state, reason: Option<&str>| AgentStatus {
        agent,
        state,
        version: Some("0123456789ab".into()),
        restarts: 3,
        reason: reason.map(str::to_owned),
        since: at(2),
    };
    let ill = AgentName::new("reader").unwrap();
    let statuses = vec![status(agent(), AgentState::Healthy, None), status(ill, AgentState::Failed, Some(ODD))];
    store.put_agent_status(statuses).await.unwrap();
    spec
}
