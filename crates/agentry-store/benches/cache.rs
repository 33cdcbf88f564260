//! Latency of reads through the cache: hits, misses with their fill, and the store alone, each offered 500 times a
//! second by a clock, so a late answer does not delay the next read. The clock ticks in milliseconds, so a read is
//! timed from its start.
//!
//! Run `cargo bench -p agentry-store --bench cache` with Redis at `AGENTRY_TEST_REDIS_URL`, or else on the standard
//! port. The store behind the cache is SQLite on disk.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints what it measures")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentry_core::id::{TaskId, WorkerId};
use agentry_store::cache::{CachedStore, RedisOptions};
use agentry_store::contract::T0;
use agentry_store::contract::advance::entry;
use agentry_store::contract::build::{accept, claim, finish, task};
use agentry_store::sqlite::{SqliteOptions, SqliteStore};
use agentry_store::{Advance, StateStore, Step};

/// Number of reads of each kind; at 500/s they take 5 s.
const READS: usize = 2_500;
const INTERVAL: Duration = Duration::from_millis(2);
/// Journal entries per task.
const ENTRIES: u32 = 4;
/// Measurements of each kind; the median is quoted.
const ROUNDS: usize = 3;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn StateStore> = Arc::new(SqliteStore::open(folder.path(), SqliteOptions::default()).unwrap());
    let url = std::env::var("AGENTRY_TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    println!("{READS} reads of a task at 500/s; microseconds: p50 p95 p99 max");
    for round in 1..=ROUNDS {
        let tasks = ended(&store).await;
        let mut options = RedisOptions::new(&url).unwrap();
        options.prefix = format!("agentry-bench-{}", TaskId::generate());
        // The keys expire by themselves.
        options.ttl = Duration::from_secs(120);
        let cache = CachedStore::connect(Arc::clone(&store), options);
        let began = Instant::now();
        while !cache.stats().connected {
            assert!(began.elapsed() < Duration::from_secs(10), "no Redis at {url}: run `cargo xtask services`");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let cache: Arc<CachedStore> = Arc::new(cache);
        measure(round, "store alone", Arc::clone(&store), &tasks).await;
        measure(round, "miss and fill", cache.clone(), &tasks).await;
        // The last entries are still being written.
        tokio::time::sleep(Duration::from_millis(500)).await;
        measure(round, "hit", cache.clone(), &tasks).await;
        let stats = cache.stats();
        let (reads, openings) = (stats.tasks, stats.breaker_openings);
        println!("  round {round}  {reads:?}, breaker openings: {openings}");
    }
}

/// Creates ended tasks with a few journal entries each.
async fn ended(store: &Arc<dyn StateStore>) -> Vec<TaskId> {
    let one = || async {
        let id = accept(store, task(T0)).await;
        let lease = claim(store, WorkerId::generate(), id, T0).await.unwrap().lease;
        let mut write = Advance::new(lease, T0, Step::Continue);
        write.journal = (1..=ENTRIES).map(entry).collect();
        store.advance(write.into()).await.unwrap();
        store.advance(finish(lease, T0).into()).await.unwrap();
        id
    };
    futures_util::future::join_all((0..READS).map(|_| one())).await
}

/// Reads each task once, at its scheduled time.
async fn measure(round: usize, name: &str, store: Arc<dyn StateStore>, tasks: &[TaskId]) {
    let start = Instant::now() + INTERVAL;
    let reads = tasks.iter().zip(1u32..).map(|(id, number)| {
        let (store, id, due) = (Arc::clone(&store), *id, start + INTERVAL * number);
        tokio::spawn(async move {
            tokio::time::sleep_until(due.into()).await;
            let began = Instant::now();
            assert!(store.task(id).await.unwrap().is_some());
            began.elapsed()
        })
    });
    let reads: Vec<_> = reads.collect();
    let mut took = Vec::with_capacity(tasks.len());
    for read in reads {
        took.push(read.await.unwrap());
    }
    took.sort_unstable();
    let us = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_micros();
    println!("  round {round}  {name:<14} {:>6} {:>6} {:>6} {:>6}", us(0.5), us(0.95), us(0.99), us(1.0));
}
