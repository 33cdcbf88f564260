//! Redis for tests: the shared one, and one of a test's own.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agentry_core::id::TaskId;
use agentry_lab::FaultProxy;

use super::fixtures::LONG;

/// Returns the URL of the Redis that tests share.
pub fn shared_url() -> String {
    std::env::var("AGENTRY_TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned())
}

/// Opens a connection of the test itself.
pub fn connection(url: &str) -> redis::Connection {
    let connect = || redis::Client::open(url)?.get_connection_with_timeout(Duration::from_secs(5));
    connect().unwrap_or_else(|error| {
        panic!("no Redis at {url} ({error}): run `cargo xtask services`, or set AGENTRY_TEST_REDIS_URL")
    })
}

/// Keys of one test on the shared Redis, which are deleted when this is dropped.
pub struct Prefix(String);

impl Prefix {
    pub fn new() -> Self {
        connection(&shared_url());
        Self(format!("agentry-test-{}", TaskId::generate()))
    }

    pub fn name(&self) -> &str {
        &self.0
    }

    /// Returns the existing keys.
    pub fn keys(&self, connection: &mut redis::Connection) -> Vec<String> {
        let (mut keys, mut cursor) = (Vec::new(), 0_u64);
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{}:*", self.0)).arg("COUNT").arg(1_000);
            let (next, found): (u64, Vec<String>) = scan.query(connection).unwrap();
            keys.extend(found);
            cursor = next;
            if cursor == 0 {
                return keys;
            }
        }
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        let mut connection = connection(&shared_url());
        for key in self.keys(&mut connection) {
            let _: i64 = redis::cmd("UNLINK").arg(key).query(&mut connection).unwrap();
        }
    }
}

/// A Redis of a test's own, in a folder of its own, which saves only on request.
pub struct OwnRedis {
    folder: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl OwnRedis {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let child = spawn(folder.path(), port);
        let own = Self { folder, port, child };
        own.wait();
        own
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Runs a command.
    pub fn run(&self, command: &str) {
        redis::cmd(command).exec(&mut connection(&self.url())).unwrap();
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts the server again after [`Self::kill`], with the saved data.
    pub fn restart(&mut self) {
        self.child = spawn(self.folder.path(), self.port);
        self.wait();
    }

    /// Freezes the server: connections stay, nobody answers.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    #[allow(clippy::disallowed_methods, reason = "a test thread that waits for a process")]
    fn wait(&self) {
        let began = Instant::now();
        let pong = || redis::Client::open(self.url())?.get_connection()?.send_packed_command(b"PING\r\n");
        while pong().is_err() {
            assert!(began.elapsed() < LONG, "redis-server did not listen on port {}", self.port);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &Path, port: u16) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
        .arg(folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("redis-server cannot be started ({error}): run `cargo xtask services`"))
}

/// Starts a proxy in front of the Redis at `url`; returns it with its own URL.
pub async fn proxy_to(url: &str) -> (FaultProxy, String) {
    let client = redis::Client::open(url).unwrap();
    let redis::ConnectionAddr::Tcp(host, port) = client.get_connection_info().addr() else { panic!("{url}") };
    let proxy = crate::proxy_to(host, *port).await;
    let url = format!("redis://{}", proxy.address());
    (proxy, url)
}
