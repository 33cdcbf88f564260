//! The HTTP client of the verbs: `/v1` of a server, its errors turned into what a person can act on.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::{Method, Response, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use sse_stream::SseStream;

use crate::failure::Failure;

/// Silence on an open connection; streams send comments more often than that.
const READ_TIMEOUT: Duration = Duration::from_secs(90);
/// The most pages that a list asks for, so that a list that grows as fast as it is read ends.
const MAX_PAGES: usize = 1_000;
/// Rows of one page.
const PAGE: usize = 200;

/// A server, and the connections to it.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<SecretString>,
}

/// One server-sent event.
#[derive(Debug, Clone)]
pub struct StreamItem {
    /// What kind.
    pub event: String,
    /// Its data, as JSON.
    pub data: Value,
}

impl Client {
    /// A client of the server at `url`.
    ///
    /// # Errors
    /// When `url` is not one.
    pub fn new(url: &str) -> Result<Self, Failure> {
        let example = "give the server's address, for example --url http://127.0.0.1:8080";
        let base =
            Url::parse(url).map_err(|error| Failure::usage(format!("`{url}` is not a URL: {error}")).help(example))?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(Failure::usage(format!("`{url}` is not an http or https URL")).help(example));
        }
        let http = agentry_http::builder(url)
            .read_timeout(READ_TIMEOUT)
            .build()
            .map_err(|error| Failure::new(format!("cannot set up HTTP: {}", causes(&error))))?;
        Ok(Self { http, base, key: None })
    }

    /// The same, bringing an API key.
    #[must_use]
    pub fn with_key(self, key: Option<SecretString>) -> Self {
        Self { key, ..self }
    }

    /// The server's address.
    #[must_use]
    pub fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// The address below `/` with these segments, each escaped.
    fn url(&self, path: &[&str], query: &[(&str, String)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// `GET`.
    ///
    /// # Errors
    /// When the server is not there or refuses.
    pub async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, Failure> {
        self.json(Method::GET, self.url(path, query), None).await
    }

    /// All pages of a list, at most `limit` rows.
    ///
    /// # Errors
    /// When the server is not there or refuses.
    pub async fn list(&self, path: &[&str], query: &[(&str, String)], limit: usize) -> Result<Vec<Value>, Failure> {
        let mut rows = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut query = query.to_vec();
            query.push(("limit", (limit - rows.len()).min(PAGE).to_string()));
            query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let page = self.get(path, &query).await?;
            let (items, next) = page_of(page);
            let empty = items.is_empty();
            rows.extend(items);
            if rows.len() >= limit || empty || next.is_none() {
                break;
            }
            cursor = next;
        }
        rows.truncate(limit);
        Ok(rows)
    }

    /// A request with a JSON body.
    ///
    /// # Errors
    /// When the server is not there or refuses.
    pub async fn send(&self, method: Method, path: &[&str], body: Option<&Value>) -> Result<Value, Failure> {
        self.json(method, self.url(path, &[]), body).await
    }

    /// `POST` with a query.
    ///
    /// # Errors
    /// When the server is not there or refuses.
    pub async fn post(&self, path: &[&str], query: &[(&str, String)], body: &Value) -> Result<Value, Failure> {
        self.json(Method::POST, self.url(path, query), Some(body)).await
    }

    async fn json(&self, method: Method, url: Url, body: Option<&Value>) -> Result<Value, Failure> {
        let response = self.request(method, url, body).await?;
        let bytes = response.bytes().await.map_err(|error| self.broken(&error))?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|_| {
            Failure::new(format!("{} answered with something that is not JSON", self.base()))
                .help("is this the address of an Agentry server?")
        })
    }

    /// `GET` of something that is not one JSON value.
    ///
    /// # Errors
    /// When the server is not there or refuses.
    pub async fn text(&self, path: &[&str]) -> Result<String, Failure> {
        let response = self.request(Method::GET, self.url(path, &[]), None).await?;
        response.text().await.map_err(|error| self.broken(&error))
    }

    /// `GET` of bytes.
    ///
    /// # Errors
    /// When the server is not there or refuses.
    pub async fn bytes(&self, path: &[&str], query: &[(&str, String)]) -> Result<Vec<u8>, Failure> {
        let response = self.request(Method::GET, self.url(path, query), None).await?;
        response.bytes().await.map(Vec::from).map_err(|error| self.broken(&error))
    }

    async fn request(&self, method: Method, url: Url, body: Option<&Value>) -> Result<Response, Failure> {
        let mut request = self.http.request(method, url);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.expose_secret());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| self.broken(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = response.bytes().await.unwrap_or_default();
        Err(problem(status, &serde_json::from_slice(&bytes).unwrap_or(Value::Null), self.base()))
    }

    /// Follows a stream of server-sent events until it ends or `take` has had enough (returns false).
    ///
    /// # Errors
    /// When the server is not there, refuses, or the connection breaks; and what `take` says.
    pub async fn stream(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        mut take: impl FnMut(StreamItem) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let response = self.request(Method::GET, self.url(path, query), None).await?;
        let mut events = SseStream::from_bytes_stream(response.bytes_stream());
        while let Some(event) = events.next().await {
            let event =
                event.map_err(|error| Failure::new(format!("the stream from {} broke: {error}", self.base())))?;
            let Some(data) = event.data else { continue };
            let data = serde_json::from_str(&data).unwrap_or(Value::String(data));
            if !take(StreamItem { event: event.event.unwrap_or_default(), data })? {
                break;
            }
        }
        Ok(())
    }

    fn broken(&self, error: &reqwest::Error) -> Failure {
        let base = self.base();
        if error.is_connect() {
            return Failure::new(format!("cannot reach {base}: {}", causes(error)))
                .help("start a server with `agentry serve`, or name another with --url or AGENTRY_URL");
        }
        if error.is_timeout() {
            return Failure::new(format!("{base} did not answer in time")).help("`agentry doctor` checks the server");
        }
        Failure::new(format!("the connection to {base} broke: {}", causes(error)))
    }
}

/// Rows and the cursor of the next page; a bare array is a whole list.
fn page_of(page: Value) -> (Vec<Value>, Option<String>) {
    match page {
        Value::Array(items) => (items, None),
        Value::Object(mut map) => {
            let next = map.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
            match map.remove("items") {
                Some(Value::Array(items)) => (items, next),
                _ => (Vec::new(), None),
            }
        }
        _ => (Vec::new(), None),
    }
}

/// An `application/problem+json` answer as a failure.
fn problem(status: reqwest::StatusCode, body: &Value, base: &str) -> Failure {
    let word = |key: &str| body.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let Some(said) = word("detail").or(word("title")) else {
        return Failure::new(format!("{base} answered {status}")).help("is this the address of an Agentry server?");
    };
    let code = word("code").map(|code| format!(" ({code})")).unwrap_or_default();
    let failure = Failure::new(format!("{said}{code}"));
    match word("help") {
        Some(help) => failure.help(help),
        None => match status.as_u16() {
            401 => failure.help("set AGENTRY_API_KEY, or pass --key; `agentry keys create NAME` makes a key"),
            429 | 503 => failure.help("the server is busy: try again shortly"),
            _ => failure,
        },
    }
}

/// An error's innermost cause: the layers above only repeat the address.
fn causes(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_are_escaped_into_one_segment() {
        let client = Client::new("http://127.0.0.1:1/base/").unwrap();
        let url = client.url(&["v1", "sessions", "support:a/b c"], &[("limit", "5".to_owned())]);
        assert_eq!(url.as_str(), "http://127.0.0.1:1/base/v1/sessions/support:a%2Fb%20c?limit=5");
    }

    #[test]
    fn what_is_not_an_address_is_a_usage_error() {
        for url in ["", "localhost:8080", "ftp://x", "mailto:a"] {
            assert_eq!(Client::new(url).unwrap_err().exit_code(), 2, "{url}");
        }
    }

    #[test]
    fn problems_keep_their_words_and_code() {
        let body = json!({"title": "Not found", "detail": "no agent is called `x`", "code": "agent_unknown"});
        let failure = problem(reqwest::StatusCode::NOT_FOUND, &body, "http://h");
        assert_eq!(failure.text(false).unwrap(), "error: no agent is called `x` (agent_unknown)\n");
        let failure = problem(reqwest::StatusCode::BAD_GATEWAY, &Value::Null, "http://h");
        assert!(failure.text(false).unwrap().contains("http://h answered 502"));
    }

    #[test]
    fn pages_are_read_with_and_without_a_cursor() {
        let (items, next) = page_of(json!({"items": [1, 2], "next_cursor": "c"}));
        assert_eq!((items.len(), next.as_deref()), (2, Some("c")));
        assert_eq!(page_of(json!([1])), (vec![json!(1)], None));
    }
}
