//! Measures how long a directory of agent files takes to load: `cargo run --release -p agentry-config --example load_fleet -- DIR`.

use std::io::Write as _;
use std::time::Instant;

use agentry_config::FleetLoader;
use agentry_core::fleet::Fleet;

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

fn main() -> std::io::Result<()> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "agents".to_owned());
    let mut loader = FleetLoader::new(dir.as_ref());
    let before = resident_kib();
    let mut fleet = Fleet::default();
    let mut out = std::io::stdout().lock();
    for round in ["first", "again"] {
        let start = Instant::now();
        let loaded = loader.load(&fleet).map_err(std::io::Error::other)?;
        let ms = start.elapsed().as_secs_f64() * 1e3;
        fleet = loaded.fleet;
        let (agents, wrong) = (fleet.len(), loaded.problems.len());
        let grown = resident_kib().saturating_sub(before);
        writeln!(out, "{round}: {agents} agents, {wrong} problems, {ms:.1} ms, {grown} KiB more resident")?;
    }
    Ok(())
}
