//! A server that gives a fixed answer, byte by byte, and records requests.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Answer to every request.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub pieces: Vec<Vec<u8>>,
    pub end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Whole,
    /// Closes the connection within the body.
    Cut,
    /// Sends nothing until the client leaves.
    Silence,
    /// Repeats the last piece until the client leaves.
    Endless,
}

impl Answer {
    pub fn new(status: u16, content_type: &str, pieces: Vec<Vec<u8>>) -> Self {
        Self { status, headers: vec![("content-type", content_type.to_owned())], pieces, end: End::Whole }
    }

    pub fn ending(self, end: End) -> Self {
        Self { end, ..self }
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// A received request.
#[derive(Debug, Clone)]
pub struct ReceivedRequest {
    pub head: String,
    pub body: String,
}

impl ReceivedRequest {
    pub fn header(&self, name: &str) -> Option<&str> {
        let of = |line: &&str| line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
        self.head.lines().skip(1).find(of)?.split_once(':').map(|(_, value)| value.trim())
    }

    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

/// The server. Every request gets the same answer.
pub struct Server {
    pub url: String,
    asked: Arc<Mutex<Vec<ReceivedRequest>>>,
    /// Notified when a client leaves before its answer is complete.
    pub gone: Arc<Notify>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Server {
    pub async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, gone) = (Arc::default(), Arc::new(Notify::new()));
        let (notes, news) = (Arc::clone(&asked), Arc::clone(&gone));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, notes, news) = (answer.clone(), Arc::clone(&notes), Arc::clone(&news));
                tokio::spawn(async move {
                    if serve(stream, &answer, &notes).await.is_none() {
                        news.notify_one();
                    }
                });
            }
        });
        Self { url, asked, gone, serving }
    }

    pub fn asked(&self) -> Vec<ReceivedRequest> {
        self.asked.lock().unwrap().clone()
    }
}

/// Returns `None` when the client has left.
async fn serve(mut stream: TcpStream, answer: &Answer, notes: &Mutex<Vec<ReceivedRequest>>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let asked = read(&mut stream).await?;
    notes.lock().unwrap().push(asked);
    let mut head = format!("HTTP/1.1 {} Said\r\ntransfer-encoding: chunked\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).await.ok()?;
    for piece in &answer.pieces {
        chunk(&mut stream, piece).await?;
    }
    match answer.end {
        End::Whole => stream.write_all(b"0\r\n\r\n").await.ok(),
        End::Cut => Some(()),
        End::Silence => {
            let mut rest = [0; 64];
            while stream.read(&mut rest).await.ok()? > 0 {}
            None
        }
        End::Endless => loop {
            chunk(&mut stream, answer.pieces.last()?).await?;
        },
    }
}

async fn chunk(stream: &mut TcpStream, piece: &[u8]) -> Option<()> {
    let framed = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
    stream.write_all(&framed).await.ok()
}

async fn read(stream: &mut TcpStream) -> Option<ReceivedRequest> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).into_owned();
            let asked = ReceivedRequest { head, body: String::new() };
            let length: usize = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
            if read.len() >= end + 4 + length {
                let body = String::from_utf8_lossy(&read[end + 4..end + 4 + length]).into_owned();
                return Some(ReceivedRequest { body, ..asked });
            }
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
}
