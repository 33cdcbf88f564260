//! HTTP tools: the arguments are posted as JSON, and the response body is the output.

use std::time::Duration;

use agentry_core::agent::{ToolAuth, ToolAuthKind};
use agentry_http::{ClientError, Clients, read_bounded, with_causes};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::timeout;

use crate::environment::{Lookup, VariableError, resolve};
use crate::{Invocation, ToolError, ToolOutput};

/// Longest output that is read, in bytes; the rest is cut with a note.
const MAX_OUTPUT_BYTES: usize = 1024 * 1024;
/// Bytes of an error body that the model sees.
const MAX_ERROR_BYTES: usize = 4 * 1024;
/// Idle connections kept per host.
const MAX_IDLE_CONNECTIONS: usize = 64;

#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("its {0} has characters that no HTTP header takes")]
    InvalidHeader(&'static str),
    #[error(transparent)]
    Variable(#[from] VariableError),
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// The HTTP client that all HTTP tools share.
pub(crate) struct HttpTools {
    lookup: Lookup,
    clients: Clients,
}

impl HttpTools {
    pub(crate) fn new(lookup: Lookup) -> Self {
        Self { lookup, clients: Clients::new(MAX_IDLE_CONNECTIONS) }
    }

    pub(crate) async fn post(
        &self,
        url: &str,
        arguments: &Value,
        invocation: &Invocation<'_>,
    ) -> Result<ToolOutput, ToolError> {
        let limit = Duration::from_millis(invocation.tool.timeout_ms);
        let request =
            self.request(url, arguments, invocation).map_err(|reason| unavailable(invocation, reason.to_string()))?;
        let exchange = async {
            let response = request.send().await.map_err(|error| send_error(invocation, error))?;
            output(invocation, response).await
        };
        match timeout(limit, exchange).await {
            Ok(result) => result,
            Err(_) => Err(unknown(invocation, format!("no whole answer within {limit:?}"))),
        }
    }

    fn request(
        &self,
        url: &str,
        arguments: &Value,
        invocation: &Invocation<'_>,
    ) -> Result<RequestBuilder, RequestError> {
        let key = HeaderValue::from_str(&invocation.idempotency_key)
            .map_err(|_| RequestError::InvalidHeader("idempotency key"))?;
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

    fn credential(&self, auth: &ToolAuth) -> Result<(HeaderName, HeaderValue), RequestError> {
        let token = token(auth, &self.lookup)?;
        let token = token.expose_secret();
        let (name, text) = match auth.kind {
            ToolAuthKind::BearerToken | ToolAuthKind::Oauth2 => (AUTHORIZATION, format!("Bearer {token}")),
            ToolAuthKind::ApiKey => (HeaderName::from_static("x-api-key"), token.to_owned()),
        };
        let mut value = HeaderValue::try_from(text).map_err(|_| RequestError::InvalidHeader("token"))?;
        value.set_sensitive(true);
        Ok((name, value))
    }
}

/// Returns the current token, without the white space that secret files end with.
pub(crate) fn token(auth: &ToolAuth, lookup: &Lookup) -> Result<SecretString, VariableError> {
    resolve(&auth.token, lookup).map(|token| token.expose_secret().trim().to_owned().into())
}

/// Converts the response for the model. An HTTP error is an answer of the tool, so the model sees it.
async fn output(invocation: &Invocation<'_>, response: Response) -> Result<ToolOutput, ToolError> {
    let status = response.status();
    let bound = if status.is_success() { MAX_OUTPUT_BYTES } else { MAX_ERROR_BYTES };
    let body = match read(response, bound).await {
        Ok(body) => body,
        // The status tells the result, even when the body is lost.
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
    Ok(ToolOutput { text, is_error: true, is_refusal: is_refusal(status) })
}

/// Returns true for statuses of a proxy before the tool, or of a tool that did not process the request: RFC 9110 §15.5
/// and §15.6, RFC 8470 (425) and RFC 6585 (429). Any other error is the tool's answer.
fn is_refusal(status: StatusCode) -> bool {
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

/// Reads at most `bound` bytes of a body as text, with a note when there was more.
async fn read(response: Response, bound: usize) -> Result<String, reqwest::Error> {
    let (mut body, is_cut) = read_bounded(response, bound).await?;
    if is_cut && let Err(error) = std::str::from_utf8(&body) {
        // A character that was cut in two is left out; other invalid bytes are replaced later.
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

/// Converts a request without a response: without a connection nothing happened, otherwise the outcome is unknown.
fn send_error(invocation: &Invocation<'_>, error: reqwest::Error) -> ToolError {
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
