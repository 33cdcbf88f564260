//! A thousand streams in one process: what they take of memory and processors while a model writes to each.

use std::time::{Duration, Instant};

use super::at_most;
use super::http::post;
use super::load::{open, send_all};
use super::server::{Server, Simulator, agent};

/// Streams at once.
const STREAMS: u64 = 1_000;
/// Tokens of each: at 60 a second the streams last longer than they are looked at.
const TOKENS: u64 = 2_400;
/// How long they are looked at.
const WINDOW: Duration = Duration::from_secs(15);

pub async fn measure() {
    // To the first token about 400 ms, then 60 tokens a second.
    let simulator = Simulator::with(&["--profile", "realistic"]);
    let agents = [("caller".to_owned(), agent("caller", "autonomous", "openai", "sim-small"))];
    let server = Server::start(&agents, &["--sim-url", &simulator.url]);
    let idle = server.pss_kib();
    let body = format!("{{\"agent\":\"caller\",\"input\":\"[[long:{TOKENS}]] tell me\",\"stream\":true}}");
    send_all(open(&server, 16).await, &post("/v1/tasks", &body), STREAMS).await;
    let labels = "{provider=\"openai\",model=\"sim-small\"}";
    server.wait(&format!("agentry_llm_calls_in_flight{labels}"), |count| count == STREAMS).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (began, cpu, sim_cpu) = (Instant::now(), server.cpu(), simulator.cpu());
    tokio::time::sleep(WINDOW).await;
    let took = began.elapsed().as_secs_f64();
    let cores = (server.cpu() - cpu).as_secs_f64() / took;
    let of_sim = (simulator.cpu() - sim_cpu).as_secs_f64() / took;
    let pss = server.pss_kib() as f64 / 1_024.0;
    // Still as many: nothing ended or failed while it was looked at.
    server.wait(&format!("agentry_llm_calls_in_flight{labels}"), |count| count == STREAMS).await;
    println!(
        "{STREAMS} streams at 60 tokens/s: {pss:.0} MiB ({:.0} MiB without; {}), {cores:.2} cores ({}); the simulator {of_sim:.2}",
        idle as f64 / 1_024.0,
        at_most(pss, 100.0),
        at_most(cores, 1.5)
    );
    server.drained().await;
}
