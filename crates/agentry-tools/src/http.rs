//! HTTP tools: the arguments are posted as JSON, the body that comes back is the output.

use std::time::Duration;

use agentry_core::agent::{ToolAuth, ToolAuthKind};
use agentry_http::{Clients, with_causes};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::timeout;

use crate::environment::{Lookup, resolve};
use crate::{Invocation, ToolError, ToolOutput};

/// The longest output that is read, in bytes; the rest is cut with a note.
const MAX_OUTPUT_BYTES: usize = 1024 * 1024;
/// How much of the body of an error is shown to the model, in bytes.
const MAX_ERROR_BYTES: usize = 4 * 1024;
/// Idle connections kept for each host.
const MAX_IDLE_CONNECTIONS: usize = 64;

/// The client for HTTP tools, shared by all of them.
pub(crate) struct HttpTools {
    lookup: Lookup,
    clients: Clients,
}

impl HttpTools {
    pub(crate) fn new(lookup: Lookup) -> Self {
        Self { lookup, clients: Clients::new(MAX_IDLE_CONNECTIONS) }
    }

    /// One call.
    pub(crate) async fn post(
        &self,
        url: &str,
        arguments: &Value,
        invocation: &Invocation<'_>,
    ) -> Result<ToolOutput, ToolError> {
        let limit = Duration::from_millis(invocation.tool.timeout_ms);
        let request = self.request(url, arguments, invocation).map_err(|reason| unavailable(invocation, reason))?;
        let exchange = async {
            let response = request.send().await.map_err(|error| not_sent(invocation, error))?;
            output(invocation, response).await
        };
        match timeout(limit, exchange).await {
            Ok(result) => result,
            Err(_) => Err(unknown(invocation, format!("no whole answer within {limit:?}"))),
        }
    }

    fn request(&self, url: &str, arguments: &Value, invocation: &Invocation<'_>) -> Result<RequestBuilder, String> {
        let key = HeaderValue::from_str(&invocation.idempotency_key)
            .map_err(|_| "its idempotency key has characters that no HTTP header takes".to_owned())?;
        let mut request = self
            .clients
            .client(url)?
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/plain;q=0.9, */*;q=0.8")
            .header("idempotency-key", key)
            .header("traceparent", invocation.place.traceparent())
            .body(arguments.to_string());
        if let Some(auth) = &invocation.tool.auth {
            let (name, value) = self.credential(auth)?;
            request = request.header(name, value);
        }
        Ok(request)
    }

    fn credential(&self, auth: &ToolAuth) -> Result<(HeaderName, HeaderValue), String> {
        let token = token(auth, &self.lookup)?;
        let token = token.expose_secret();
        let (name, text) = match auth.kind {
            ToolAuthKind::BearerToken | ToolAuthKind::Oauth2 => (AUTHORIZATION, format!("Bearer {token}")),
            ToolAuthKind::ApiKey => (HeaderName::from_static("x-api-key"), token.to_owned()),
        };
        let mut value =
            HeaderValue::try_from(text).map_err(|_| "its token has characters that no HTTP header takes".to_owned())?;
        value.set_sensitive(true);
        Ok((name, value))
    }
}

/// The token of this moment, without the spaces and newlines that files of secrets end with.
pub(crate) fn token(auth: &ToolAuth, lookup: &Lookup) -> Result<SecretString, String> {
    resolve(&auth.token, lookup).map(|token| token.expose_secret().trim().to_owned().into())
}

/// The answer as the model sees it. A tool that answers with an error has answered: the model is told.
async fn output(invocation: &Invocation<'_>, response: Response) -> Result<ToolOutput, ToolError> {
    let status = response.status();
    let bound = if status.is_success() { MAX_OUTPUT_BYTES } else { MAX_ERROR_BYTES };
    let body = match read(response, bound).await {
        Ok(body) => body,
        // The status tells what happened, also when the text that explains it is lost.
        Err(error) if !status.is_success() => format!("(body lost: {})", with_causes(&error.without_url())),
        Err(error) => {
            return Err(unknown(invocation, format!("the answer was cut off: {}", with_causes(&error.without_url()))));
        }
    };
    if status.is_success() {
        return Ok(ToolOutput { text: body, is_error: false, is_refusal: false });
    }
    let hint = if status.is_redirection() { " (redirects are not followed)" } else { "" };
    let text = format!("HTTP {status}{hint}: {body}");
    Ok(ToolOutput { text, is_error: true, is_refusal: turns_away(status) })
}

/// Whether a status may come from something that stands before the tool, or from a tool that looked no further: RFC 9110
/// §15.5 and §15.6, RFC 8470 (425) and RFC 6585 (429). Any other error answers what was asked.
fn turns_away(status: StatusCode) -> bool {
    status.is_redirection()
        || status.is_server_error()
        || matches!(
            status,
            StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::NOT_FOUND
                | StatusCode::PROXY_AUTHENTICATION_REQUIRED
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_EARLY
                | StatusCode::TOO_MANY_REQUESTS
        )
}

/// At most `bound` bytes of a body as text, with a note when there was more.
async fn read(mut response: Response, bound: usize) -> Result<String, reqwest::Error> {
    let mut body = Vec::new();
    let mut is_cut = false;
    while let Some(chunk) = response.chunk().await? {
        let room = bound - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            is_cut = true;
            break;
        }
    }
    if is_cut && let Err(error) = std::str::from_utf8(&body) {
        // A character that the cut went through is left out; other bytes that are no text are kept to be replaced.
        if error.error_len().is_none() {
            body.truncate(error.valid_up_to());
        }
    }
    let mut text = String::from_utf8_lossy(&body).into_owned();
    if is_cut {
        text.push_str(&format!("\n[cut: the first {bound} bytes are shown]"));
    }
    Ok(text)
}

/// A request that got no answer: nothing happened if there never was a connection, otherwise nobody knows.
fn not_sent(invocation: &Invocation<'_>, error: reqwest::Error) -> ToolError {
    let nothing_happened = error.is_connect() || error.is_builder();
    let reason = with_causes(&error.without_url());
    if nothing_happened { unavailable(invocation, reason) } else { unknown(invocation, reason) }
}

fn unavailable(invocation: &Invocation<'_>, reason: String) -> ToolError {
    ToolError::Unavailable { tool: invocation.tool.name.to_string(), reason }
}

fn unknown(invocation: &Invocation<'_>, reason: String) -> ToolError {
    ToolError::Unknown { tool: invocation.tool.name.to_string(), reason }
}
