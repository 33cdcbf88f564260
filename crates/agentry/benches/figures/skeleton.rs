//! A bare skeleton of the same commits: two durable writes a task by one writer thread, nothing else.

use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// Tasks per second over the window: an insert, then an update, each group committed with `synchronous=FULL`.
pub fn rate(window: Duration) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let conn = rusqlite::Connection::open(dir.path().join("skeleton.db")).unwrap();
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE tasks (id INTEGER PRIMARY KEY, status INTEGER NOT NULL, body TEXT NOT NULL, result TEXT);",
    )
    .unwrap();
    // Clients hand over what a batch of them would: the insert of new tasks and the end of those before.
    let (sender, receiver) = sync_channel::<(u64, u64)>(64);
    let client = std::thread::spawn(move || {
        let began = Instant::now();
        let mut next = 0;
        while began.elapsed() < window {
            if sender.send((next, 200)).is_err() {
                return;
            }
            next += 200;
        }
    });
    let began = Instant::now();
    let mut ended = 0_u64;
    let mut open: Vec<(u64, u64)> = Vec::new();
    while let Ok(first) = receiver.recv() {
        let mut fresh = vec![first];
        while fresh.len() < 5
            && let Ok(more) = receiver.try_recv()
        {
            fresh.push(more);
        }
        let transaction = conn.unchecked_transaction().unwrap();
        {
            let mut update =
                transaction.prepare_cached("UPDATE tasks SET status = 3, result = ?2 WHERE id = ?1").unwrap();
            for (start, count) in open.drain(..) {
                for id in start..start + count {
                    update.execute((id as i64, "Simulated answer to: a task")).unwrap();
                }
                ended += count;
            }
            let body = "{\"agent\":\"noop\",\"input\":\"a task\",\"source\":\"api\",\"timeout\":300}";
            let mut insert = transaction.prepare_cached("INSERT INTO tasks VALUES (?1, 0, ?2, NULL)").unwrap();
            for (start, count) in &fresh {
                for id in *start..start + count {
                    insert.execute((id as i64, body)).unwrap();
                }
            }
        }
        transaction.commit().unwrap();
        open = fresh;
    }
    client.join().unwrap();
    ended as f64 / began.elapsed().as_secs_f64()
}
