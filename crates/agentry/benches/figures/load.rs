//! Durable no-op tasks: accept to persisted result.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::http::{Connection, Pool, post};
use super::open_loop::{self, Latencies};
use super::server::{Server, Simulator, agent};
use super::{skeleton, spread};

/// An agent whose answers cost nothing.
pub fn noop() -> Vec<(String, String)> {
    vec![("noop".to_owned(), agent("noop", "autonomous", "simulated", "echo"))]
}

/// A batch of equal tasks, ready to send.
pub fn batch_of(agent: &str, size: usize) -> Vec<u8> {
    batch((0..size).map(|n| (agent, format!("task {n}"))))
}

/// A batch of agents and what each is asked, without quotes.
pub fn batch<'a>(tasks: impl Iterator<Item = (&'a str, String)>) -> Vec<u8> {
    let tasks: Vec<String> =
        tasks.map(|(agent, input)| format!("{{\"agent\":\"{agent}\",\"input\":\"{input}\"}}")).collect();
    post("/v1/tasks/batch", &format!("{{\"tasks\":[{}]}}", tasks.join(",")))
}

/// Sends `requests` times the same bytes over `connections`, then waits until everything has ended. Tasks per second.
pub async fn blast(server: &Server, request: &[u8], requests: u64, connections: usize, tasks_each: u64) -> f64 {
    let connections = open(server, connections).await;
    let began = Instant::now();
    send_all(connections, request, requests).await;
    server.drained().await;
    (requests * tasks_each) as f64 / began.elapsed().as_secs_f64()
}

/// So many connections.
pub async fn open(server: &Server, connections: usize) -> Vec<Connection> {
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(server.connect().await);
    }
    open
}

/// Sends `requests` times the same bytes over some connections; each must be accepted.
pub async fn send_all(connections: Vec<Connection>, request: &[u8], requests: u64) {
    let left = Arc::new(AtomicU64::new(requests));
    let mut senders = Vec::new();
    for mut connection in connections {
        let (left, request) = (Arc::clone(&left), request.to_vec());
        senders.push(tokio::spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                let (status, body) = connection.send(&request).await;
                assert!(status == 200 || status == 202, "{status}: {}", String::from_utf8_lossy(body));
            }
        }));
    }
    for sender in senders {
        sender.await.unwrap();
    }
}

pub async fn batches(rounds: usize) {
    let server = Server::start(&noop(), &[]);
    blast(&server, &batch_of("noop", 200), 100, 4, 200).await;
    let (mut rates, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let before = server.cpu();
    for _ in 0..rounds {
        let skeleton = skeleton::rate(Duration::from_secs(3));
        let rate = blast(&server, &batch_of("noop", 200), 1_000, 4, 200).await;
        bare.push(skeleton);
        rates.push(rate);
        ratios.push(rate / skeleton * 100.0);
    }
    let cpu = (server.cpu() - before).as_secs_f64() * 1e6 / (rounds as f64 * 200_000.0);
    println!(
        "batches of 200, 4 connections: {} tasks/s; {cpu:.0} µs of server CPU per task; bare skeleton {} tasks/s; ratio {} %",
        spread(rates),
        spread(bare),
        spread(ratios)
    );
}

/// A task of its own, ready to send.
pub fn single() -> Vec<u8> {
    post("/v1/tasks", "{\"agent\":\"noop\",\"input\":\"a task\"}")
}

pub async fn singles(rounds: usize) {
    let server = Server::start(&noop(), &[]);
    let request = single();
    blast(&server, &request, 5_000, 64, 1).await;
    let before = server.cpu();
    let mut rates = Vec::new();
    for _ in 0..rounds {
        rates.push(blast(&server, &request, 60_000, 64, 1).await);
    }
    let cpu = (server.cpu() - before).as_secs_f64() * 1e6 / (rounds as f64 * 60_000.0);
    println!("single posts, 64 connections: {} tasks/s; {cpu:.0} µs of server CPU per task", spread(rates));
}

pub async fn over_http(rounds: usize) {
    let sim = Simulator::start();
    let agents = [("caller".to_owned(), agent("caller", "autonomous", "openai", "sim-small"))];
    let server = Server::start(&agents, &["--sim-url", &sim.url]);
    blast(&server, &batch_of("caller", 200), 10, 4, 200).await;
    let (before, sim_before) = (server.cpu(), sim.cpu());
    let mut rates = Vec::new();
    for _ in 0..rounds {
        rates.push(blast(&server, &batch_of("caller", 200), 200, 4, 200).await);
    }
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / (rounds as f64 * 40_000.0);
    println!(
        "every model call over HTTP: {} tasks/s; CPU per task: server {:.0} µs, simulator {:.0} µs",
        spread(rates),
        each(server.cpu() - before),
        each(sim.cpu() - sim_before)
    );
}

/// Open loop: latency from the intended moment to the answer that carries the result.
pub async fn latency(rate: u64, window: Duration) {
    let server = Server::start(&noop(), &[]);
    let latencies = results(&server, rate, window).await;
    println!("open loop {rate}/s for {} s: {}", window.as_secs(), latencies.text());
}

/// Posts that wait for their results, arriving in an open loop.
pub async fn results(server: &Server, rate: u64, window: Duration) -> Latencies {
    let request = Arc::new(post("/v1/tasks?wait=10", "{\"agent\":\"noop\",\"input\":\"a task\"}"));
    let pool = Pool::new(&server.address, open(server, 128).await);
    let ask = |_| {
        let (pool, request) = (pool.clone(), Arc::clone(&request));
        async move { pool.is_well(&request).await }
    };
    open_loop::run(rate, window, ask).await
}
