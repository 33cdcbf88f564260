//! Durable tasks per second on this machine, beside the bare skeleton of the same group commit.
//!
//! The skeleton writes one row at accept and one at the end of a task through a writer thread like the store's; the
//! store does accept → claim → finish with a journal entry and a ledger row. Run with `cargo bench -p agentry-store`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints its figures and stops at the first fault"
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use agentry_core::agent::{AgentName, ExecutionMode, ProviderKind};
use agentry_core::chat::{ChatReply, StopReason, Usage};
use agentry_core::id::{CallId, TaskId, WorkerId};
use agentry_core::journal::{JournalBody, JournalEntry, Scope};
use agentry_core::money::{CallStatus, LedgerRow, NanoUsd};
use agentry_core::task::{Outcome, Priority, Task, TaskSource, TraceId};
use agentry_core::time::Timestamp;
use agentry_store::sqlite::{SqliteOptions, SqliteStore};
use agentry_store::{Advance, Lease, StateStore, Step, Want};
use tokio::sync::oneshot;

/// Time each figure is measured over.
const ROUND: Duration = Duration::from_secs(5);
/// Clients that send one task at a time.
const SINGLE_CLIENTS: usize = 64;
/// Clients that send batches, and the length of a batch.
const BATCH_CLIENTS: usize = 8;
const BATCH: usize = 100;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let skeleton = measure("skeleton, 64 clients, two durable writes a task", SINGLE_CLIENTS, skeleton_client).await;
    let single = measure("store, 64 clients, one task at a time", SINGLE_CLIENTS, single_client).await;
    let batch = measure("store, 8 clients, batches of 100", BATCH_CLIENTS, batch_client).await;
    println!("ratio to the skeleton: {:.2} one at a time, {:.2} in batches", single / skeleton, batch / skeleton);
}

/// Runs clients for a round and prints tasks per second and the CPU time of the process per task.
async fn measure<F, R>(what: &str, clients: usize, client: F) -> f64
where
    F: Fn(Arc<Stage>, Instant) -> R,
    R: Future<Output = u64> + Send + 'static,
{
    let folder = tempfile::tempdir().unwrap();
    let stage = Arc::new(Stage::new(folder.path()));
    let (start, busy) = (Instant::now(), cpu_time());
    let running: Vec<_> = (0..clients).map(|_| tokio::spawn(client(Arc::clone(&stage), start + ROUND))).collect();
    let mut tasks = 0;
    for client in running {
        tasks += client.await.unwrap();
    }
    let elapsed = start.elapsed().as_secs_f64();
    let rate = tasks as f64 / elapsed;
    let writer = thread_time(&["store-writer", "skeleton"]);
    println!(
        "{what}: {rate:.0} tasks/s; writer {:.2} cores, process {:.2} cores",
        writer / elapsed,
        (cpu_time() - busy) / elapsed
    );
    rate
}

struct Stage {
    store: Arc<dyn StateStore>,
    skeleton: Skeleton,
    worker: WorkerId,
    agent: AgentName,
}

impl Stage {
    fn new(folder: &Path) -> Self {
        Self {
            store: Arc::new(SqliteStore::open(&folder.join("store"), SqliteOptions::default()).unwrap()),
            skeleton: Skeleton::start(folder),
            worker: WorkerId::generate(),
            agent: AgentName::new("echo").unwrap(),
        }
    }

    fn task(&self) -> Arc<Task> {
        Arc::new(Task {
            id: TaskId::generate(),
            agent: self.agent.clone(),
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

async fn single_client(stage: Arc<Stage>, end: Instant) -> u64 {
    let mut done = 0;
    while Instant::now() < end {
        run(&stage, 1).await;
        done += 1;
    }
    done
}

async fn batch_client(stage: Arc<Stage>, end: Instant) -> u64 {
    let mut done = 0;
    while Instant::now() < end {
        run(&stage, BATCH).await;
        done += BATCH as u64;
    }
    done
}

/// Accepts, claims and finishes some tasks.
async fn run(stage: &Stage, count: usize) {
    let tasks: Vec<Arc<Task>> = (0..count).map(|_| stage.task()).collect();
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

type Row = (i64, oneshot::Sender<()>);

/// One writer thread, one table, one row for each call, answered after the commit.
struct Skeleton {
    rows: std::sync::mpsc::SyncSender<Row>,
}

impl Skeleton {
    fn start(folder: &Path) -> Self {
        let conn = rusqlite::Connection::open(folder.join("skeleton.db")).unwrap();
        conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 8000")
            .unwrap();
        conn.execute_batch("CREATE TABLE rows (id INTEGER PRIMARY KEY, kind INTEGER, body TEXT)").unwrap();
        let (rows, waiting) = sync_channel::<Row>(10_000);
        let serve = move || {
            let body = "x".repeat(200);
            while let Ok(first) = waiting.recv() {
                let batch: Vec<Row> = std::iter::once(first).chain(waiting.try_iter().take(2_000)).collect();
                conn.execute_batch("BEGIN IMMEDIATE").unwrap();
                for (kind, _) in &batch {
                    conn.prepare_cached("INSERT INTO rows (kind, body) VALUES (?1, ?2)")
                        .unwrap()
                        .execute((kind, &body))
                        .unwrap();
                }
                conn.execute_batch("COMMIT").unwrap();
                batch.into_iter().for_each(|(_, reply)| reply.send(()).unwrap());
            }
        };
        std::thread::Builder::new().name("skeleton".to_owned()).spawn(serve).unwrap();
        Self { rows }
    }
}

async fn skeleton_client(stage: Arc<Stage>, end: Instant) -> u64 {
    let mut done = 0;
    while Instant::now() < end {
        for kind in 0..2 {
            let (reply, answer) = oneshot::channel();
            stage.skeleton.rows.send((kind, reply)).unwrap();
            answer.await.unwrap();
        }
        done += 1;
    }
    done
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_micros()).unwrap())
}

/// CPU seconds of this process so far; 0 where `/proc` does not exist.
fn cpu_time() -> f64 {
    ticks("/proc/self/stat")
}

/// CPU seconds of the busiest living thread with one of these names.
fn thread_time(names: &[&str]) -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let named = threads
        .flatten()
        .map(|thread| thread.path())
        .filter(|path| std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| names.contains(&comm.trim())));
    named.map(|path| ticks(&path.join("stat").to_string_lossy())).fold(0.0, f64::max)
}

/// User and system time of a `/proc` stat file in seconds; the kernel counts in hundredths (`USER_HZ`).
fn ticks(path: &str) -> f64 {
    let stat = std::fs::read_to_string(path).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (field(11) + field(12)) / 100.0
}
