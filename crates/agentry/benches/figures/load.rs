//! Durable no-op tasks: accept to persisted result.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use tokio::sync::Mutex;

use super::http::{Connection, post};
use super::server::{Server, agent, child, cpu_of};
use super::{skeleton, spread};

fn noop() -> Vec<(String, String)> {
    vec![("noop".to_owned(), agent("noop", "autonomous", "simulated", "echo"))]
}

fn batch_of(agent: &str, size: usize) -> Vec<u8> {
    let tasks: Vec<String> = (0..size).map(|n| format!("{{\"agent\":\"{agent}\",\"input\":\"task {n}\"}}")).collect();
    post("/v1/tasks/batch", &format!("{{\"tasks\":[{}]}}", tasks.join(",")))
}

/// Sends `requests` times the same bytes over `connections`, then waits until everything has ended. Tasks per second.
async fn blast(server: &Server, request: &[u8], requests: u64, connections: usize, tasks_each: u64) -> f64 {
    let left = Arc::new(AtomicU64::new(requests));
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(server.connect().await);
    }
    let began = Instant::now();
    let mut senders = Vec::new();
    for mut connection in open {
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
    server.drained().await;
    (requests * tasks_each) as f64 / began.elapsed().as_secs_f64()
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

pub async fn singles(rounds: usize) {
    let server = Server::start(&noop(), &[]);
    let request = post("/v1/tasks", "{\"agent\":\"noop\",\"input\":\"a task\"}");
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
    let (mut sim, address) = child(&["sim", "llm", "--listen", "127.0.0.1:0"]);
    let agents = [("caller".to_owned(), agent("caller", "autonomous", "openai", "sim-small"))];
    let server = Server::start(&agents, &["--sim-url", &format!("http://{address}/v1")]);
    blast(&server, &batch_of("caller", 200), 10, 4, 200).await;
    let (before, sim_before) = (server.cpu(), cpu_of(sim.id()));
    let mut rates = Vec::new();
    for _ in 0..rounds {
        rates.push(blast(&server, &batch_of("caller", 200), 200, 4, 200).await);
    }
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / (rounds as f64 * 40_000.0);
    println!(
        "every model call over HTTP: {} tasks/s; CPU per task: server {:.0} µs, simulator {:.0} µs",
        spread(rates),
        each(server.cpu() - before),
        each(cpu_of(sim.id()) - sim_before)
    );
    let _ = sim.kill();
    let _ = sim.wait();
}

/// Open loop: Poisson arrivals from a seed, latency from the intended moment to the answer that carries the result.
pub async fn latency(rate: u64, window: Duration) {
    let server = Server::start(&noop(), &[]);
    let request = Arc::new(post("/v1/tasks?wait=10", "{\"agent\":\"noop\",\"input\":\"a task\"}"));
    let mut idle: Vec<Connection> = Vec::new();
    for _ in 0..128 {
        idle.push(server.connect().await);
    }
    let idle = Arc::new(Mutex::new(idle));
    let micros = Arc::new(Mutex::new(Vec::new()));
    let (sender, mut due) = tokio::sync::mpsc::channel::<Instant>(100_000);
    // A thread of its own keeps time: the runtime's timers tick in milliseconds.
    let generator = std::thread::spawn(move || {
        let mut chance = rand::rngs::StdRng::seed_from_u64(7);
        let mut next = Instant::now() + Duration::from_millis(100);
        let end = next + window;
        while next < end {
            #[allow(clippy::disallowed_methods, reason = "this thread only keeps time")]
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            if sender.blocking_send(next).is_err() {
                return;
            }
            next += Duration::from_secs_f64(-chance.random::<f64>().max(1e-12).ln() / rate as f64);
        }
    });
    let mut running = Vec::new();
    while let Some(intended) = due.recv().await {
        let (idle, micros, request) = (Arc::clone(&idle), Arc::clone(&micros), Arc::clone(&request));
        let address = server.address.clone();
        running.push(tokio::spawn(async move {
            let connection = idle.lock().await.pop();
            let mut connection = match connection {
                Some(connection) => connection,
                None => Connection::open(&address).await,
            };
            let (status, _) = connection.send(&request).await;
            micros.lock().await.push((intended.elapsed().as_micros() as u64, status));
            idle.lock().await.push(connection);
        }));
    }
    generator.join().unwrap();
    for task in running {
        task.await.unwrap();
    }
    let mut all: Vec<u64> = micros.lock().await.iter().map(|(latency, _)| *latency).collect();
    let failed = micros.lock().await.iter().filter(|(_, status)| *status != 200).count();
    all.sort_unstable();
    let at = |quantile: f64| all[((all.len() - 1) as f64 * quantile) as usize] as f64 / 1_000.0;
    println!(
        "open loop {rate}/s for {} s: p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms, most {:.2} ms (n = {}, {failed} not ended in time)",
        window.as_secs(),
        at(0.5),
        at(0.95),
        at(0.99),
        at(1.0),
        all.len()
    );
}
