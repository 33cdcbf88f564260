//! OpenAI's chat completions, and everything that speaks them through `base_url`.

mod failure;
mod reply;
mod request;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use agentry_http::{Clients, with_causes};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use reqwest::Response;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout};

use crate::{Call, LlmError, LlmErrorKind, LlmProvider, Timed, TokenSink};

pub(crate) use failure::word;

/// OpenAI's own address.
pub const DEFAULT_BASE_URL: &str = "https://api.openai.com/v1";
/// The largest answer that is read, in bytes.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
/// The longest silence within a stream.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Idle connections kept for each host: as many as may have been in use at once.
const MAX_IDLE_CONNECTIONS: usize = crate::MAX_CONCURRENT_CALLS;
/// How much of the body of an error is read, in bytes.
const MAX_ERROR_BODY_BYTES: usize = 64 * 1024;

/// Where calls go and with which key.
#[derive(Debug, Clone, Default)]
pub struct OpenAiSettings {
    /// Sent as a bearer token when there is one.
    pub api_key: Option<SecretString>,
    /// Where a target without a `base_url` goes; [`DEFAULT_BASE_URL`] when absent.
    pub base_url: Option<String>,
    /// Where every target goes, whatever it says; the key is not sent there.
    pub override_base_url: Option<String>,
}

/// The client. One for the whole process: its connections are shared by all agents.
#[derive(Debug)]
pub struct OpenAi {
    settings: OpenAiSettings,
    clients: Clients,
}

impl OpenAi {
    /// A client; connections are opened with the first calls.
    #[must_use]
    pub fn new(settings: OpenAiSettings) -> Self {
        Self { settings, clients: Clients::new(MAX_IDLE_CONNECTIONS) }
    }

    fn base_url<'a>(&'a self, call: &'a Call) -> &'a str {
        let chosen = self.settings.override_base_url.as_deref().or(call.target.base_url.as_deref());
        chosen.or(self.settings.base_url.as_deref()).unwrap_or(DEFAULT_BASE_URL).trim_end_matches('/')
    }

    fn key(&self, call: &Call, base_url: &str) -> Result<Option<HeaderValue>, LlmError> {
        let authentication = |message: &str| failure::error(call, LlmErrorKind::Authentication, message);
        if self.settings.override_base_url.is_some() {
            return Ok(None);
        }
        let Some(key) = &self.settings.api_key else {
            if base_url == DEFAULT_BASE_URL {
                return Err(authentication(
                    "no API key: set OPENAI_API_KEY, or start with --sim to answer without a key",
                ));
            }
            return Ok(None);
        };
        let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose_secret().trim()))
            .map_err(|_| authentication("OPENAI_API_KEY has characters that no HTTP header takes"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The error without the key, should a server have repeated it.
    fn without_key(&self, mut error: LlmError) -> LlmError {
        let key = self.settings.api_key.as_ref().map(|key| key.expose_secret().trim()).filter(|key| !key.is_empty());
        if let Some(key) = key.filter(|key| error.message.contains(key)) {
            error.message = error.message.replace(key, "[key]");
        }
        error
    }

    /// Sends the call; the answer's head has arrived and is a success when this returns.
    async fn send(&self, call: &Call, stream: bool) -> Result<Response, LlmError> {
        let invalid = |problem: String| failure::error(call, LlmErrorKind::InvalidRequest, problem);
        let base_url = self.base_url(call);
        let key = self.key(call, base_url)?;
        let body = request::body(call, stream, base_url == DEFAULT_BASE_URL)
            .map_err(|error| invalid(format!("the request cannot be written: {error}")))?;
        let id = call.id.to_string();
        let client = self
            .clients
            .client(base_url)
            .map_err(|problem| failure::error(call, LlmErrorKind::Unavailable, problem))?;
        let mut request = client
            .post(format!("{base_url}/chat/completions"))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, if stream { "text/event-stream" } else { "application/json" })
            .header("x-request-id", &id)
            .header("x-client-request-id", &id)
            .header("traceparent", traceparent(call))
            .body(body);
        if let Some(key) = key {
            request = request.header(AUTHORIZATION, key);
        }
        let response = request.send().await.map_err(|error| {
            let kind = if error.is_builder() { LlmErrorKind::InvalidRequest } else { LlmErrorKind::Unavailable };
            let what = if error.is_builder() { "check base_url" } else { "no answer" };
            failure::error(call, kind, format!("{what} ({base_url}): {}", with_causes(&error.without_url())))
        })?;
        if response.status().is_success() { Ok(response) } else { Err(refused(call, response).await) }
    }

    async fn complete(&self, call: &Call, started: Instant) -> Result<Timed, LlmError> {
        let response = self.send(call, false).await?;
        let body = match read(response, MAX_BODY_BYTES).await {
            Ok((_, true)) => return Err(too_large(call)),
            Ok((body, false)) => body,
            Err(error) => return Err(cut_off(call, &with_causes(&error))),
        };
        let malformed = |problem: String| failure::error(call, LlmErrorKind::Malformed, problem);
        let completion = serde_json::from_slice(&body).map_err(|error| {
            malformed(format!("the answer is not a chat completion ({error}): {}", failure::excerpt(&body)))
        })?;
        let assembly =
            reply::Assembly::whole(completion).ok_or_else(|| malformed("the answer has no choices".into()))?;
        let usage = assembly.usage;
        let reply = assembly
            .finish(&call.target.model, &call.id)
            .map_err(|problem| LlmError { usage, ..malformed(problem) })?;
        Ok(Timed { reply, duration: started.elapsed(), first_token: None })
    }
}

#[async_trait]
impl LlmProvider for OpenAi {
    async fn call(&self, call: &Call, sink: Option<Arc<dyn TokenSink>>) -> Result<Timed, LlmError> {
        let started = Instant::now();
        let work = async {
            match sink {
                None => self.complete(call, started).await,
                Some(sink) => stream::read(call, self.send(call, true).await?, &*sink, started).await,
            }
        };
        let result = timeout(call.timeout, work).await.unwrap_or_else(|_| {
            Err(failure::error(call, LlmErrorKind::Unavailable, format!("no whole answer within {:?}", call.timeout)))
        });
        result.map_err(|error| self.without_key(error))
    }
}

/// The error that a refused call means; its body is read as far as it helps.
async fn refused(call: &Call, response: Response) -> LlmError {
    let (status, headers) = (response.status(), response.headers().clone());
    let body = read(response, MAX_ERROR_BODY_BYTES).await.map(|(body, _)| body).unwrap_or_default();
    failure::of_status(call, status, &headers, &body)
}

/// At most `bound` bytes of a body, and whether there was more.
async fn read(mut response: Response, bound: usize) -> Result<(Bytes, bool), reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > bound {
            body.extend_from_slice(&chunk[..bound - body.len()]);
            return Ok((body.freeze(), true));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body.freeze(), false))
}

fn too_large(call: &Call) -> LlmError {
    failure::error(call, LlmErrorKind::Malformed, format!("the answer is larger than {MAX_BODY_BYTES} bytes"))
}

fn cut_off(call: &Call, problem: &str) -> LlmError {
    failure::error(call, LlmErrorKind::Unavailable, format!("the answer was cut off: {problem}"))
}

/// W3C trace context; the call is the parent span, named by the random half of its id.
fn traceparent(call: &Call) -> String {
    let mut span = [0; 8];
    span.copy_from_slice(&call.id.as_bytes()[8..]);
    format!("00-{}-{:016x}-01", call.trace_id, u64::from_be_bytes(span).max(1))
}

#[cfg(test)]
mod tests {
    use agentry_core::agent::{AgentName, LlmTarget, ProviderKind, SamplingParams};
    use agentry_core::chat::{ChatRequest, Message};
    use agentry_core::id::CallId;
    use agentry_core::task::TraceId;

    use super::*;

    /// A call that asks a model at `base_url` one question.
    pub(crate) fn call(base_url: &str) -> Call {
        Call {
            id: CallId::from_parts(1, 2),
            agent: AgentName::new("tester").unwrap(),
            trace_id: TraceId(0xabc),
            target: LlmTarget {
                provider: ProviderKind::Openai,
                model: "sim-small".into(),
                base_url: (!base_url.is_empty()).then(|| base_url.into()),
                region: None,
            },
            request: ChatRequest {
                messages: vec![Message::User { content: "hi".into() }],
                tools: Vec::new(),
                output_schema: None,
            },
            params: SamplingParams::default(),
            response_format: None,
            timeout: Duration::from_secs(5),
        }
    }

    #[tokio::test]
    async fn a_missing_key_names_the_variable_and_nothing_is_sent() {
        let error = OpenAi::new(OpenAiSettings::default()).call(&call(""), None).await.unwrap_err();
        assert_eq!(error.kind, LlmErrorKind::Authentication);
        assert!(error.message.contains("OPENAI_API_KEY"), "{error}");
    }

    #[tokio::test]
    async fn nobody_listening_is_unavailable_and_a_bad_address_is_the_files_fault() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = OpenAi::new(OpenAiSettings::default());
        let error = client.call(&call(&format!("http://127.0.0.1:{port}/v1")), None).await.unwrap_err();
        assert_eq!(error.kind, LlmErrorKind::Unavailable, "{error}");
        let error = client.call(&call("http://localhost:notaport"), None).await.unwrap_err();
        assert_eq!(error.kind, LlmErrorKind::InvalidRequest, "{error}");
    }

    #[test]
    fn the_key_is_not_printed_and_does_not_go_to_the_override() {
        let settings = OpenAiSettings {
            api_key: Some("sk-secret-secret".to_owned().into()),
            override_base_url: Some("http://127.0.0.1:1/v1".into()),
            base_url: None,
        };
        assert!(!format!("{settings:?}").contains("secret-secret"));
        let client = OpenAi::new(settings);
        let call = call("https://example.com/v1");
        assert_eq!(client.base_url(&call), "http://127.0.0.1:1/v1");
        assert!(client.key(&call, client.base_url(&call)).unwrap().is_none());
    }

    #[test]
    fn the_trace_goes_along() {
        let header = traceparent(&call(""));
        assert_eq!(header.len(), 55);
        assert!(header.starts_with("00-00000000000000000000000000000abc-") && header.ends_with("-01"), "{header}");
    }
}
