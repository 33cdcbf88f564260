//! RabbitMQ: a node with its own name, cookie, data and port mapper, unknown to every other Erlang node.

use std::process::Command;
use std::time::Duration;

use tokio::net::TcpStream;

use super::ServerDir;
use crate::program::executable;
use crate::{LabError, Process, free_port, loopback, until};

/// Erlang's distribution stays on loopback.
const ERLANG: &str = "-kernel inet_dist_use_interface {127,0,0,1}";
/// Free disk below which it blocks publishers; the default of a small machine would block them at once.
const DISK_LIMIT: &str = "50MB";
/// Longest time the port mapper may take until it listens.
const MAPPER_STARTS: Duration = Duration::from_secs(30);

/// Erlang's port mapper, in the foreground. Without it the node would start one that nobody ends.
#[derive(Debug)]
pub(super) struct PortMapper {
    pub(super) port: u16,
    pub(super) process: Process,
}

impl PortMapper {
    pub(super) async fn start(dir: &ServerDir) -> Result<Self, LabError> {
        let epmd = executable("epmd", &["/usr/lib/erlang/erts-*/bin"], "rabbitmq-server")?;
        let port = free_port()?;
        let mut command = dir.command(&epmd);
        command.args(["-port", &port.to_string(), "-address", "127.0.0.1"]);
        let mut process = Process::start("Erlang's epmd", &mut command, &dir.path.join("epmd.log"))?;
        until("Erlang's epmd to listen", MAPPER_STARTS, async || match process.must_run() {
            Ok(()) => TcpStream::connect(loopback(port)).await.ok().map(|_| Ok(())),
            Err(error) => Some(Err(error)),
        })
        .await??;
        Ok(Self { port, process })
    }
}

pub(super) fn command(dir: &ServerDir, port: u16, mapper: Option<u16>) -> Result<Command, LabError> {
    dir.write(
        "rabbitmq.conf",
        &format!("listeners.tcp.own = 127.0.0.1:{port}\ndisk_free_limit.absolute = {DISK_LIMIT}\n"),
    )?;
    dir.write("enabled_plugins", "[].\n")?;
    dir.write("env.conf", "")?;
    // The script itself: Debian's wrapper in /usr/sbin serves only root and switches to the system's own node.
    let folders = ["/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin", "/usr/lib/rabbitmq/bin", "/usr/local/sbin"];
    let server = executable("rabbitmq-server", &folders, "rabbitmq-server")?;
    let file = |name: &str| dir.path.join(name);
    let mut command = dir.command(&server);
    command
        .env("RABBITMQ_NODENAME", format!("agentry-{port}@localhost"))
        .env("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins"))
        .env("RABBITMQ_CONF_ENV_FILE", file("env.conf"))
        .env("RABBITMQ_MNESIA_BASE", file("data"))
        .env("RABBITMQ_LOG_BASE", file("log"))
        .env("RABBITMQ_LOGS", "-")
        .env("RABBITMQ_DIST_PORT", free_port()?.to_string())
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", ERLANG)
        .envs(mapper.map(|port| ("ERL_EPMD_PORT", port.to_string())))
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        // The script then becomes the node instead of waiting for it: the id we know is the node's.
        .env("RUNNING_UNDER_SYSTEMD", "true");
    Ok(command)
}
