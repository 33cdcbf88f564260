//! A stalled server shows in the percentiles; a stalled load generator makes the run invalid.

#![allow(clippy::disallowed_methods, reason = "test threads that wait for processes")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use agentry_bench::load::{Fixed, Load, get, start};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::suite::{Ending, Verdict, bench};

/// Duration of the stall.
const HALT: Duration = Duration::from_secs(5);
/// Timeout of every wait.
const LIMIT: Duration = Duration::from_secs(120);

fn send(process: &Ending, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(process.0.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Polls until a condition that must come true does.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < LIMIT, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns the address in a log.
fn address(log: &Path) -> Option<String> {
    let text = std::fs::read_to_string(log).ok()?;
    let (_, rest) = text.split_once("listening on http://")?;
    Some(rest.split_once('\n')?.0.trim().to_owned())
}

fn serve(folder: &TempDir) -> (Ending, String) {
    let agents = folder.path().join("agents");
    std::fs::create_dir(&agents).unwrap();
    let log = folder.path().join("log");
    let out = std::fs::File::create(&log).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_agentry-mutant"));
    // Settings for tests are not settings of the server.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AGENTRY_")) {
        command.env_remove(name);
    }
    command.args(["serve", "--listen", "127.0.0.1:0", "--agents", "agents", "--data", "data"]);
    command.current_dir(folder.path()).stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
    let mut child = Ending(command.spawn().unwrap());
    let address = until("the server's address", || {
        let ended = child.0.try_wait().unwrap();
        assert!(ended.is_none(), "the server ended: {}", std::fs::read_to_string(&log).unwrap());
        address(&log)
    });
    (child, address)
}

#[tokio::test]
async fn five_seconds_of_a_frozen_server_are_in_its_percentiles() {
    let folder = tempfile::tempdir().unwrap();
    let (server, address) = serve(&folder);
    let window = Duration::from_secs(15);
    let mut load = Load::open(address.parse().unwrap(), 100.0, window, 1);
    load.patience = LIMIT;
    let running = start(load, Fixed(get(&address, "/health/live"))).unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    send(&server, Signal::STOP);
    tokio::time::sleep(HALT).await;
    send(&server, Signal::CONT);
    let (seen, _) = running.end().await.unwrap();
    // A third of all arrivals fell into the stall: the median of them waited half of it, the first the whole.
    assert_eq!((seen.failed(), seen.ok), (0, seen.offered), "{seen:?}");
    assert!(seen.ms(0.99) > 4_000.0, "p99 {} ms", seen.ms(0.99));
    assert!(seen.ms(0.80) > 1_000.0, "p80 {} ms", seen.ms(0.80));
    assert!(seen.ms(0.50) < 1_000.0, "p50 {} ms", seen.ms(0.50));
}

/// Returns the logs of the platform's processes that the suite started.
fn logs(folder: &TempDir) -> Vec<PathBuf> {
    let deployments = std::fs::read_dir(folder.path()).unwrap().flatten();
    let ours = deployments.filter(|entry| entry.file_name().to_string_lossy().starts_with("agentry-bench-"));
    ours.map(|entry| entry.path().join("agentry-1.log")).filter(|log| log.exists()).collect()
}

#[test]
fn a_generator_that_stood_still_proves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let child = bench(None, &["3.1"], &folder).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut suite = Ending(child);
    let address = until("the platform under test", || logs(&folder).iter().find_map(|log| address(log)));
    // The server is under load once it has accepted some hundred events.
    until("events", || events(&address).filter(|count| *count > 300.0));
    send(&suite, Signal::STOP);
    std::thread::sleep(Duration::from_secs(2));
    send(&suite, Signal::CONT);
    let status = until("the end of the run", || suite.0.try_wait().unwrap());
    let verdict = Verdict::read(status.code().unwrap(), folder.path());
    let found = verdict.verdicts();
    assert!(found.iter().any(|verdict| verdict == "invalid"), "{found:?}");
    assert!(!found.iter().any(|verdict| verdict == "pass"), "{found:?}");
    assert_eq!(verdict.exit, 3, "{found:?}");
}

/// Returns the number of events that a server has accepted.
fn events(address: &str) -> Option<f64> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let lines = text.lines().filter(|line| line.starts_with("agentry_http_requests_total{") && line.contains("events"));
    Some(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}
