//! How evenly work spreads over processes, and how soon a new one takes part.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::cluster_stage::Stage;
use super::http::post;
use super::load;
use super::server::{PATIENCE, Server, Simulator, agent};
use super::{at_most, load_average, median};

/// Workers that share the tasks.
const WORKERS: u64 = 5;
/// Equal tasks.
const TASKS: u64 = 3_000;
/// Processes that are added one after the other.
const ADDED: usize = 5;

/// One that is answered by the simulator over HTTP.
pub fn agents() -> Vec<(String, String)> {
    vec![("caller".to_owned(), agent("caller", "autonomous", "openai", "sim-small"))]
}

fn worker(stage: &Stage, name: &str, sim: &Simulator, more: &[&str]) -> Server {
    let mut arguments = vec!["--role", "worker", "--mode", "autonomous", "--sim-url", &sim.url];
    arguments.extend(more);
    stage.process(name, &arguments)
}

/// Equal tasks that take 20 ms each at the model.
fn batch(size: usize) -> Vec<u8> {
    let task = "{\"agent\":\"caller\",\"input\":\"equal work [[sleep:20]]\"}";
    post("/v1/tasks/batch", &format!("{{\"tasks\":[{}]}}", vec![task; size].join(",")))
}

/// Tasks by worker, with the usual number of slots and with few.
pub async fn fairness(stage: &Stage) {
    let sim = Simulator::start();
    for slots in ["1024", "32"] {
        stage.next_schema();
        let api = stage.process("api", &["--role", "api,scheduler"]);
        let workers: Vec<Server> =
            (0..WORKERS).map(|n| worker(stage, &format!("worker-{n}"), &sim, &["--slots", slots])).collect();
        api.wait("agentry_workers_alive", |alive| alive == WORKERS).await;
        let began = Instant::now();
        load::send_all(load::open(&api, 4).await, &batch(20), TASKS / 20).await;
        stage.drained(&api, TASKS).await;
        let took = began.elapsed().as_secs_f64();
        let counts = by_worker(stage).await;
        let mean = TASKS as f64 / WORKERS as f64;
        let deviation = counts.iter().map(|count| (*count as f64 - mean).abs()).fold(0.0, f64::max) / mean * 100.0;
        let all_took_part = if counts.len() as u64 == WORKERS { deviation } else { 100.0 };
        println!(
            "cluster-fairness, {TASKS} equal tasks over {WORKERS} workers of {slots} slots: largest deviation \
             {all_took_part:.1} % ({}); by worker {counts:?}; {took:.1} s; {}",
            at_most(all_took_part, 10.0),
            load_average()
        );
        drop(workers);
    }
}

/// How many tasks each worker ended.
async fn by_worker(stage: &Stage) -> Vec<i64> {
    let sql = format!("SELECT count(*) FROM {}.ended_tasks GROUP BY owner ORDER BY 1", stage.schema());
    stage.client.query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Start of a process to the end of its first task, while others are behind with a backlog.
pub async fn scale_up(stage: &Stage) {
    let sim = Simulator::start();
    stage.next_schema();
    let api = stage.process("api", &["--role", "api,scheduler"]);
    let slots: [&str; 2] = ["--slots", "8"];
    let mut workers = vec![worker(stage, "worker-0", &sim, &slots)];
    api.wait("agentry_workers_alive", |alive| alive == 1).await;
    load::send_all(load::open(&api, 4).await, &batch(200), 100).await;
    let mut millis = Vec::new();
    for number in 1..=ADDED {
        let added = worker(stage, &format!("worker-{number}"), &sim, &slots);
        millis.push(first_end(stage, &added).await);
        workers.push(added);
    }
    let behind = stage.count("SELECT count(*) FROM {schema}.open_tasks").await;
    assert!(behind > 0, "the backlog was gone before the last process came");
    let most = millis.iter().copied().fold(0.0, f64::max);
    println!(
        "cluster-scale-up, {ADDED} processes one after the other: {:.0} ms to the first finished task, most {most:.0} \
         ({}); {behind} tasks still open; {}",
        median(&millis),
        at_most(most, 1_000.0),
        load_average()
    );
}

/// Milliseconds from a process's start to the end of the first task that it ended, as the store has them.
async fn first_end(stage: &Stage, added: &Server) -> f64 {
    let schema = stage.schema();
    let sql = format!(
        "SELECT min(e.finished_at) FROM {schema}.ended_tasks e JOIN {schema}.workers w ON w.id = e.owner
         WHERE w.record LIKE $1"
    );
    let of_process = format!("%:{}\"%", added.pid());
    let began = Instant::now();
    loop {
        let row = stage.client.query_one(&sql, &[&of_process]).await.unwrap();
        if let Some(micros) = row.get::<_, Option<i64>>(0) {
            let spawned = since_epoch(added.spawned_at);
            return (Duration::from_micros(micros as u64).as_secs_f64() - spawned.as_secs_f64()) * 1_000.0;
        }
        assert!(began.elapsed() < PATIENCE, "an added process ended no task");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn since_epoch(moment: SystemTime) -> Duration {
    moment.duration_since(UNIX_EPOCH).unwrap_or_default()
}
