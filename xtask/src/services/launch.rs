//! Starts an installed server for tests: own data, own free port, loopback only.

mod postgres;
mod rabbitmq;
mod redis;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::ground::{self, Ground};
use super::probe;
use super::service::Service;
use super::state::Own;
use crate::place::{self, Place};
use crate::process::{Process, end, tail, wait_until};
use crate::say;

/// How often another port is taken when somebody was quicker between finding it free and listening on it.
const PORT_ATTEMPTS: u32 = 3;
/// RabbitMQ needs 8–10 s on two cores, several times that on a busy machine.
const RABBITMQ_STARTS: Duration = Duration::from_secs(120);
/// PostgreSQL listens within a second of initdb's end, Redis at once.
const OTHERS_START: Duration = Duration::from_secs(30);
/// How long a server may take to end after it was asked: RabbitMQ stops its applications first.
pub const ENDS: Duration = Duration::from_secs(30);

/// Starts one. `remember` is told of its processes before anything is waited for, so that they can be ended even when
/// this command is interrupted.
pub fn start(place: &Place, service: Service, mut remember: impl FnMut(Own) -> Result<()>) -> Result<Own> {
    for attempt in 1..=PORT_ATTEMPTS {
        let begin = Instant::now();
        let ground = Ground::fresh(place, service)?;
        let log = ground.dir.join("server.log");
        let port = place::free_port()?;
        let processes = match service {
            Service::Postgres => postgres::start(&ground, port, &log),
            Service::Redis => redis::start(&ground, port, &log),
            Service::Rabbitmq => rabbitmq::start(&ground, port, &log),
        }?;
        let own = Own { service, url: service.url(port), processes, dir: ground.dir };
        remember(own.clone())?;
        match await_answer(&own) {
            Ok(version) => {
                let took = begin.elapsed().as_secs_f64();
                say(&format!("{}: started {version} on port {port} in {took:.1} s\n", service.name()));
                return Ok(own);
            }
            Err(error) => {
                let said = tail(&log);
                stop(&own)?;
                if attempt == PORT_ATTEMPTS || !port_was_taken(&said) {
                    bail!("started, but {error:#}; the end of its log:\n{}", indent(&said));
                }
            }
        }
    }
    bail!("no free port in {PORT_ATTEMPTS} attempts")
}

/// Waits until it answers; its version.
fn await_answer(own: &Own) -> Result<String> {
    let limit = if own.service == Service::Rabbitmq { RABBITMQ_STARTS } else { OTHERS_START };
    let mut last = Ok(None);
    let mut ended = false;
    wait_until(limit, || {
        // Looked at before asking: an answer that comes after it ended would be somebody else's.
        ended = !own.processes.iter().all(Process::runs);
        last = probe::ask(own.service, &own.url).map(|answer| answer.version);
        ended || last.is_ok()
    });
    if ended {
        bail!("it ended by itself");
    }
    match last {
        Ok(version) => Ok(version.unwrap_or_default()),
        Err(error) => bail!("it did not answer within {} s: {error:#}", limit.as_secs()),
    }
}

/// Ends one and removes its data.
pub fn stop(own: &Own) -> Result<()> {
    // PostgreSQL waits for its clients on TERM; INT closes their connections.
    let ask = if own.service == Service::Postgres { "INT" } else { "TERM" };
    for process in &own.processes {
        if !end(process, ask, ENDS) {
            say(&format!("{}: process {} had to be killed\n", own.service.name(), process.id));
        }
    }
    ground::remove(&own.dir)
}

fn port_was_taken(log: &str) -> bool {
    ["in use", "eaddrinuse"].iter().any(|words| log.to_ascii_lowercase().contains(words))
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

/// The error for a program that is not there.
fn missing(program: &str, looked: &str) -> anyhow::Error {
    anyhow::anyhow!("`{program}` is not installed (looked on PATH and in {looked})")
}

/// Writes a file that the server reads.
fn write(path: &Path, text: &str) -> Result<()> {
    use anyhow::Context as _;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
