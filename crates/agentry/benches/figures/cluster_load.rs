//! Durable no-op tasks on the cluster engine: accept to persisted result, beside the bare skeleton in the same run.

use std::time::{Duration, Instant};

use super::cluster_cpu::Cpu;
use super::cluster_skeleton::Skeleton;
use super::cluster_stage::Stage;
use super::http::post;
use super::load;
use super::server::Server;
use super::{ROUNDS, at_least, at_most, load_average, median, spread};

/// Tasks per second that are asked for.
const RATE_GOAL: f64 = 10_000.0;
/// Milliseconds at 500/s that are asked for.
const LATENCY_GOAL: f64 = 5.0;
/// How long the skeleton is measured before each round.
const SKELETON_WINDOW: Duration = Duration::from_secs(3);

/// How requests come: what is sent, how often, over how many connections, and how many tasks each brings.
struct Traffic {
    name: &'static str,
    request: Vec<u8>,
    requests: u64,
    connections: usize,
    tasks_each: u64,
}

impl Traffic {
    fn batches() -> Self {
        let (name, request) = ("batches of 200, 4 connections", load::batch_of("noop", 200));
        Self { name, request, requests: 200, connections: 4, tasks_each: 200 }
    }

    fn singles() -> Self {
        let request = post("/v1/tasks", "{\"agent\":\"noop\",\"input\":\"a task\"}");
        Self { name: "single posts, 64 connections", request, requests: 20_000, connections: 64, tasks_each: 1 }
    }

    fn tasks(&self) -> u64 {
        self.requests * self.tasks_each
    }
}

/// The processes of a deployment, the one that takes requests first.
type Deployment = Vec<(&'static str, Server)>;

fn one_process(stage: &Stage) -> Deployment {
    vec![("all roles", stage.process("all", &[]))]
}

fn api_and_two_workers(stage: &Stage) -> Deployment {
    let worker = |name: &'static str| (name, stage.process(name, &["--role", "worker", "--mode", "autonomous"]));
    let api = ("api", stage.process("api", &["--role", "api,scheduler"]));
    vec![api, worker("worker-1"), worker("worker-2")]
}

/// Both deployments, both kinds of traffic.
pub async fn throughput(stage: &Stage) {
    let skeleton = Skeleton::start(stage).await;
    skeleton.rate(Duration::from_secs(1)).await;
    for (name, deploy) in
        [("one process", one_process as fn(&Stage) -> Deployment), ("api + 2 workers", api_and_two_workers)]
    {
        stage.next_schema();
        let deployment = deploy(stage);
        ready(&deployment).await;
        let mut accepted = 0;
        for traffic in [Traffic::batches(), Traffic::singles()] {
            measure(stage, name, &deployment, &traffic, &skeleton, &mut accepted).await;
        }
    }
}

/// Waits until the agent can be given work.
async fn ready(deployment: &Deployment) {
    deployment[0].1.wait("agentry_agents{state=\"healthy\"}", |healthy| healthy == 1).await;
    let workers = deployment.len().saturating_sub(1).max(1) as u64;
    deployment[0].1.wait("agentry_workers_alive", |alive| alive == workers).await;
}

async fn measure(
    stage: &Stage,
    name: &str,
    deployment: &Deployment,
    traffic: &Traffic,
    skeleton: &Skeleton,
    accepted: &mut u64,
) {
    let server = &deployment[0].1;
    let warm = Traffic { requests: traffic.requests / 10, request: traffic.request.clone(), ..*traffic };
    send(stage, server, &warm, accepted).await;
    let processes: Vec<(&str, &Server)> = deployment.iter().map(|(name, server)| (*name, server)).collect();
    let (mut rates, mut bare, mut ratios, mut cpu) = (Vec::new(), Vec::new(), Vec::new(), Cpu::default());
    let mut unsent = 0;
    for _ in 0..ROUNDS {
        let skeleton = skeleton.rate(SKELETON_WINDOW).await;
        let before = Cpu::now(stage, &processes).await;
        let rate = send(stage, server, traffic, accepted).await;
        unsent = stage.count("SELECT count(*) FROM {schema}.outbox").await.max(unsent);
        relayed(stage).await;
        cpu.add(&before, &Cpu::now(stage, &processes).await);
        bare.push(skeleton);
        ratios.push(rate / skeleton * 100.0);
        rates.push(rate);
    }
    println!(
        "cluster-throughput, {name}, {}: {} tasks/s ({}); bare skeleton {} tasks/s; ratio {} % (goal 50); {}; at most \
         {unsent} results unsent at the end of a round; {}",
        traffic.name,
        spread(rates.clone()),
        at_least(median(&rates), RATE_GOAL),
        spread(bare),
        spread(ratios),
        cpu.per_task(traffic.tasks() * ROUNDS as u64),
        load_average()
    );
}

/// Sends everything and waits until it has ended. Tasks per second.
async fn send(stage: &Stage, server: &Server, traffic: &Traffic, accepted: &mut u64) -> f64 {
    let connections = load::open(server, traffic.connections).await;
    let began = Instant::now();
    load::send_all(connections, &traffic.request, traffic.requests).await;
    *accepted += traffic.tasks();
    stage.wait(server, |queued, running| queued == 0 && running == 0).await;
    let rate = traffic.tasks() as f64 / began.elapsed().as_secs_f64();
    stage.drained(server, *accepted).await;
    rate
}

/// Waits until the results have been published, too: their cost belongs to the tasks.
async fn relayed(stage: &Stage) {
    let began = Instant::now();
    while stage.count("SELECT count(*) FROM {schema}.outbox").await > 0 {
        assert!(began.elapsed() < super::server::PATIENCE, "the outbox does not empty");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Both deployments and the skeleton in an open loop.
pub async fn latency(stage: &Stage) {
    const RATE: u64 = 500;
    let window = Duration::from_secs(20);
    let skeleton = Skeleton::start(stage).await;
    for (name, deploy) in
        [("one process", one_process as fn(&Stage) -> Deployment), ("api + 2 workers", api_and_two_workers)]
    {
        stage.next_schema();
        let deployment = deploy(stage);
        ready(&deployment).await;
        let bare = skeleton.latency(RATE, Duration::from_secs(10)).await;
        load::results(&deployment[0].1, RATE / 5, Duration::from_secs(2)).await;
        let latencies = load::results(&deployment[0].1, RATE, window).await;
        println!(
            "cluster-latency, {name}, {RATE}/s for {} s: {}; p95 {}; bare skeleton p50 {:.2}, p95 {:.2} ms; {}",
            window.as_secs(),
            latencies.text(),
            at_most(latencies.at(0.95), LATENCY_GOAL),
            bare.at(0.5),
            bare.at(0.95),
            load_average()
        );
    }
}
