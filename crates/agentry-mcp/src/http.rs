//! The client side of streamable HTTP, as the SDK requires it.
//!
//! It replaces the SDK's client, so that the process has one HTTP stack with one TLS provider, and responses are
//! truncated while they are read, both as JSON and as server-sent events.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use agentry_http::with_causes;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};
use serde_json::Value;
use sse_stream::{Sse, SseStream};

use crate::diagnostics::Diagnostics;
use crate::lines::{MAX_MESSAGE_BYTES, too_long};
use crate::truncate::Truncator;

/// Bytes of an error body that are reported.
const MAX_ERROR_BYTES: usize = 4 * 1024;
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

#[derive(Clone)]
pub(crate) struct Http {
    client: Client,
    diagnostics: Arc<Diagnostics>,
}

#[derive(Debug)]
pub(crate) enum HttpFault {
    /// The server answered with an HTTP error.
    Status { status: StatusCode, body: String },
    /// No connection: nothing was sent.
    NotSent(String),
    /// The request was sent, and the response was lost.
    Lost(String),
}

impl fmt::Display for HttpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { status, body } if body.is_empty() => write!(f, "HTTP {status}"),
            Self::Status { status, body } => write!(f, "HTTP {status}: {body}"),
            Self::NotSent(reason) | Self::Lost(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for HttpFault {}

type Fault = StreamableHttpError<HttpFault>;
type Headers = HashMap<HeaderName, HeaderValue>;

impl Http {
    pub fn new(client: Client, diagnostics: Arc<Diagnostics>) -> Self {
        Self { client, diagnostics }
    }

    fn fault(&self, fault: HttpFault) -> Fault {
        self.diagnostics.record_fault(&fault.to_string());
        StreamableHttpError::Client(fault)
    }

    async fn send(
        &self,
        mut request: RequestBuilder,
        session: Option<&str>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<Response, Fault> {
        if let Some(session) = session {
            request = request.header(SESSION, session);
        }
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.send().await.map_err(|error| {
            let nothing_happened = error.is_connect() || error.is_builder();
            let reason = with_causes(&error.without_url());
            self.fault(if nothing_happened { HttpFault::NotSent(reason) } else { HttpFault::Lost(reason) })
        })
    }

    /// Returns the HTTP error with the beginning of its body.
    async fn refused(&self, response: Response) -> Fault {
        let status = response.status();
        let mut body = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(Ok(chunk)) = stream.next().await {
            body.extend_from_slice(&chunk[..chunk.len().min(MAX_ERROR_BYTES - body.len())]);
            if body.len() >= MAX_ERROR_BYTES {
                break;
            }
        }
        let body = self.diagnostics.mask(String::from_utf8_lossy(&body).trim());
        self.fault(HttpFault::Status { status, body })
    }

    async fn post(
        &self,
        uri: &str,
        message: &ClientJsonRpcMessage,
        session: Option<&str>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<StreamableHttpPostResponse, Fault> {
        let request = self.client.post(uri).header(ACCEPT, format!("{JSON}, {EVENTS}")).json(message);
        let response = self.send(request, session, token, headers).await?;
        let status = response.status();
        if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        if status == StatusCode::NOT_FOUND && session.is_some() {
            return Err(StreamableHttpError::SessionExpired);
        }
        if !status.is_success() {
            return Err(self.refused(response).await);
        }
        let id = match message {
            ClientJsonRpcMessage::Request(request) => serde_json::to_value(&request.id).ok(),
            _ => None,
        };
        let session = response.headers().get(&SESSION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        match (media_type(&response), id) {
            (Some(EVENTS), id) => Ok(StreamableHttpPostResponse::Sse(events(response, id), session)),
            // No response is expected, so its content does not matter.
            (_, None) => Ok(StreamableHttpPostResponse::Accepted),
            (Some(JSON), Some(id)) => Ok(StreamableHttpPostResponse::Json(self.json(response, &id).await?, session)),
            (_, Some(_)) => {
                let kind = response.headers().get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
                let fault = format!("it answers with {} where JSON is expected", kind.as_deref().unwrap_or("no type"));
                self.diagnostics.record_fault(&fault);
                Err(StreamableHttpError::UnexpectedServerResponse(Cow::Owned(fault)))
            }
        }
    }

    async fn json(&self, response: Response, id: &Value) -> Result<ServerJsonRpcMessage, Fault> {
        let (mut truncator, mut body) = (Truncator::default(), Vec::new());
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| self.fault(HttpFault::Lost(with_causes(&error.without_url()))))?;
            truncator.push(&chunk, &mut body);
            if body.len() > MAX_MESSAGE_BYTES {
                return serde_json::from_value(too_long(id)).map_err(StreamableHttpError::Deserialize);
            }
        }
        serde_json::from_slice(&body).map_err(|error| {
            let fault = format!("its answer is no JSON-RPC: {error}");
            self.fault(HttpFault::Lost(fault))
        })
    }
}

impl StreamableHttpClient for Http {
    type Error = HttpFault;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<StreamableHttpPostResponse, Fault> {
        self.post(&uri, &message, session.as_deref(), token, headers).await
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<(), Fault> {
        // The result does not matter: the session is not used again.
        self.send(self.client.delete(uri.as_ref()), Some(&session), token, headers).await.map(drop)
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Fault> {
        let mut request = self.client.get(uri.as_ref()).header(ACCEPT, EVENTS);
        if let Some(last_event) = last_event {
            request = request.header(LAST_EVENT, last_event);
        }
        let response = self.send(request, session.as_deref(), token, headers).await?;
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        }
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        match media_type(&response) {
            Some(EVENTS) => Ok(events(response, None)),
            _ => Err(StreamableHttpError::ServerDoesNotSupportSse),
        }
    }
}

/// Returns [`JSON`], [`EVENTS`] or `None`.
fn media_type(response: &Response) -> Option<&'static str> {
    let value = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim();
    [JSON, EVENTS].into_iter().find(|known| essence.eq_ignore_ascii_case(known))
}

/// Returns the events of a response. One that is too long is skipped; when a response to `id` is expected, an error is
/// returned in its place.
fn events(response: Response, id: Option<Value>) -> BoxStream<'static, Result<Sse, SseError>> {
    let events = Events { id, truncator: Truncator::default(), held: Vec::new(), scanned: 0, too_long: false };
    let whole = stream::unfold((response, Some(events)), |(mut response, events)| async move {
        let mut events = events?;
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    if let Some(whole) = events.take(&chunk) {
                        return Some((Ok(whole), (response, Some(events))));
                    }
                }
                Ok(None) => return Some((Ok(Bytes::from(events.held)), (response, None))),
                Err(error) => return Some((Err(error.without_url()), (response, None))),
            }
        }
    });
    SseStream::from_bytes_stream(Box::pin(whole)).boxed()
}

struct Events {
    id: Option<Value>,
    truncator: Truncator,
    held: Vec<u8>,
    /// Bytes of `held` in which no event ends.
    scanned: usize,
    too_long: bool,
}

impl Events {
    /// Adds bytes; returns the complete events.
    fn take(&mut self, chunk: &[u8]) -> Option<Bytes> {
        self.truncator.push(chunk, &mut self.held);
        let from = self.scanned.saturating_sub(3);
        let end = last_end(&self.held[from..]).map(|end| from + end);
        let Some(end) = end else {
            if self.too_long || self.held.len() > MAX_MESSAGE_BYTES {
                self.too_long = true;
                // The last bytes may be the beginning of the event's end.
                self.held.drain(..self.held.len() - 3);
            }
            self.scanned = self.held.len();
            return None;
        };
        let rest = self.held.split_off(end);
        let mut whole = std::mem::replace(&mut self.held, rest);
        self.scanned = self.held.len();
        if std::mem::take(&mut self.too_long) {
            // The end of the long event, and possibly events that arrived with it, which are lost.
            let id = self.id.as_ref()?;
            whole = format!("data: {}\n\n", too_long(id)).into_bytes();
        }
        Some(Bytes::from(whole))
    }
}

/// Returns the end of the last event: after an empty line.
fn last_end(bytes: &[u8]) -> Option<usize> {
    (0..bytes.len()).rev().find_map(|at| {
        let before = &bytes[..=at];
        (before.ends_with(b"\n\n") || before.ends_with(b"\n\r\n")).then_some(at + 1)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reader(id: Option<Value>) -> Events {
        Events { id, truncator: Truncator::default(), held: Vec::new(), scanned: 0, too_long: false }
    }

    #[test]
    fn events_pass_when_they_are_whole() {
        let mut events = reader(None);
        assert_eq!(events.take(b"data: {\"a\":1}\n"), None);
        assert_eq!(events.take(b"\ndata: x").as_deref(), Some(b"data: {\"a\":1}\n\n".as_slice()));
        assert_eq!(events.take(b"\r\n\r").as_deref(), None);
        assert_eq!(events.take(b"\n").as_deref(), Some(b"data: x\r\n\r\n".as_slice()));
    }

    #[test]
    fn a_long_event_is_answered_for_and_the_next_one_passes() {
        let mut events = reader(Some(json!(4)));
        events.take(b"data: [0");
        for _ in 0..MAX_MESSAGE_BYTES / 4096 + 2 {
            assert_eq!(events.take(&b",123".repeat(1024)), None);
            assert!(events.held.len() <= MAX_MESSAGE_BYTES + 4096);
        }
        let event = events.take(b"]\n\n").expect("the end of the event");
        assert!(event.starts_with(b"data: {") && event.ends_with(b"\n\n"), "{event:?}");
        let text = String::from_utf8_lossy(&event);
        assert!(text.contains("\"id\":4") && text.contains("ask for less"), "{text}");
        assert_eq!(events.take(b"data: y\n\n").as_deref(), Some(b"data: y\n\n".as_slice()));
    }
}
