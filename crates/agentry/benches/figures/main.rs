//! The figures of BENCHMARKS.md, taken from outside: the shipped binary, real sockets, this process as the load.
//!
//! `cargo bench -p agentry --bench figures [-- NAME…]` with names from the list below; all of them without a name.
//! Every throughput is taken several times; the median stands with the least and the most. What is durable is durable:
//! SQLite with `synchronous=FULL` on the file system of the temporary folder.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and a fault in it should stop it")]
#![allow(missing_docs, reason = "a program")]

mod http;
mod load;
mod server;
mod sessions;
mod skeleton;
mod startup;

use std::time::Duration;

/// Rounds of each throughput.
const ROUNDS: usize = 3;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    println!("{}", machine());
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
    if is_wanted("sessions") {
        sessions::throughput(ROUNDS).await;
    }
    if is_wanted("long-session") {
        sessions::long().await;
    }
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("").trim_matches([' ', '\t', ':']);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "machine: {cores} cores, {model}; load average {}",
        std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim()
    )
}

/// Median, least and most.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let median = values[values.len() / 2];
    format!("{median:.0} [{:.0}..{:.0}]", values[0], values[values.len() - 1])
}
