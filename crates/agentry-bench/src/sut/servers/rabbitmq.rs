//! RabbitMQ: a node with its own name, cookie, data and port mapper, unknown to every other Erlang node.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{ENDS, Ground, STARTS, executable, free_port, loopback};
use crate::sut::SutError;
use crate::sut::child::{Child, until};

/// Erlang's distribution stays on loopback.
const ERLANG: &str = "-kernel inet_dist_use_interface {127,0,0,1}";
/// How long a node that runs may take to greet.
const GREETING: Duration = Duration::from_secs(2);
/// Free disk below which it blocks publishers; the default of a small machine would block them at once.
const DISK_LIMIT: &str = "50MB";

/// A RabbitMQ of the run's own.
pub struct RabbitMq {
    ground: Ground,
    /// Its port for AMQP.
    pub port: u16,
    /// Erlang's port mapper. Without one of ours the node would start one that nobody ends.
    mapper: Mapper,
    /// The node.
    pub process: Child,
}

struct Mapper {
    port: u16,
    /// Ends with this value.
    _process: Child,
}

impl RabbitMq {
    /// Starts it on empty data.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub async fn start(ground: Ground) -> Result<Self, SutError> {
        let mapper = start_mapper(&ground).await?;
        let port = free_port()?;
        let write = |name: &str, text: &str| {
            let file = ground.dir.join(name);
            std::fs::write(&file, text).map_err(SutError::file(file))
        };
        let limit = format!("disk_free_limit.absolute = {DISK_LIMIT}");
        write("rabbitmq.conf", &format!("listeners.tcp.own = 127.0.0.1:{port}\n{limit}\n"))?;
        write("enabled_plugins", "[].\n")?;
        write("env.conf", "")?;
        let process = Child::start("RabbitMQ", &mut node(&ground, port, mapper.port)?, &ground.log())?;
        let mut rabbitmq = Self { ground, port, mapper, process };
        rabbitmq.answers().await?;
        Ok(rabbitmq)
    }

    /// Asks it to end (TERM) or makes it (KILL), and waits until it is gone.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(&mut self, signal: Signal) -> Result<(), SutError> {
        self.process.signal(signal)?;
        self.process.wait(ENDS).await.map(|_| ()).ok_or_else(|| self.process.not_ready("does not end"))
    }

    /// Starts it again, on what it remembers.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_again(&mut self) -> Result<(), SutError> {
        let mut node = node(&self.ground, self.port, self.mapper.port)?;
        self.process = Child::start("RabbitMQ", &mut node, &self.ground.log())?;
        self.answers().await
    }

    async fn answers(&mut self) -> Result<(), SutError> {
        let port = self.port;
        until("RabbitMQ to answer", STARTS, async || match self.process.must_run() {
            Ok(()) => greeting(port).await.map(Ok),
            Err(error) => Some(Err(error)),
        })
        .await?
    }
}

/// Whether somebody speaks AMQP there: the broker answers the protocol's header with a method frame.
async fn greeting(port: u16) -> Option<()> {
    let greet = async {
        let mut stream = TcpStream::connect(loopback(port)).await.ok()?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await.ok()?;
        (stream.read_u8().await.ok()? == 1).then_some(())
    };
    timeout(GREETING, greet).await.ok().flatten()
}

async fn start_mapper(ground: &Ground) -> Result<Mapper, SutError> {
    let epmd = executable("epmd", &["/usr/lib/erlang/erts-*/bin"], "rabbitmq-server")?;
    let port = free_port()?;
    let mut command = ground.command(&epmd);
    command.args(["-port", &port.to_string(), "-address", "127.0.0.1"]);
    let mut process = Child::start("Erlang's epmd", &mut command, &ground.dir.with_extension("epmd.log"))?;
    until("Erlang's epmd to listen", ENDS, async || match process.must_run() {
        Ok(()) => TcpStream::connect(loopback(port)).await.ok().map(|_| Ok(())),
        Err(error) => Some(Err(error)),
    })
    .await??;
    Ok(Mapper { port, _process: process })
}

fn node(ground: &Ground, port: u16, mapper: u16) -> Result<Command, SutError> {
    // The script itself: Debian's wrapper in /usr/sbin serves only root and switches to the system's own node.
    let folders = ["/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin", "/usr/lib/rabbitmq/bin", "/usr/local/sbin"];
    let server = executable("rabbitmq-server", &folders, "rabbitmq-server")?;
    let file = |name: &str| ground.dir.join(name);
    let mut command = ground.command(&server);
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
        .env("ERL_EPMD_PORT", mapper.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        // The script then becomes the node instead of waiting for it: the id we know is the node's.
        .env("RUNNING_UNDER_SYSTEMD", "true");
    Ok(command)
}
