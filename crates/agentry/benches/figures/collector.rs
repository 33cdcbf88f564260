//! A collector of traces that takes everything at once and keeps nothing but counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::http::body_of;

/// What OTLP over HTTP wants to hear: an empty message of protobuf is no byte at all.
const WELL: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";

/// Ends with its owner.
pub struct Collector {
    /// For `--otlp-endpoint`.
    pub url: String,
    counts: Arc<Counts>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    posts: AtomicU64,
    bytes: AtomicU64,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let counts = Arc::new(Counts::default());
        let counting = Arc::clone(&counts);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&counting)));
            }
        });
        Self { url, counts, accepting }
    }

    /// Exports that came, and the bytes of their bodies.
    pub fn seen(&self) -> (u64, u64) {
        (self.counts.posts.load(Ordering::Relaxed), self.counts.bytes.load(Ordering::Relaxed))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Answers one connection until its end; a killed server may end it in mid-sentence.
async fn answer(mut stream: TcpStream, counts: Arc<Counts>) {
    let mut buffer = Vec::new();
    while stream.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
        while let Some((start, end)) = body_of(&buffer) {
            counts.posts.fetch_add(1, Ordering::Relaxed);
            counts.bytes.fetch_add((end - start) as u64, Ordering::Relaxed);
            buffer.drain(..end);
            if stream.write_all(WELL).await.is_err() {
                return;
            }
        }
    }
}
