//! A simulator that ends with its test, and raw requests.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::net::SocketAddr;
use std::time::Duration;

use agentry_sim::llm::{LlmSim, SimOptions, Stats};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

pub struct Sim {
    address: SocketAddr,
    sim: LlmSim,
    _stop: DropGuard,
}

impl Sim {
    pub async fn start(options: SimOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sim, stop) = (LlmSim::new(options).unwrap(), CancellationToken::new());
        let (server, shutdown) = (sim.clone(), stop.clone());
        tokio::spawn(async move { server.serve(listener, shutdown).await.unwrap() });
        Self { address, sim, _stop: stop.drop_guard() }
    }

    /// Sends a request and returns the open connection.
    pub async fn open(&self, path: &str, body: &Value) -> TcpStream {
        self.send(path, &body.to_string()).await
    }

    async fn send(&self, path: &str, body: &str) -> TcpStream {
        let mut connection = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: sim\r\nx-request-id: r-1\r\nanthropic-version: 2023-06-01\r\n\
             content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.write_all(body.as_bytes()).await.unwrap();
        connection
    }

    /// Returns the response, as far as it came.
    pub async fn post(&self, path: &str, body: &Value) -> Vec<u8> {
        let mut response = Vec::new();
        let mut connection = self.open(path, body).await;
        // A connection that is cut may be reset; the bytes before that count.
        let _ = connection.read_to_end(&mut response).await;
        response
    }

    /// Sends any text as a body and returns the response as text.
    pub async fn post_text(&self, path: &str, body: &str) -> String {
        let mut response = String::new();
        self.send(path, body).await.read_to_string(&mut response).await.unwrap();
        response
    }

    /// Sends a request and returns the status and the body, which is JSON.
    pub async fn call(&self, path: &str, body: &Value) -> (u16, Value) {
        let response = self.post_text(path, &body.to_string()).await;
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("{path}: {response}")))
    }

    /// Sends a request that must be answered and returns the answer.
    pub async fn answer(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call(path, body).await;
        assert_eq!(status, 200, "{path} {body}: {answer}");
        answer
    }

    /// Sends a request that must be refused with 400 and returns the refusal as text.
    pub async fn refusal(&self, path: &str, body: &Value) -> String {
        let (status, answer) = self.call(path, body).await;
        assert_eq!(status, 400, "{path} {body}: {answer}");
        answer.to_string()
    }

    /// Sends a request for a stream of server-sent events and returns their data.
    pub async fn events(&self, path: &str, body: &Value) -> Vec<Value> {
        let bytes = chunks_of(&self.post(path, body).await).concat();
        let text = String::from_utf8(bytes).unwrap();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    pub fn stats(&self) -> Stats {
        self.sim.stats()
    }

    pub fn ledger(&self) -> Vec<Value> {
        self.sim.ledger().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until a request of this path's protocol has ended and returns its ledger line.
    pub async fn line_of(&self, path: &str) -> Value {
        let protocol = match path {
            "/v1/chat/completions" => "openai",
            "/v1/messages" => "anthropic",
            "/v1/responses" => "responses",
            path if path.starts_with("/v1beta/models/") => "gemini",
            "/api/chat" => "ollama",
            _ => "bedrock",
        };
        loop {
            if let Some(line) = self.ledger().into_iter().find(|line| line["protocol"] == protocol) {
                return line;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until `count` requests have arrived.
    pub async fn taken(&self, count: u64) {
        while self.sim.arrived() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Splits a chunked response into its chunks.
pub fn chunks_of(response: &[u8]) -> Vec<Vec<u8>> {
    let start = response.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let (mut rest, mut chunks) = (&response[start..], Vec::new());
    loop {
        let end = rest.windows(2).position(|bytes| bytes == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return chunks;
        }
        chunks.push(rest[end + 2..end + 2 + size].to_vec());
        rest = &rest[end + 2 + size + 2..];
    }
}
