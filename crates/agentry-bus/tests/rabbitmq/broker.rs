//! A broker of one test, which it may stop, wipe and starve. It is ended by its process id.

use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Start timeout: some seconds, and many more on a machine that also builds.
const START_PATIENCE: Duration = Duration::from_secs(120);
const STOP_PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);
const ERLANG: &str = "-kernel inet_dist_use_interface {127,0,0,1}";

/// RabbitMQ with its own data, ports and port mapper.
pub struct Broker {
    dir: tempfile::TempDir,
    scripts: PathBuf,
    port: u16,
    distribution_port: u16,
    mapper_port: u16,
    mapper: Child,
    node: Option<Child>,
}

impl Broker {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let scripts = newest("/usr/lib/rabbitmq/lib", "rabbitmq_server-").join("sbin");
        let epmd = newest("/usr/lib/erlang", "erts-").join("bin/epmd");
        let [port, distribution_port, mapper_port] = free_ports();
        let mut mapping = Command::new(epmd);
        mapping.args(["-port", &mapper_port.to_string(), "-address", "127.0.0.1"]);
        let mapper = spawn(&mut mapping, &dir.path().join("epmd.log"));
        let mut broker = Self { dir, scripts, port, distribution_port, mapper_port, mapper, node: None };
        wait_for("epmd listens", START_PATIENCE, || listens(mapper_port)).await;
        broker.start_node().await;
        broker
    }

    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    pub async fn start_node(&mut self) {
        std::fs::write(self.path("rabbitmq.conf"), self.config()).unwrap();
        std::fs::write(self.path("enabled_plugins"), "[].\n").unwrap();
        std::fs::write(self.path("env.conf"), "").unwrap();
        let mut command = self.command("rabbitmq-server");
        // With this the script becomes the node, so the process id is the node's.
        command.env("RUNNING_UNDER_SYSTEMD", "true");
        let log = self.path("node.log");
        let node = self.node.insert(spawn(&mut command, &log));
        wait_for("RabbitMQ listens", START_PATIENCE, || {
            assert!(node.try_wait().unwrap().is_none(), "RabbitMQ ended: {}", tail(&log));
            listens(self.port)
        })
        .await;
    }

    pub async fn stop_node(&mut self) {
        let Some(node) = &mut self.node else { return };
        let asked =
            Command::new("sh").args(["-c", "kill -TERM \"$1\"", "sh", &node.id().to_string()]).status().unwrap();
        assert!(asked.success(), "the node has ended by itself: {}", tail(&self.dir.path().join("node.log")));
        wait_for("RabbitMQ ends", STOP_PATIENCE, || node.try_wait().unwrap().is_some()).await;
        self.node = None;
    }

    /// Deletes the node's data; it must be stopped.
    pub fn wipe(&self) {
        assert!(self.node.is_none(), "a running node keeps its files");
        std::fs::remove_dir_all(self.path("data")).unwrap();
    }

    /// Sets the share of the machine's memory at which the node blocks publishers.
    pub async fn limit_memory(&self, share: &str) {
        let mut command = self.command("rabbitmqctl");
        command.args(["set_vm_memory_high_watermark", share]);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self) -> String {
        format!("listeners.tcp.own = 127.0.0.1:{}\ndisk_free_limit.absolute = 50MB\n", self.port)
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new(self.scripts.join(script));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("RABBITMQ_") || name.starts_with("ERL_") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.dir.path())
            .env("HOME", self.dir.path())
            .env("LC_ALL", "C.UTF-8")
            .env("RABBITMQ_NODENAME", format!("agentry-test-{}@localhost", self.port))
            .env("RABBITMQ_CONFIG_FILE", self.path("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.path("enabled_plugins"))
            .env("RABBITMQ_CONF_ENV_FILE", self.path("env.conf"))
            .env("RABBITMQ_MNESIA_BASE", self.path("data"))
            .env("RABBITMQ_LOG_BASE", self.path("log"))
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", ERLANG)
            .env("ERL_EPMD_PORT", self.mapper_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1");
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        for child in self.node.iter_mut().chain([&mut self.mapper]) {
            // Its data is deleted too, so a clean stop is not needed.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn(command: &mut Command, log: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
    let (out, err) = (log.try_clone().unwrap(), log);
    // A process group of its own: signals of the terminal are not for the broker, which the test ends itself.
    command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0).spawn().unwrap()
}

fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

async fn wait_for(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(patience, waiting).await.unwrap_or_else(|_| panic!("not within {patience:?}: {what}"));
}

fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn newest(parent: &str, prefix: &str) -> PathBuf {
    let entries = std::fs::read_dir(parent).unwrap_or_else(|_| panic!("{parent} is missing: install rabbitmq-server"));
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)));
    folders.sort();
    folders.pop().unwrap_or_else(|| panic!("{parent} has no {prefix}*: install rabbitmq-server"))
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.chars().skip(text.chars().count().saturating_sub(2_000)).collect()
}
