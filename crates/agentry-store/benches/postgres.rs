//! Durable tasks per second on PostgreSQL: accept → claim → finish with a journal entry and a ledger row, and turns of
//! sessions; with the server's CPU time per task.
//!
//! The server is that of `AGENTRY_TEST_POSTGRES_URL`, or the usual one of this machine, where `/proc` shows its time
//! (whatever else uses the server counts, too). Run with
//! `cargo bench -p agentry-store --bench postgres`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints its figures and stops at the first fault"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentry_core::agent::{AgentName, ExecutionMode, ProviderKind};
use agentry_core::chat::{ChatReply, Message, StopReason, Usage};
use agentry_core::id::{CallId, TaskId, WorkerId};
use agentry_core::journal::{JournalBody, JournalEntry, Scope};
use agentry_core::money::{CallStatus, LedgerRow, NanoUsd};
use agentry_core::session::{SessionId, SessionWrite};
use agentry_core::task::{Outcome, Priority, Task, TaskSource, TraceId};
use agentry_core::time::Timestamp;
use agentry_store::postgres::{PostgresOptions, PostgresStore};
use agentry_store::{Advance, Lease, SessionClaim, StateStore, Step, Want};
use tokio_postgres::NoTls;

/// Time each figure is measured over.
const ROUND: Duration = Duration::from_secs(5);
/// Tasks per second of the paced round, as in the goal for latency.
const PACE: u64 = 500;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let url = std::env::var("AGENTRY_TEST_POSTGRES_URL")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned());
    for (clients, batch) in [(1, 1), (64, 1), (256, 1), (1_024, 1), (8, 100)] {
        let stage = Stage::new(&url).await;
        let what = format!("{clients} clients, {batch} at a time");
        measure(&what, &stage, clients, move |stage, end| async move {
            let mut done = 0;
            while Instant::now() < end {
                run(&stage, batch).await;
                done += batch as u64;
            }
            done
        })
        .await;
        stage.close(&url).await;
    }
    for clients in [1, 64, 256] {
        let stage = Stage::new(&url).await;
        measure(&format!("sessions, {clients} clients"), &stage, clients, |stage, end| async move {
            let session = SessionId::new(&stage.agent, &TaskId::generate().to_string());
            let mut done = 0;
            while Instant::now() < end {
                turn(&stage, &session).await;
                done += 1;
            }
            done
        })
        .await;
        stage.close(&url).await;
    }
    let stage = Stage::new(&url).await;
    paced(&stage).await;
    stage.close(&url).await;
}

/// Runs clients for a round and prints tasks per second and CPU time per task.
async fn measure<F, R>(what: &str, stage: &Arc<Stage>, clients: usize, client: F)
where
    F: Fn(Arc<Stage>, Instant) -> R,
    R: Future<Output = u64> + Send + 'static,
{
    let (start, server, own) = (Instant::now(), server_time(), ticks("/proc/self/stat"));
    let running: Vec<_> = (0..clients).map(|_| tokio::spawn(client(Arc::clone(stage), start + ROUND))).collect();
    let mut tasks = 0;
    for client in running {
        tasks += client.await.unwrap();
    }
    let elapsed = start.elapsed().as_secs_f64();
    let per_task = |seconds: f64| seconds * 1e6 / tasks as f64;
    println!(
        "{what}: {:.0} tasks/s; PostgreSQL {:.0} us, this process {:.0} us of CPU a task",
        tasks as f64 / elapsed,
        per_task(server_time() - server),
        per_task(ticks("/proc/self/stat") - own)
    );
}

/// Sends tasks at a fixed rate, whatever the answers take, and prints how long they took from their intended start.
async fn paced(stage: &Arc<Stage>) {
    let gap = Duration::from_secs(1) / u32::try_from(PACE).unwrap();
    let start = Instant::now();
    let mut running = Vec::new();
    for n in 0..u32::try_from(PACE * ROUND.as_secs()).unwrap() {
        let due = start + gap * n;
        tokio::time::sleep_until(due.into()).await;
        let stage = Arc::clone(stage);
        running.push(tokio::spawn(async move {
            run(&stage, 1).await;
            due.elapsed()
        }));
    }
    let mut took = Vec::new();
    for one in running {
        took.push(one.await.unwrap());
    }
    took.sort_unstable();
    let at = |part: f64| took[(took.len() as f64 * part) as usize].as_secs_f64() * 1e3;
    println!("{PACE} tasks/s: p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms", at(0.5), at(0.95), at(0.99));
}

struct Stage {
    store: Arc<dyn StateStore>,
    worker: WorkerId,
    agent: AgentName,
    schema: String,
}

impl Stage {
    async fn new(url: &str) -> Arc<Self> {
        let schema = format!("bench_{}", TaskId::generate().to_string().replace('-', ""));
        let options = PostgresOptions { schema: schema.clone(), ..PostgresOptions::new(url) };
        Arc::new(Self {
            store: Arc::new(PostgresStore::connect(options).await.unwrap()),
            worker: WorkerId::generate(),
            agent: AgentName::new("echo").unwrap(),
            schema,
        })
    }

    async fn close(self: Arc<Self>, url: &str) {
        let schema = self.schema.clone();
        drop(self);
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await.unwrap();
    }

    fn task(&self, session: Option<&SessionId>) -> Arc<Task> {
        Arc::new(Task {
            id: TaskId::generate(),
            agent: self.agent.clone(),
            mode: if session.is_some() { ExecutionMode::Continuous } else { ExecutionMode::Autonomous },
            input: "Summarise the ticket of the customer in one sentence.".into(),
            session: session.cloned(),
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

    fn finish(&self, lease: Lease) -> Advance {
        let (at, call) = (now(), CallId::generate());
        let usage = Usage { input_tokens: 12, output_tokens: 9, ..Usage::default() };
        let reply = ChatReply {
            content: "The customer cannot sign in.".to_owned(),
            tool_calls: Vec::new(),
            stop: StopReason::End,
            usage,
            model: "echo".to_owned(),
        };
        let outcome = Outcome::completed(reply.content.clone().into());
        let mut advance = Advance::new(lease, at, Step::Finish { outcome, dead_letter: false });
        advance.agent_version = Some("0123456789ab".into());
        let provider = ProviderKind::Simulated;
        let (cost, duration_us) = (Some(NanoUsd::ZERO), 10);
        let body =
            JournalBody::ModelCompleted { call, turn: 0, provider, reply, cost, duration_us, first_token_us: None };
        advance.journal.push(JournalEntry { seq: 1, attempt: 1, scope: Scope::MAIN, at, body });
        advance.ledger.push(LedgerRow {
            provider_call: None,
            call,
            task: lease.task,
            agent: self.agent.clone(),
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
}

/// Accepts, claims and finishes some tasks.
async fn run(stage: &Stage, count: usize) {
    let tasks: Vec<Arc<Task>> = (0..count).map(|_| stage.task(None)).collect();
    let ids = tasks.iter().map(|task| task.id).collect();
    let accepted = stage.store.accept(tasks).await.unwrap();
    assert!(accepted.iter().all(Result::is_ok));
    let claimed = stage.store.claim(stage.worker, Want::Known(ids), now()).await.unwrap();
    assert_eq!(claimed.len(), count);
    let ends = claimed.into_iter().map(|claimed| stage.store.advance(stage.finish(claimed.lease).into()));
    for end in futures_util::future::join_all(ends).await {
        end.unwrap();
    }
}

/// Sends a message to a session and answers it.
async fn turn(stage: &Stage, session: &SessionId) {
    let accepted = stage.store.accept(vec![stage.task(Some(session))]).await.unwrap();
    assert!(accepted[0].is_ok());
    let claim = stage.store.claim_session(stage.worker, session, now()).await.unwrap();
    let SessionClaim::Claimed { claimed, session: record } = claim else { panic!("nobody else claims: {claim:?}") };
    let mut end = stage.finish(claimed.lease);
    let text = "I cannot sign in since this morning.".to_owned();
    let messages = vec![Message::User { content: text.clone() }, Message::User { content: text }];
    end.session = Some(SessionWrite { session: session.clone(), fence: record.fence, messages, summary: None });
    stage.store.advance(end.into()).await.unwrap();
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_micros()).unwrap())
}

/// CPU seconds of all PostgreSQL processes of this machine so far; 0 where `/proc` does not exist.
fn server_time() -> f64 {
    let Ok(processes) = std::fs::read_dir("/proc") else { return 0.0 };
    let servers = processes
        .flatten()
        .map(|process| process.path())
        .filter(|path| std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == "postgres"));
    servers.map(|path| ticks(&path.join("stat").to_string_lossy())).sum()
}

/// User and system time of a `/proc` stat file in seconds; the kernel counts in hundredths (`USER_HZ`).
fn ticks(path: &str) -> f64 {
    let stat = std::fs::read_to_string(path).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (field(11) + field(12)) / 100.0
}
