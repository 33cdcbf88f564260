//! What being watched costs: durable no-op tasks with logs, traces and scrapes, against the same with all of it off.
//!
//! At the level `info` no line is written for a task that goes well: the share of the logs is what it costs to be ready to
//! write one, and the bytes of log that are printed say so.

use std::time::Duration;

use super::collector::Collector;
use super::http::get;
use super::load::{blast, noop, single};
use super::server::{Server, folder_of};
use super::{at_most, load_average, median, spread, spread_to};

/// Pairs of rounds, one of each kind, in the order A B, B A, A B and so on: what drifts meets both alike.
const PAIRS: usize = 8;
/// Tasks of a round: about five seconds of them.
const TASKS: u64 = 90_000;
/// Tasks before a round, which are not counted.
const WARM_UP: u64 = 5_000;
/// Connections that post.
const CONNECTIONS: usize = 64;
/// How often metrics are scraped: fifteen times as often as Prometheus would by itself.
const SCRAPE_EVERY: Duration = Duration::from_secs(1);
/// The share of traces that has spans.
const SAMPLED: &str = "0.01";
/// What may be lost, in percent of the tasks per second.
const GOAL: f64 = 5.0;
/// What the server says goes here, beside its data.
const LOG: &str = "server.log";

/// One round: a server of its own on a new folder.
struct Round {
    /// Tasks per second.
    rate: f64,
    /// Microseconds of the server's processor time per task.
    cpu: f64,
    /// Bytes of its log.
    logged: u64,
}

/// Tasks per second of servers that are watched against those of servers that are not, in pairs of rounds.
pub async fn measure() {
    let collector = Collector::start().await;
    let (mut bare, mut watched) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        if pair % 2 == 0 {
            bare.push(unwatched_round().await);
            watched.push(watched_round(&collector).await);
        } else {
            watched.push(watched_round(&collector).await);
            bare.push(unwatched_round().await);
        }
    }
    say(&bare, &watched, &collector);
}

fn say(bare: &[Round], watched: &[Round], collector: &Collector) {
    let lost: Vec<f64> = bare.iter().zip(watched).map(|(a, b)| (1.0 - b.rate / a.rate) * 100.0).collect();
    let more: Vec<f64> = bare.iter().zip(watched).map(|(a, b)| (b.cpu / a.cpu - 1.0) * 100.0).collect();
    let rates = |rounds: &[Round]| spread(rounds.iter().map(|round| round.rate).collect());
    println!(
        "logs, metrics and traces of {SAMPLED}, {PAIRS} pairs of rounds: {} % fewer tasks/s ({}); {} % more processor time per \
         task; {} tasks/s with, {} without; {}",
        spread_to(1, lost.clone()),
        at_most(median(&lost), GOAL),
        spread_to(1, more),
        rates(watched),
        rates(bare),
        load_average(),
    );
    let (posts, bytes) = collector.seen();
    let logged: u64 = watched.iter().map(|round| round.logged).sum();
    println!("  all watched rounds: {posts} exports of {bytes} bytes, {logged} bytes of log");
}

/// Nothing is logged, exported or scraped, but for the looks at the end, which both kinds have, whether all have ended.
async fn unwatched_round() -> Round {
    round(&Server::spawn(folder_of(&noop()), &["--log", "off"], &[], Some(LOG))).await
}

async fn watched_round(collector: &Collector) -> Round {
    let logs = ["--log", "info", "--log-format", "json"];
    let traces =
        ["--otlp-endpoint", &collector.url, "--trace-sampler", "parentbased_traceidratio", "--trace-share", SAMPLED];
    let server = Server::spawn(folder_of(&noop()), &[&logs[..], &traces].concat(), &[], Some(LOG));
    tokio::select! {
        round = round(&server) => round,
        () = scrape(&server) => unreachable!("scraping does not end"),
    }
}

async fn round(server: &Server) -> Round {
    let request = single();
    blast(server, &request, WARM_UP, CONNECTIONS, 1).await;
    let before = server.cpu();
    let rate = blast(server, &request, TASKS, CONNECTIONS, 1).await;
    let cpu = (server.cpu() - before).as_secs_f64() * 1e6 / TASKS as f64;
    let logged = std::fs::read(server.dir.path().join(LOG)).unwrap().len() as u64;
    Round { rate, cpu, logged }
}

async fn scrape(server: &Server) {
    let mut connection = server.connect().await;
    loop {
        tokio::time::sleep(SCRAPE_EVERY).await;
        connection.send(&get("/metrics")).await;
    }
}
