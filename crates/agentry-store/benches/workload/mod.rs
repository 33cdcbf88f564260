//! Workload of the store benchmarks: accept → claim → finish with a journal entry and a ledger row.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agentry_core::agent::ProviderKind;
use agentry_core::chat::{ChatReply, StopReason, Usage};
use agentry_core::id::WorkerId;
use agentry_core::journal::{JournalBody, JournalEntry, Scope};
use agentry_core::money::{LedgerRow, NanoUsd};
use agentry_core::task::{Outcome, Task};
use agentry_core::time::Timestamp;
use agentry_store::contract::build;
use agentry_store::{Advance, ClaimRequest, Lease, StateStore, Step};

/// Duration of each measurement.
pub const ROUND: Duration = Duration::from_secs(5);

pub struct Workload {
    pub store: Arc<dyn StateStore>,
    pub worker: WorkerId,
}

impl Workload {
    pub fn new(store: impl StateStore) -> Self {
        Self { store: Arc::new(store), worker: WorkerId::generate() }
    }

    /// Accepts, claims and finishes `count` tasks.
    pub async fn run(&self, count: usize) {
        let tasks: Vec<Arc<Task>> = (0..count).map(|_| Arc::new(of_usual_size(build::task(now())))).collect();
        let ids = tasks.iter().map(|task| task.id).collect();
        let accepted = self.store.accept(tasks).await.unwrap();
        assert!(accepted.iter().all(Result::is_ok));
        let claimed = self.store.claim(self.worker, ClaimRequest::Tasks(ids), now()).await.unwrap();
        assert_eq!(claimed.len(), count);
        let ends = claimed.into_iter().map(|claimed| self.store.advance(finish(claimed.lease).into()));
        for end in futures_util::future::join_all(ends).await {
            end.unwrap();
        }
    }

    /// Runs tasks, `batch` at a time, until `end`; returns their number.
    pub async fn run_until(self: Arc<Self>, end: Instant, batch: usize) -> u64 {
        let mut done = 0;
        while Instant::now() < end {
            self.run(batch).await;
            done += batch as u64;
        }
        done
    }
}

/// Runs clients for a round; returns the number of finished tasks and the elapsed time in seconds.
pub async fn run_clients<R>(clients: usize, client: impl Fn(Instant) -> R) -> (f64, f64)
where
    R: Future<Output = u64> + Send + 'static,
{
    let start = Instant::now();
    let running: Vec<_> = (0..clients).map(|_| tokio::spawn(client(start + ROUND))).collect();
    let mut tasks = 0;
    for client in running {
        tasks += client.await.unwrap();
    }
    (tasks as f64, start.elapsed().as_secs_f64())
}

/// Gives a task an input of the usual size.
pub fn of_usual_size(task: Task) -> Task {
    Task { input: "Summarise the ticket of the customer in one sentence.".into(), timeout_ms: 300_000, ..task }
}

/// Returns a write that ends a task after one model call.
pub fn finish(lease: Lease) -> Advance {
    let (at, provider, duration_us, cost) = (now(), ProviderKind::Simulated, 10, Some(NanoUsd::ZERO));
    let usage = Usage { input_tokens: 12, output_tokens: 9, ..Usage::default() };
    let content = "The customer cannot sign in.".to_owned();
    let outcome = Outcome::completed(content.clone().into());
    let reply = ChatReply {
        content,
        tool_calls: Vec::new(),
        stop: StopReason::End,
        usage,
        model: "echo".to_owned(),
        native: None,
    };
    let row = LedgerRow { provider, usage, cost, at, duration_us, ..build::ledger_row(lease.task, "echo") };
    let body = JournalBody::ModelCompleted {
        call: row.call,
        turn: 0,
        provider,
        reply,
        cost,
        duration_us,
        first_token_us: None,
    };
    let mut advance = Advance::new(lease, at, Step::Finish { outcome, dead_letter: false });
    advance.agent_version = Some("0123456789ab".into());
    advance.journal.push(JournalEntry { seq: 1, attempt: 1, scope: Scope::MAIN, at, body });
    advance.ledger.push(row);
    advance
}

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_micros()).unwrap())
}

/// Returns user and system time of a `/proc` stat file in seconds, or 0 where it does not exist; the kernel counts in
/// hundredths (`USER_HZ`).
pub fn cpu_time(path: &str) -> f64 {
    let stat = std::fs::read_to_string(path).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (field(11) + field(12)) / 100.0
}

/// Returns the CPU times of the processes or threads in a `/proc` folder whose command is one of `names`.
pub fn cpu_times(folder: &str, names: &[&str]) -> Vec<f64> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let named = entries
        .filter(|path| std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| names.contains(&comm.trim())));
    named.map(|path| cpu_time(&path.join("stat").to_string_lossy())).collect()
}
