//! Durable tasks per second on PostgreSQL, and turns of sessions; with the server's CPU time per task.
//!
//! The server is that of `AGENTRY_TEST_POSTGRES_URL`, or the usual one of this machine, where `/proc` shows its time
//! (including that of other clients). Run with `cargo bench -p agentry-store --bench postgres`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints its figures and stops at the first fault"
)]

mod workload;

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentry_core::chat::Message;
use agentry_core::id::TaskId;
use agentry_core::session::{SessionId, SessionWrite};
use agentry_store::SessionClaim;
use agentry_store::contract::build;
use agentry_store::postgres::{PostgresOptions, PostgresStore};
use tokio_postgres::NoTls;

use workload::{ROUND, Workload, cpu_time, cpu_times, finish, now, of_usual_size, run_clients};

/// Tasks per second of the paced round, as in the goal for latency.
const PACE: u64 = 500;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    for (clients, batch) in [(1, 1), (64, 1), (256, 1), (1_024, 1), (8, 100)] {
        let stage = Stage::new().await;
        let client = |end| Arc::clone(&stage.workload).run_until(end, batch);
        measure(&format!("{clients} clients, {batch} at a time"), clients, client).await;
        stage.close().await;
    }
    for clients in [1, 64, 256] {
        let stage = Stage::new().await;
        measure(&format!("sessions, {clients} clients"), clients, |end| {
            let workload = Arc::clone(&stage.workload);
            let session = SessionId::new(&build::agent(), &TaskId::generate().to_string());
            async move {
                let mut done = 0;
                while Instant::now() < end {
                    turn(&workload, &session).await;
                    done += 1;
                }
                done
            }
        })
        .await;
        stage.close().await;
    }
    let stage = Stage::new().await;
    paced(&stage.workload).await;
    stage.close().await;
}

/// Runs clients for a round and prints tasks per second and CPU time per task.
async fn measure<R>(what: &str, clients: usize, client: impl Fn(Instant) -> R)
where
    R: Future<Output = u64> + Send + 'static,
{
    let server_time = || cpu_times("/proc", &["postgres"]).into_iter().sum::<f64>();
    let (server, own) = (server_time(), cpu_time("/proc/self/stat"));
    let (tasks, elapsed) = run_clients(clients, client).await;
    println!(
        "{what}: {:.0} tasks/s; PostgreSQL {:.0} us, this process {:.0} us of CPU a task",
        tasks / elapsed,
        (server_time() - server) * 1e6 / tasks,
        (cpu_time("/proc/self/stat") - own) * 1e6 / tasks
    );
}

/// Sends tasks at a fixed rate, whatever their latency, and prints the latency from their intended start.
async fn paced(workload: &Arc<Workload>) {
    let gap = Duration::from_secs(1) / u32::try_from(PACE).unwrap();
    let start = Instant::now();
    let mut running = Vec::new();
    for n in 0..u32::try_from(PACE * ROUND.as_secs()).unwrap() {
        let due = start + gap * n;
        tokio::time::sleep_until(due.into()).await;
        let workload = Arc::clone(workload);
        running.push(tokio::spawn(async move {
            workload.run(1).await;
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

/// A workload on a schema of its own.
struct Stage {
    workload: Arc<Workload>,
    schema: String,
}

impl Stage {
    async fn new() -> Self {
        let schema = format!("bench_{}", TaskId::generate().to_string().replace('-', ""));
        let options = PostgresOptions { schema: schema.clone(), ..PostgresOptions::new(url()) };
        Self { workload: Arc::new(Workload::new(PostgresStore::connect(options).await.unwrap())), schema }
    }

    async fn close(self) {
        drop(self.workload);
        let (client, connection) = tokio_postgres::connect(&url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&format!("DROP SCHEMA {} CASCADE", self.schema)).await.unwrap();
    }
}

fn url() -> String {
    std::env::var("AGENTRY_TEST_POSTGRES_URL")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned())
}

/// Sends a message to a session and answers it.
async fn turn(workload: &Workload, session: &SessionId) {
    let store = &workload.store;
    let accepted = store.accept(vec![Arc::new(of_usual_size(build::message(session, now())))]).await.unwrap();
    assert!(accepted[0].is_ok());
    let claim = store.claim_session(workload.worker, session, now()).await.unwrap();
    let SessionClaim::Claimed { claimed, session: record } = claim else { panic!("nobody else claims: {claim:?}") };
    let mut end = finish(claimed.lease);
    let text = "I cannot sign in since this morning.".to_owned();
    let messages = vec![Message::User { content: text.clone() }, Message::User { content: text }];
    end.session = Some(SessionWrite { session: session.clone(), fence: record.fence, messages, summary: None });
    store.advance(end.into()).await.unwrap();
}
