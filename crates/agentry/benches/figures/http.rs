//! The thinnest HTTP client: one connection, one request at a time, bytes ready made.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::with_capacity(64 * 1024) }
    }

    /// Sends ready made bytes; returns status and body.
    pub async fn send(&mut self, request: &[u8]) -> (u16, &[u8]) {
        self.stream.write_all(request).await.unwrap();
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
            assert!(read > 0, "the server closed the connection");
            if let Some((status, start, end)) = whole(&self.buffer) {
                return (status, &self.buffer[start..end]);
            }
        }
    }
}

impl Connection {
    /// What a path answers, which must be well, and how long it takes until its last byte is here.
    pub async fn timed(&mut self, path: &str) -> (Duration, &[u8]) {
        let began = Instant::now();
        let (status, body) = self.send(&get(path)).await;
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(body));
        (began.elapsed(), body)
    }

    /// What a path answers, which must be well.
    pub async fn ask(&mut self, path: &str) -> Value {
        serde_json::from_slice(self.timed(path).await.1).unwrap()
    }
}

/// Connections to one address, as many as are used at once; more are opened when all are busy.
#[derive(Clone)]
pub struct Pool {
    address: String,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Pool {
    pub fn new(address: &str, open: Vec<Connection>) -> Self {
        Self { address: address.to_owned(), idle: Arc::new(Mutex::new(open)) }
    }

    /// Sends ready made bytes over a free connection; whether the answer is 200.
    pub async fn is_well(&self, request: &[u8]) -> bool {
        let idle = self.idle.lock().await.pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => Connection::open(&self.address).await,
        };
        let (status, _) = connection.send(request).await;
        self.idle.lock().await.push(connection);
        status == 200
    }
}

/// Status and body range, once all of it is here.
fn whole(buffer: &[u8]) -> Option<(u16, usize, usize)> {
    let (start, end) = body_of(buffer)?;
    let status = std::str::from_utf8(buffer.get(9..12)?).ok()?.parse().ok()?;
    Some((status, start, end))
}

/// Where the body of a request or an answer is, once all of it is here.
pub fn body_of(buffer: &[u8]) -> Option<(usize, usize)> {
    let head_end = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&buffer[..head_end]).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let end = head_end + length.unwrap_or(0);
    (buffer.len() >= end).then_some((head_end, end))
}

pub fn post(path: &str, body: &str) -> Vec<u8> {
    signed_post(path, "", body)
}

/// With more headers, each of them ended by CR LF.
pub fn signed_post(path: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}
