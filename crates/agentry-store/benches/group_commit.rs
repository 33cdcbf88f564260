//! Durable tasks per second on this machine, beside the bare skeleton of the same group commit.
//!
//! The skeleton writes one row at accept and one at the end of a task through a writer thread like the store's; the
//! store runs the whole workload. Run with `cargo bench -p agentry-store --bench group_commit`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints its figures and stops at the first fault"
)]

mod workload;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use agentry_store::sqlite::{SqliteOptions, SqliteStore};
use tokio::sync::oneshot;

use workload::{Workload, cpu_time, cpu_times, run_clients};

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let skeleton = measure("skeleton, 64 clients, two durable writes a task", 64, |folder| {
        let skeleton = Arc::new(Skeleton::start(folder));
        move |end| Arc::clone(&skeleton).run_until(end)
    })
    .await;
    let mut ratios = Vec::new();
    for (clients, batch) in [(64, 1), (8, 100)] {
        let what = format!("store, {clients} clients, {batch} at a time");
        let rate = measure(&what, clients, |folder| {
            let workload = Arc::new(Workload::new(SqliteStore::open(folder, SqliteOptions::default()).unwrap()));
            move |end| Arc::clone(&workload).run_until(end, batch)
        });
        ratios.push(rate.await / skeleton);
    }
    println!("ratio to the skeleton: {:.2} one at a time, {:.2} in batches", ratios[0], ratios[1]);
}

/// Runs clients for a round; prints and returns tasks per second, and prints the CPU cores in use.
async fn measure<C, R>(what: &str, clients: usize, start: impl FnOnce(&Path) -> C) -> f64
where
    C: Fn(Instant) -> R,
    R: Future<Output = u64> + Send + 'static,
{
    let folder = tempfile::tempdir().unwrap();
    let client = start(folder.path());
    let busy = cpu_time("/proc/self/stat");
    let (tasks, elapsed) = run_clients(clients, &client).await;
    let writer = cpu_times("/proc/self/task", &["store-writer", "skeleton"]).into_iter().fold(0.0, f64::max);
    println!(
        "{what}: {:.0} tasks/s; writer {:.2} cores, process {:.2} cores",
        tasks / elapsed,
        writer / elapsed,
        (cpu_time("/proc/self/stat") - busy) / elapsed
    );
    tasks / elapsed
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

    async fn run_until(self: Arc<Self>, end: Instant) -> u64 {
        let mut done = 0;
        while Instant::now() < end {
            for kind in 0..2 {
                let (reply, answer) = oneshot::channel();
                self.rows.send((kind, reply)).unwrap();
                answer.await.unwrap();
            }
            done += 1;
        }
        done
    }
}
