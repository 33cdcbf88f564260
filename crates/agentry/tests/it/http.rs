//! Requests to a server, and looking until something has happened.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// How long anything may take before a test gives up on it: only a test that fails waits so long.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A client with one connection pool; loopback only, so no proxy.
pub fn client() -> Client {
    agentry_http::builder("http://127.0.0.1").timeout(PATIENCE).build().unwrap()
}

/// A server, asked one request at a time.
pub struct Http {
    runtime: Runtime,
    client: Client,
    base: String,
}

/// What it answered.
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    pub id: Option<u32>,
    pub event: String,
    pub data: Value,
}

impl Http {
    pub fn new(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, client: client(), base: url.to_owned() }
    }

    /// Any request.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Reply {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        let request = self.client.request(method, format!("{}{path}", self.base)).headers(map).body(body);
        self.runtime.block_on(async {
            let response = request.send().await.unwrap();
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            Reply { status, headers, body: response.bytes().await.unwrap().to_vec() }
        })
    }

    /// `GET` of something that is there.
    pub fn get(&self, path: &str) -> Value {
        let reply = self.send("GET", path, &[], Vec::new());
        assert_eq!(reply.status, 200, "{path}: {}", reply.json());
        reply.json()
    }

    /// `POST` of JSON.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        let headers = [&[("content-type", "application/json")], headers].concat();
        self.send("POST", path, &headers, body.to_string().into_bytes())
    }

    /// A task that must be accepted; returns its id.
    pub fn submit(&self, agent: &str, input: &str) -> String {
        let reply = self.post("/v1/tasks", &[], &json!({"agent": agent, "input": input}));
        assert_eq!(reply.status, 202, "{}", reply.json());
        reply.json()["id"].as_str().unwrap().to_owned()
    }

    /// The task once it has one of these statuses.
    pub fn task_in(&self, id: &str, statuses: &[&str]) -> Value {
        let path = format!("/v1/tasks/{id}?journal=true");
        self.until(&format!("task {id} to be {statuses:?}"), || {
            let task = self.get(&path);
            statuses.contains(&task["status"].as_str().unwrap()).then_some(task)
        })
    }

    /// Looks until there is something to see.
    pub fn until<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        self.until_for(PATIENCE, what, look)
    }

    /// Looks until there is something to see that may take longer than other things.
    pub fn until_for<T>(&self, patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            assert!(began.elapsed() < patience, "waited in vain for {what}");
            self.runtime.block_on(async { tokio::time::sleep(LOOK_EVERY).await });
        }
    }

    /// Reads a stream of server-sent events until its end, or until `enough` says so.
    pub fn stream(&self, path: &str, after: Option<u32>, mut enough: impl FnMut(&Sent) -> bool) -> Vec<Sent> {
        let mut request = self.client.get(format!("{}{path}", self.base));
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        self.runtime.block_on(async {
            let response = request.send().await.unwrap();
            assert_eq!(response.status().as_u16(), 200);
            let (mut bytes, mut text, mut events) = (response.bytes_stream(), String::new(), Vec::new());
            while let Some(chunk) = bytes.next().await {
                text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
                while let Some((block, rest)) = text.split_once("\n\n") {
                    let sent = parse(block);
                    text = rest.to_owned();
                    let Some(sent) = sent else { continue };
                    let stop = enough(&sent);
                    events.push(sent);
                    if stop {
                        return events;
                    }
                }
            }
            events
        })
    }
}

/// An event from its lines; `None`: only a comment.
fn parse(block: &str) -> Option<Sent> {
    let field = |name: &str| {
        block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|value| value.trim_start()))
    };
    Some(Sent {
        id: field("id").map(|id| id.parse().unwrap()),
        event: field("event").unwrap_or_default().to_owned(),
        data: serde_json::from_str(field("data")?).unwrap(),
    })
}
