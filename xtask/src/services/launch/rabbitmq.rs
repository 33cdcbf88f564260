//! RabbitMQ: a node with its own name, cookie, data and port mapper, unknown to every other Erlang node.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use super::{missing, write};
use crate::place::{executable, free_port, versions_in};
use crate::process::{self, Process, end, wait_until};
use crate::services::ground::Ground;

/// epmd listens at once; without it the node would start one of its own that nobody ends.
const EPMD_LISTENS: Duration = Duration::from_secs(10);
/// Erlang's distribution stays on loopback.
const ERLANG: &str = "-kernel inet_dist_use_interface {127,0,0,1}";

pub fn start(ground: &Ground, port: u16, log: &Path) -> Result<Vec<Process>> {
    // The script itself: Debian's wrapper in /usr/sbin only serves root and switches to the system's own node.
    let mut folders: Vec<PathBuf> = versions_in("/usr/lib/rabbitmq/lib", "rabbitmq_server-");
    folders.iter_mut().for_each(|folder| folder.push("sbin"));
    folders.extend(["/usr/lib/rabbitmq/bin".into(), "/usr/local/sbin".into(), "/opt/homebrew/sbin".into()]);
    let server = executable("rabbitmq-server", &folders)
        .ok_or_else(|| missing("rabbitmq-server", "/usr/lib/rabbitmq and /usr/local/sbin"))?;
    let (epmd, mapper_port) = start_epmd(ground)?;

    let node = start_node(ground, &server, port, mapper_port, log);
    match node {
        // The node goes first: it takes its name back from the mapper.
        Ok(node) => Ok(vec![node, epmd]),
        Err(error) => {
            end(&epmd, "TERM", EPMD_LISTENS);
            Err(error)
        }
    }
}

/// Erlang's port mapper, in the foreground and on a port of its own.
fn start_epmd(ground: &Ground) -> Result<(Process, u16)> {
    let mut folders = versions_in("/usr/lib/erlang", "erts-");
    folders.iter_mut().for_each(|folder| folder.push("bin"));
    let epmd = executable("epmd", &folders).ok_or_else(|| missing("epmd", "/usr/lib/erlang/erts-*/bin"))?;
    let port = free_port()?;
    let mut command = ground.command(&epmd);
    command.args(["-port", &port.to_string(), "-address", "127.0.0.1"]);
    let process = process::start(&mut command, &ground.dir.join("epmd.log"))?;
    let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    if !wait_until(EPMD_LISTENS, || listens() || !process.runs()) || !process.runs() {
        end(&process, "TERM", EPMD_LISTENS);
        bail!("Erlang's epmd does not listen on port {port}: {}", process::tail(&ground.dir.join("epmd.log")));
    }
    Ok((process, port))
}

fn start_node(ground: &Ground, server: &Path, port: u16, mapper_port: u16, log: &Path) -> Result<Process> {
    let (config, plugins, nothing) =
        (ground.dir.join("rabbitmq.conf"), ground.dir.join("enabled_plugins"), ground.dir.join("env.conf"));
    // The default limit of free disk blocks publishers on small machines.
    write(&config, &format!("listeners.tcp.own = 127.0.0.1:{port}\ndisk_free_limit.absolute = 50MB\n"))?;
    write(&plugins, "[].\n")?;
    write(&nothing, "")?;
    let mut command: Command = ground.command(server);
    command
        .env("RABBITMQ_NODENAME", format!("agentry-{port}@localhost"))
        .env("RABBITMQ_CONFIG_FILE", &config)
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", &plugins)
        .env("RABBITMQ_CONF_ENV_FILE", &nothing)
        .env("RABBITMQ_MNESIA_BASE", ground.dir.join("data"))
        .env("RABBITMQ_LOG_BASE", ground.dir.join("log"))
        .env("RABBITMQ_LOGS", "-")
        .env("RABBITMQ_DIST_PORT", free_port()?.to_string())
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", ERLANG)
        .env("ERL_EPMD_PORT", mapper_port.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        // The script then becomes the node instead of waiting for it: the id we know is the node's.
        .env("RUNNING_UNDER_SYSTEMD", "true");
    process::start(&mut command, log)
}
