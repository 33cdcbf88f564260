//! RabbitMQ: a node with its own name, cookie, data and port mapper, unknown to every other Erlang node.

use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{ENDS, Ground, STARTS, free_port, loopback};
use crate::process::{Process, executable, until};

/// Erlang's distribution stays on loopback.
const ERLANG: &str = "-kernel inet_dist_use_interface {127,0,0,1}";
/// How long a node that runs may take to greet.
const GREETING: Duration = Duration::from_secs(2);

pub struct RabbitMq {
    ground: Ground,
    pub port: u16,
    mapper: Mapper,
    pub process: Process,
}

/// Erlang's port mapper. Without one of ours the node would start one that nobody ends.
struct Mapper {
    port: u16,
    _process: Process,
}

impl RabbitMq {
    pub async fn start(ground: Ground) -> Self {
        let mapper = Mapper::start(&ground).await;
        let port = free_port();
        let write = |name: &str, text: &str| std::fs::write(ground.dir.join(name), text).unwrap();
        // The default limit of free disk blocks publishers on small machines.
        write("rabbitmq.conf", &format!("listeners.tcp.own = 127.0.0.1:{port}\ndisk_free_limit.absolute = 50MB\n"));
        write("enabled_plugins", "[].\n");
        write("env.conf", "");
        let process = Process::start(&mut node(&ground, port, mapper.port), &ground.log());
        let mut rabbitmq = Self { ground, port, mapper, process };
        rabbitmq.answers().await;
        rabbitmq
    }

    /// Asks it to end (TERM) or makes it (KILL), and waits until it is gone.
    pub async fn stop(&mut self, signal: &str) {
        self.process.signal(signal);
        self.process.end(ENDS).await;
    }

    /// Removes everything that it remembers. It must be down.
    pub fn wipe(&mut self) {
        assert!(self.process.ended().is_some(), "RabbitMQ still runs");
        std::fs::remove_dir_all(self.data()).unwrap();
    }

    /// Starts it again, on what it remembers.
    pub async fn start_again(&mut self) {
        self.process = Process::start(&mut node(&self.ground, self.port, self.mapper.port), &self.ground.log());
        self.answers().await;
    }

    fn data(&self) -> std::path::PathBuf {
        self.ground.dir.join("data")
    }

    async fn answers(&mut self) {
        until("RabbitMQ to answer", STARTS, async || {
            if let Some(status) = self.process.ended() {
                panic!("RabbitMQ ended by itself ({status}):\n{}", self.process.tail());
            }
            greeting(self.port).await
        })
        .await;
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

impl Mapper {
    async fn start(ground: &Ground) -> Self {
        let epmd = executable("epmd", &["/usr/lib/erlang/erts-*/bin"], "rabbitmq-server");
        let port = free_port();
        let mut command = ground.command(&epmd);
        command.args(["-port", &port.to_string(), "-address", "127.0.0.1"]);
        let mut process = Process::start(&mut command, &ground.dir.with_extension("epmd.log"));
        until("Erlang's epmd to listen", ENDS, async || {
            assert!(process.ended().is_none(), "epmd ended by itself:\n{}", process.tail());
            TcpStream::connect(loopback(port)).await.ok()
        })
        .await;
        Self { port, _process: process }
    }
}

fn node(ground: &Ground, port: u16, mapper: u16) -> Command {
    // The script itself: Debian's wrapper in /usr/sbin serves only root and switches to the system's own node.
    let folders = ["/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin", "/usr/lib/rabbitmq/bin", "/usr/local/sbin"];
    let server = executable("rabbitmq-server", &folders, "rabbitmq-server");
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
        .env("RABBITMQ_DIST_PORT", free_port().to_string())
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", ERLANG)
        .env("ERL_EPMD_PORT", mapper.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        // The script then becomes the node instead of waiting for it: the id we know is the node's.
        .env("RUNNING_UNDER_SYSTEMD", "true");
    command
}
