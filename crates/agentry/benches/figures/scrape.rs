//! `/metrics` of a large fleet, some of which has worked.

use std::time::Duration;

use super::load::{batch, send_all};
use super::open_loop::Latencies;
use super::server::{Server, Simulator};
use super::{at_most, load_average, startup};

/// Agents of the fleet.
const AGENTS: usize = 10_000;
/// Those that have traffic before, so that what is measured by agent is there.
const BUSY: usize = 200;
/// Batches with one task for each of these.
const BATCHES: u64 = 10;
/// Scrapes that are timed.
const SCRAPES: usize = 50;
/// Between two of them, so that each comes to a server at rest, as a scrape does.
const PAUSE: Duration = Duration::from_millis(100);
/// In milliseconds.
const TIME_GOAL: f64 = 50.0;
/// In bytes: 2 MB.
const SIZE_GOAL: f64 = 2e6;

/// How long a scrape takes until its last byte is here, and how large it is.
pub async fn measure() {
    let sim = Simulator::start();
    let fleet = startup::fleet(AGENTS);
    let server = Server::start(&fleet, &["--sim-url", &sim.url]);
    server.wait("agentry_agents{state=\"healthy\"}", |healthy| healthy == AGENTS as u64).await;
    let one_each = batch(fleet.iter().take(BUSY).map(|(name, _)| (name.as_str(), "a task".to_owned())));
    send_all(vec![server.connect().await], &one_each, BATCHES).await;
    server.drained().await;
    let (mut connection, mut micros, mut bytes) = (server.connect().await, Vec::new(), 0);
    for _ in 0..SCRAPES {
        tokio::time::sleep(PAUSE).await;
        let (took, body) = connection.timed("/metrics").await;
        micros.push(took.as_micros() as u64);
        bytes = bytes.max(body.len());
    }
    let times = Latencies::of(micros, SCRAPES);
    println!(
        "a scrape with {AGENTS} agents, {BUSY} of them with traffic: {}; p95 {}; {bytes} bytes, {}; {}",
        times.text(),
        at_most(times.at(0.95), TIME_GOAL),
        at_most(bytes as f64, SIZE_GOAL),
        load_average(),
    );
}
