//! Requests to a process of the deployment.

use std::time::Duration;

use reqwest::Client;
use serde_json::Value;

/// How long an answer may take: longer than the store of a server that is cut off keeps a caller waiting.
const ANSWER: Duration = Duration::from_secs(30);

/// A client with one connection pool.
pub fn client() -> Client {
    agentry_http::builder("http://127.0.0.1").timeout(ANSWER).build().unwrap()
}

/// `GET` of something that is there.
pub async fn get(client: &Client, url: &str) -> Value {
    let response = client.get(url).send().await.unwrap_or_else(|error| panic!("{url}: {error}"));
    let status = response.status();
    let body = response.text().await.unwrap();
    assert!(status.is_success(), "{url}: {status} {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{url}: {error}: {body}"))
}
