//! The figures of BENCHMARKS.md, taken from outside: the shipped binary, real sockets, this process as the load.
//!
//! `cargo bench -p agentry --bench figures [-- NAME…]` with names from the list below; all of them without a name, and
//! those of the cluster engine by `cluster`. Every throughput is taken several times; the median stands with the least
//! and the most. What is durable is durable: SQLite with `synchronous=FULL` on the file system of the temporary folder;
//! PostgreSQL, RabbitMQ and Redis as `cargo xtask services` finds or starts them.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and a fault in it should stop it")]
#![allow(missing_docs, reason = "a program")]

mod cluster_cpu;
mod cluster_events;
mod cluster_fairness;
mod cluster_load;
mod cluster_skeleton;
mod cluster_stage;
mod cluster_startup;
mod cluster_state;
mod collector;
mod first_paint;
mod http;
mod llm;
mod llm_streams;
mod load;
mod open_loop;
mod overhead;
mod schedules;
mod scrape;
mod server;
mod sessions;
mod skeleton;
mod slack;
mod startup;
mod task_list;

use std::process::ExitCode;
use std::time::Duration;

use cluster_stage::on_stage;

/// Rounds of each throughput.
const ROUNDS: usize = 3;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    println!("{}", machine());
    embedded(&|name| wanted.is_empty() || wanted.iter().any(|w| w == name)).await;
    let all_taken = cluster(&|name| wanted.is_empty() || wanted.iter().any(|w| w == name || w == "cluster")).await;
    if all_taken { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn embedded(is_wanted: &dyn Fn(&str) -> bool) {
    if is_wanted("startup") {
        for agents in [50, 1_000, 10_000] {
            startup::measure(agents).await;
        }
    }
    if is_wanted("idle") {
        startup::idle(1_000, Duration::from_secs(20)).await;
    }
    if is_wanted("batch") {
        load::batches(ROUNDS).await;
    }
    if is_wanted("single") {
        load::singles(ROUNDS).await;
    }
    if is_wanted("latency") {
        load::latency(500, Duration::from_secs(20)).await;
    }
    if is_wanted("models") {
        load::over_http(ROUNDS).await;
    }
    if is_wanted("llm-added") {
        llm::added(ROUNDS).await;
    }
    if is_wanted("llm-ten") {
        llm::ten_at_once(ROUNDS).await;
    }
    if is_wanted("llm-streams") {
        llm_streams::measure().await;
    }
    if is_wanted("sessions") {
        sessions::throughput(ROUNDS).await;
    }
    if is_wanted("long-session") {
        sessions::long().await;
    }
    if is_wanted("slack-ack") {
        slack::acknowledged().await;
    }
    if is_wanted("slack-answer") {
        slack::answered().await;
    }
    if is_wanted("schedules-second") {
        schedules::on_one_second().await;
    }
    if is_wanted("overhead") {
        overhead::measure().await;
    }
    if is_wanted("scrape") {
        scrape::measure().await;
    }
    if is_wanted("tasks-million") {
        task_list::measure().await;
    }
    if is_wanted("first-paint") {
        first_paint::measure().await;
    }
    if is_wanted("schedules-idle") {
        schedules::idle(100_000, Duration::from_secs(45)).await;
    }
}

/// Each on servers that are up. A figure that fails is said and does not keep the others from being taken.
async fn cluster(is_wanted: &dyn Fn(&str) -> bool) -> bool {
    let mut all_taken = true;
    if is_wanted("cluster-throughput") {
        all_taken &= on_stage(&load::noop(), cluster_load::throughput).await;
    }
    if is_wanted("cluster-latency") {
        all_taken &= on_stage(&load::noop(), cluster_load::latency).await;
    }
    if is_wanted("cluster-events") {
        all_taken &= on_stage(&cluster_events::agents(), cluster_events::measure).await;
    }
    if is_wanted("cluster-startup") {
        for agents in [50, 1_000, 10_000] {
            let measure = async |stage: &_| cluster_startup::measure(stage, agents).await;
            all_taken &= on_stage(&startup::fleet(agents), measure).await;
        }
    }
    if is_wanted("cluster-state") {
        all_taken &= on_stage(&[], cluster_state::measure).await;
    }
    if is_wanted("cluster-fairness") {
        all_taken &= on_stage(&cluster_fairness::agents(), cluster_fairness::fairness).await;
    }
    if is_wanted("cluster-scale-up") {
        all_taken &= on_stage(&cluster_fairness::agents(), cluster_fairness::scale_up).await;
    }
    if is_wanted("cluster-slack-ack") {
        all_taken &= on_stage(&slack::agents(), slack::acknowledged_by_cluster).await;
    }
    if is_wanted("cluster-schedules-second") {
        all_taken &= on_stage(&load::noop(), schedules::on_one_second_of_cluster).await;
    }
    all_taken
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("").trim_matches([' ', '\t', ':']);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("machine: {cores} cores, {model}; {}", load_average())
}

/// How busy the machine was in the last minute: figures of a machine shared with other work are read with it.
fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("load average {}", text.split(' ').next().unwrap_or_default())
}

/// Median, least and most.
fn spread(values: Vec<f64>) -> String {
    spread_to(0, values)
}

/// The same with so many digits after the point.
fn spread_to(digits: usize, mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let (median, least, most) = (values[values.len() / 2], values[0], values[values.len() - 1]);
    format!("{median:.digits$} [{least:.digits$}..{most:.digits$}]")
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Whether a goal to reach is met.
fn at_least(value: f64, goal: f64) -> String {
    let verdict = if value >= goal { "met".to_owned() } else { format!("missed: {:.0} %", value / goal * 100.0) };
    format!("goal >= {goal}: {verdict}")
}

/// Whether a goal to stay below is met.
fn at_most(value: f64, goal: f64) -> String {
    let verdict = if value <= goal { "met".to_owned() } else { format!("missed: {:.1} x", value / goal) };
    format!("goal <= {goal}: {verdict}")
}
