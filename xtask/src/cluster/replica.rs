//! One process of a pool: started, asked whether it is ready, ended.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use agentry_lab::{ProcessIdentity, Signal, free_port, loopback, tail};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::pool::Pool;
use super::state::State;
use crate::process::{self, wait_until};
use crate::say;

/// The first process makes the tables and queues; the others wait for it. A second or two, more on a busy machine.
const READY: Duration = Duration::from_secs(60);
/// Timeout of a health check.
const ANSWER: Duration = Duration::from_secs(2);
/// Timeout of the end of a killed process.
const KILLED: Duration = Duration::from_secs(10);

/// A process of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    #[serde(with = "super::pool")]
    pub pool: &'static Pool,
    /// From 1; the highest are ended first.
    pub index: u32,
    pub port: u16,
    pub url: String,
    pub process: ProcessIdentity,
}

impl Replica {
    /// As Compose names containers.
    pub fn name(&self) -> String {
        format!("{}-{}", self.pool.service, self.index)
    }

    /// Readiness: `ready`, or the reason.
    pub fn condition(&self) -> String {
        if !self.process.runs() {
            return "ended by itself".to_owned();
        }
        match health(self.port) {
            Ok(200) => "ready".to_owned(),
            Ok(status) => format!("not ready ({status})"),
            Err(_) => "does not answer".to_owned(),
        }
    }
}

/// Starts one; it is not waited for.
pub fn start(state: &State, pool: &'static Pool, index: u32) -> Result<Replica> {
    let port = free_port()?;
    let mut command = Command::new(&state.binary);
    command.args(["serve", "--engine", "cluster", "--role", pool.roles, "--listen", &format!("127.0.0.1:{port}")]);
    if let Some(modes) = pool.modes {
        command.args(["--mode", modes]);
    }
    command.args(&state.flags).envs(&state.environment).current_dir(&state.root);
    let logs = state.logs();
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let process = process::start(&mut command, &logs.join(format!("{}-{index}.log", pool.service)))?;
    Ok(Replica { pool, index, port, url: format!("http://127.0.0.1:{port}"), process })
}

/// Waits until these are ready; an error shows what the first one that is not has said.
pub fn await_ready(state: &State, names: &[String]) -> Result<()> {
    let begin = Instant::now();
    let mut waiting: Vec<&Replica> = state.replicas.iter().filter(|replica| names.contains(&replica.name())).collect();
    let mut ended = false;
    wait_until(READY, || {
        waiting.retain(|replica| replica.condition() != "ready");
        ended = waiting.iter().any(|replica| !replica.process.runs());
        ended || waiting.is_empty()
    });
    let culprit = waiting.iter().find(|replica| !replica.process.runs()).or(waiting.first());
    if let Some(replica) = culprit {
        let log = state.logs().join(format!("{}.log", replica.name()));
        let (name, condition) = (replica.name(), replica.condition());
        let waited = begin.elapsed().as_secs();
        bail!("{name}: {condition} after {waited} s; the end of {}:\n{}", log.display(), tail(&log));
    }
    if !names.is_empty() {
        say(&format!("{} started and ready in {:.1} s\n", names.len(), begin.elapsed().as_secs_f64()));
    }
    Ok(())
}

/// Asks all of them to end, waits up to the grace period for all together, and kills what is left.
pub fn stop_all(replicas: &[Replica], grace: Duration) {
    let begin = Instant::now();
    for replica in replicas {
        replica.process.signal(Signal::TERM);
    }
    let mut running: Vec<&Replica> = replicas.iter().collect();
    wait_until(grace, || {
        running.retain(|replica| {
            let runs = replica.process.runs();
            if !runs {
                say(&format!("{} ended after {:.1} s\n", replica.name(), begin.elapsed().as_secs_f64()));
            }
            runs
        });
        running.is_empty()
    });
    for replica in running {
        say(&format!("{} did not end within {} s and is killed\n", replica.name(), grace.as_secs()));
        replica.process.signal(Signal::KILL);
        wait_until(KILLED, || !replica.process.runs());
    }
}

/// The status of `/health/ready`.
fn health(port: u16) -> Result<u16> {
    let mut stream = TcpStream::connect_timeout(&loopback(port), ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(b"GET /health/ready HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")?;
    // `HTTP/1.1 200`
    let mut line = [0; 12];
    stream.read_exact(&mut line)?;
    status_of(&line).context("this is not an HTTP answer")
}

fn status_of(line: &[u8]) -> Option<u16> {
    let (_minor, status) = std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.")?.split_once(' ')?;
    status.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read() {
        assert_eq!(status_of(b"HTTP/1.1 200"), Some(200));
        assert_eq!(status_of(b"HTTP/1.1 503"), Some(503));
        assert_eq!(status_of(b"SSH-2.0-Open"), None);
    }
}
