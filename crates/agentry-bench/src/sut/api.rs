//! A client of the platform's API for everything that is not load.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use agentry_lab::{LabError, until};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

use crate::sample::Metrics;

/// Timeout of an answer, above the longest wait for a task.
const PATIENCE: Duration = Duration::from_secs(90);
/// Characters of a body that an error shows.
const SHOWN: usize = 500;
/// Rows of a page.
const PAGE: usize = 1_000;
/// Pages of one list at most.
const MAX_PAGES: usize = 100_000;

/// The API of a deployment by its base URL.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
    base: String,
}

impl Api {
    /// Makes a client of `http://host:port` or `https://host`.
    pub fn new(base: &str) -> Result<Self, LabError> {
        let base = base.trim_end_matches('/').to_owned();
        let client = agentry_http::builder(&base).timeout(PATIENCE).build();
        let client = client.map_err(|error| LabError::Server(format!("cannot make an HTTP client: {error}")))?;
        Ok(Self { client, base })
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the address that the load generator connects to, and the name of the host.
    pub fn target(&self) -> Result<(SocketAddr, String), LabError> {
        let Some(rest) = self.base.strip_prefix("http://") else {
            return Err(LabError::Server(format!(
                "the load generator speaks plain HTTP, not {}: run it beside the deployment, before what ends TLS",
                self.base
            )));
        };
        let host = rest.split('/').next().unwrap_or(rest);
        let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        let address = with_port.to_socket_addrs().ok().and_then(|mut all| all.next());
        let unknown = || LabError::Server(format!("`{host}` has no address: check --url"));
        Ok((address.ok_or_else(unknown)?, host.to_owned()))
    }

    /// Sends a `GET`; returns the JSON of a 2xx answer.
    pub async fn get(&self, path: &str) -> Result<Value, LabError> {
        self.send(Method::GET, path, None).await.map(|(_, body)| body)
    }

    /// Sends a `POST`; returns the status and the JSON of a 2xx answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<(u16, Value), LabError> {
        self.send(Method::POST, path, Some(body)).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(u16, Value), LabError> {
        let url = format!("{}{path}", self.base);
        let request = format!("{method} {url}");
        let mut builder = self.client.request(method, url);
        if let Some(body) = body {
            builder = builder.json(body);
        }
        let (status, text) = answered(&request, builder).await?;
        if !(200..300).contains(&status) {
            let body = text.chars().take(SHOWN).collect();
            return Err(LabError::Answer { request, status, body });
        }
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// Returns all rows of a paged list.
    pub async fn all(&self, path: &str) -> Result<Vec<Value>, LabError> {
        let mark = if path.contains('?') { '&' } else { '?' };
        let (mut rows, mut cursor) = (Vec::new(), String::new());
        for _ in 0..MAX_PAGES {
            let mut page = self.get(&format!("{path}{mark}limit={PAGE}{cursor}")).await?;
            if let Some(items) = page["items"].as_array_mut() {
                rows.append(items);
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        Ok(rows)
    }

    /// Returns the metrics of the process as text.
    pub async fn metrics_text(&self) -> Result<String, LabError> {
        let url = format!("{}/metrics", self.base);
        Ok(answered(&format!("GET {url}"), self.client.get(&url)).await?.1)
    }

    /// Returns the metrics of the process.
    pub async fn metrics(&self) -> Result<Metrics, LabError> {
        Ok(Metrics::parse(&self.metrics_text().await?))
    }

    /// Waits until a metric fits, at most `limit`; returns its value.
    pub async fn until_metric(&self, name: &str, limit: Duration, fits: impl Fn(f64) -> bool) -> Result<f64, LabError> {
        until(&format!("{name} of {}", self.base), limit, async || {
            let metrics = self.metrics().await.ok()?;
            metrics.get(name).or_else(|| metrics.sum(name)).filter(|value| fits(*value))
        })
        .await
    }

    /// Waits until no task is queued or running, at most `limit`.
    pub async fn drained(&self, limit: Duration) -> Result<(), LabError> {
        until("the end of every task", limit, async || {
            let metrics = self.metrics().await.ok()?;
            let open = |status| metrics.get(&format!("agentry_tasks{{status=\"{status}\"}}"));
            (open("queued")? + open("running")? == 0.0).then_some(())
        })
        .await
    }
}

/// Sends a request; returns the status and the body, whatever the status is.
async fn answered(request: &str, builder: RequestBuilder) -> Result<(u16, String), LabError> {
    let response = builder.send().await.map_err(unreachable(request))?;
    let status = response.status().as_u16();
    Ok((status, response.text().await.map_err(unreachable(request))?))
}

/// Makes the error of a request that was not answered.
pub fn unreachable(request: &str) -> impl FnOnce(reqwest::Error) -> LabError {
    move |error| LabError::Unreachable { request: request.to_owned(), error: agentry_http::with_causes(&error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_told_where_to_connect() {
        let target = |url: &str| Api::new(url).unwrap().target();
        assert_eq!(target("http://127.0.0.1:81/").unwrap(), ("127.0.0.1:81".parse().unwrap(), "127.0.0.1:81".into()));
        assert_eq!(target("http://127.0.0.1").unwrap().0.port(), 80);
        assert!(target("https://localhost").unwrap_err().to_string().contains("plain HTTP"));
    }

    #[tokio::test]
    async fn nobody_there_names_the_address() {
        let error = Api::new("http://127.0.0.1:9").unwrap().get("/v1/agents").await.unwrap_err();
        assert!(error.to_string().contains("http://127.0.0.1:9/v1/agents"), "{error}");
    }
}
