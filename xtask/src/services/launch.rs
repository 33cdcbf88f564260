//! Starts an installed server for tests: own data, own free port, loopback only.

use std::time::{Duration, Instant};

use agentry_lab::{LabError, ProcessGroup, Server, ServerDir, Service, Signal};
use anyhow::{Result, bail};

use super::folder;
use super::state::StartedServer;
use crate::process::end;
use crate::say;
use crate::workspace::Workspace;

/// Attempts with another port if it was taken between the check and the start.
const PORT_ATTEMPTS: u32 = 3;
/// Timeout of a graceful stop: RabbitMQ stops its applications first.
const ENDS: Duration = Duration::from_secs(30);

/// Starts one. `remember` is told of its processes before anything is waited for, so that they can be ended even when
/// this command is interrupted.
pub async fn start(
    workspace: &Workspace,
    service: Service,
    remember: impl Fn(StartedServer) -> Result<()>,
) -> Result<StartedServer> {
    for attempt in 1..=PORT_ATTEMPTS {
        let begin = Instant::now();
        let dir = folder::fresh(workspace, service)?;
        let mut server = Server::launch(service, ServerDir::create(dir.clone(), service, ProcessGroup::Own)?).await?;
        let started = StartedServer { service, url: server.url(), processes: server.processes(), dir };
        remember(started.clone())?;
        let answered = server.answers().await;
        let port = server.port;
        server.detach();
        match answered {
            Ok(answer) => {
                let (version, took) = (answer.version.unwrap_or_default(), begin.elapsed().as_secs_f64());
                say(&format!("{}: started {version} on port {port} in {took:.1} s\n", service.name()));
                return Ok(started);
            }
            Err(error) => {
                stop(&started)?;
                if attempt == PORT_ATTEMPTS || !port_was_taken(&error) {
                    bail!("started, but {error}");
                }
            }
        }
    }
    bail!("no free port in {PORT_ATTEMPTS} attempts")
}

/// Ends one and removes its data.
pub fn stop(server: &StartedServer) -> Result<()> {
    // PostgreSQL waits for its clients on TERM; INT closes their connections.
    let ask = if server.service == Service::Postgres { Signal::INT } else { Signal::TERM };
    for process in server.processes.iter().filter(|process| !end(process, ask, ENDS)) {
        say(&format!("{}: process {} had to be killed\n", server.service.name(), process.id));
    }
    folder::remove(&server.dir)
}

fn port_was_taken(error: &LabError) -> bool {
    let said = error.to_string().to_ascii_lowercase();
    ["in use", "eaddrinuse"].iter().any(|words| said.contains(words))
}
