//! The list of tasks when there are a million of them.

use std::time::{Duration, Instant};

use super::http::Connection;
use super::load::{batch, blast, noop};
use super::open_loop::Latencies;
use super::server::{Server, Simulator, agent};
use super::{at_most, load_average};

/// Tasks in a batch: one that fails, one of an agent that has little to do, and no-op tasks.
const BATCH: usize = 1_000;
/// Batches: a million tasks.
const BATCHES: u64 = 1_000;
/// Connections that send them.
const CONNECTIONS: usize = 4;
/// Requests of each kind that are timed.
const REQUESTS: usize = 500;
/// How long one kind is asked for at most: a slow one has fewer requests, and says so.
const WINDOW: Duration = Duration::from_secs(20);
/// Rows of a page.
const ROWS: usize = 50;
/// Pages of [`BATCH`] rows to where *deep* begins: nine tenths of the list.
const DEEP: u64 = BATCHES / 10 * 9;
/// In milliseconds, for the 95th percentile.
const GOAL: f64 = 50.0;

/// One page of the list, asked for again and again: what is looked for, and the rows that it has.
const FILTERS: [(&str, &str, usize); 7] = [
    ("first page", "", ROWS),
    ("of an agent with nearly all tasks", "&agent=noop", ROWS),
    ("of an agent with one in a thousand", "&agent=rare", ROWS),
    ("completed, nearly all", "&status=completed", ROWS),
    ("failed, one in a thousand", "&status=failed", ROWS),
    ("failed, of an agent with nearly all tasks, none of which failed", "&agent=noop&status=failed", 0),
    ("queued, none", "&status=queued", 0),
];

/// Pages of the list of a million ended tasks: the first, deep ones, and by what they are filtered.
pub async fn measure() {
    let sim = Simulator::start();
    let server = filled(&sim).await;
    let mut connection = server.connect().await;
    for (what, filter, rows) in FILTERS {
        let path = format!("/v1/tasks?limit={ROWS}{filter}");
        let (mut micros, began) = (Vec::new(), Instant::now());
        while micros.len() < REQUESTS && began.elapsed() < WINDOW {
            micros.push(page(&mut connection, &path, rows).await.0);
        }
        say(what, micros);
    }
    say("nine tenths deep, page after page", deep(&mut connection).await);
}

/// A server with a million tasks that have ended.
async fn filled(sim: &Simulator) -> Server {
    let mut agents = noop();
    agents.push(("rare".to_owned(), agent("rare", "autonomous", "simulated", "echo")));
    agents.push(("failing".to_owned(), agent("failing", "autonomous", "openai", "sim-small")));
    let server = Server::start(&agents, &["--sim-url", &sim.url]);
    let others = [("rare", "a task".to_owned()), ("failing", "[[fail:400]]".to_owned())];
    let many = (others.len()..BATCH).map(|number| ("noop", format!("task {number}")));
    let request = batch(others.into_iter().chain(many));
    let rate = blast(&server, &request, BATCHES, CONNECTIONS, BATCH as u64).await;
    println!("{} tasks, ended at {rate:.0}/s; {}", BATCHES * BATCH as u64, load_average());
    server
}

/// Asks for a page that must have so many rows: microseconds, and where the next one begins.
async fn page(connection: &mut Connection, path: &str, rows: usize) -> (u64, String) {
    let (took, body) = connection.timed(path).await;
    let page: serde_json::Value = serde_json::from_slice(body).unwrap();
    assert_eq!(page["items"].as_array().map(Vec::len), Some(rows), "{path}");
    (took.as_micros() as u64, page["next_cursor"].as_str().unwrap_or_default().to_owned())
}

/// Page after page by cursor, from deep in the list: microseconds of each.
async fn deep(connection: &mut Connection) -> Vec<u64> {
    let (_, mut cursor) = page(connection, &format!("/v1/tasks?limit={BATCH}"), BATCH).await;
    for _ in 1..DEEP {
        cursor = page(connection, &format!("/v1/tasks?limit={BATCH}&cursor={cursor}"), BATCH).await.1;
    }
    let mut micros = Vec::new();
    for _ in 0..REQUESTS {
        let (took, next) = page(connection, &format!("/v1/tasks?limit={ROWS}&cursor={cursor}"), ROWS).await;
        micros.push(took);
        cursor = next;
    }
    micros
}

fn say(what: &str, micros: Vec<u64>) {
    let count = micros.len();
    let times = Latencies::of(micros, count);
    println!("  {what}: {}; p95 {}; {}", times.text(), at_most(times.at(0.95), GOAL), load_average());
}
