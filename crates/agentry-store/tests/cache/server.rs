//! Redis for tests: the shared one, one of a test's own, and a wire to it that can be slow or cut.

use std::net::TcpListener as StdListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agentry_core::id::TaskId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::behind::LONG;

/// The Redis that tests share.
pub fn shared_url() -> String {
    std::env::var("AGENTRY_TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned())
}

/// A connection of the test itself.
pub fn connection(url: &str) -> redis::Connection {
    let connect = || redis::Client::open(url)?.get_connection_with_timeout(Duration::from_secs(5));
    connect().unwrap_or_else(|error| {
        panic!("no Redis at {url} ({error}): run `cargo xtask services`, or set AGENTRY_TEST_REDIS_URL")
    })
}

/// Keys of one test on the shared Redis; removed with it.
pub struct Prefix(String);

impl Prefix {
    pub fn new() -> Self {
        connection(&shared_url());
        Self(format!("agentry-test-{}", TaskId::generate()))
    }

    pub fn name(&self) -> &str {
        &self.0
    }

    /// The keys there are.
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

/// A Redis of a test's own, in a folder of its own. Nothing is saved unless the test says so.
pub struct OwnRedis {
    folder: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl OwnRedis {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = StdListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
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

    /// kill -9.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after [`Self::kill`], with what was saved.
    pub fn restart(&mut self) {
        self.child = spawn(self.folder.path(), self.port);
        self.wait();
    }

    /// Freezes it: connections stay, nobody answers.
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

/// A wire to Redis that passes bytes late, or silently passes none.
pub struct Wire {
    port: u16,
    shape: Arc<Shape>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shape {
    cut: AtomicBool,
    /// Each piece waits for a time up to this.
    late_ms: AtomicU64,
}

impl Wire {
    /// A wire to a server on a port of this machine.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (own, shape) = (listener.local_addr().unwrap().port(), Arc::new(Shape::default()));
        let task = tokio::spawn(serve(listener, port, Arc::clone(&shape)));
        Self { port: own, shape, task }
    }

    /// A wire to the server of a URL.
    pub async fn to_url(url: &str) -> Self {
        let client = redis::Client::open(url).unwrap();
        match client.get_connection_info().addr() {
            redis::ConnectionAddr::Tcp(host, port) if host == "127.0.0.1" || host == "localhost" => {
                Self::to(*port).await
            }
            other => panic!("this test needs Redis on a port of this machine, not {other}"),
        }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Passes nothing any more, in neither direction; connections stay.
    pub fn cut(&self, cut: bool) {
        self.shape.cut.store(cut, Ordering::SeqCst);
    }

    /// Passes every piece after a time of up to `most`, in order.
    pub fn delay(&self, most: Duration) {
        self.shape.late_ms.store(u64::try_from(most.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, port: u16, shape: Arc<Shape>) {
    loop {
        let Ok((near, _)) = listener.accept().await else { return };
        let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
        let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
        tokio::spawn(pass(near_read, far_write, Arc::clone(&shape)));
        tokio::spawn(pass(far_read, near_write, Arc::clone(&shape)));
    }
}

async fn pass(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, shape: Arc<Shape>) {
    let mut piece = vec![0; 16 * 1024];
    while let Ok(count) = from.read(&mut piece).await
        && count > 0
    {
        while shape.cut.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let most = shape.late_ms.load(Ordering::SeqCst);
        if most > 0 {
            tokio::time::sleep(Duration::from_millis(rand::random_range(0..=most))).await;
        }
        if to.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
}
