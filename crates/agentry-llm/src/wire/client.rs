//! One call over HTTP, for every protocol: sending, bounded reading, timeouts, errors.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::agent::LlmTarget;
use agentry_http::{Clients, Lease, read_bounded, with_causes};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::Response;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::time::{Instant, timeout, timeout_at};

use super::draft::InvalidAnswer;
use super::failure::{self, malformed};
use super::frames::{Frame, FramingError};
use super::mend::Refusals;
use super::{Draft, Outgoing, Progress, Protocol, Timeouts};
use crate::{Call, LlmError, LlmErrorKind, LlmProvider, TimedReply, TokenSink};

/// Largest answer that is read, in bytes.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
/// Largest error body that is read, in bytes.
const MAX_ERROR_BODY_BYTES: usize = 64 * 1024;
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(5);
const WARM_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest number of parameters that are found out to be refused in one call.
const MAX_CHANGES: usize = 4;

pub(crate) struct Client {
    protocol: Box<dyn Protocol>,
    clients: Arc<Clients>,
    timeouts: Timeouts,
    refusals: Refusals,
}

impl Client {
    /// Creates a client that speaks `protocol`. Connections are opened when they are first needed.
    pub fn new(protocol: Box<dyn Protocol>, clients: Arc<Clients>, timeouts: Timeouts) -> Self {
        Self { protocol, clients, timeouts, refusals: Refusals::default() }
    }

    async fn call_once(&self, call: &Call, sink: Option<&dyn TokenSink>) -> Result<TimedReply, LlmError> {
        let started = Instant::now();
        let deadline = started + call.timeout;
        let late = || failure::error(call, LlmErrorKind::Timeout, format!("no whole answer within {:?}", call.timeout));
        let client = self.client(call)?;
        match sink {
            None => {
                let whole = async { self.read(call, self.send(call, &client, false).await?).await };
                let draft = timeout_at(deadline, whole).await.unwrap_or_else(|_| Err(late()))?;
                timed(call, draft, started, None)
            }
            Some(sink) => {
                let by = deadline.min(started + self.timeouts.first_token);
                let sent = timeout_at(by, self.send(call, &client, true)).await;
                let response = sent.unwrap_or_else(|_| Err(self.silence_error(call, by == deadline, false)))?;
                self.stream(call, response, sink, started, deadline).await
            }
        }
    }

    fn client(&self, call: &Call) -> Result<Lease<'_>, LlmError> {
        let base_url = self.protocol.base_url(&call.target);
        let base_url =
            base_url.map_err(|problem| failure::error(call, LlmErrorKind::InvalidRequest, problem.to_string()))?;
        self.clients
            .lease(&base_url)
            .map_err(|problem| failure::error(call, LlmErrorKind::Unavailable, problem.to_string()))
    }

    /// Sends the call and returns a response with a successful status. A request that is refused for a parameter is sent
    /// again without it.
    async fn send(&self, call: &Call, client: &Lease<'_>, stream: bool) -> Result<Response, LlmError> {
        let mut learned = 0;
        loop {
            let changes = self.refusals.of(call);
            let Outgoing { url, headers, body } = self.protocol.outgoing(call, stream, &changes).await?;
            let body = Bytes::from(body);
            let accept = if stream { self.protocol.framing().accept() } else { "application/json" };
            let request = client.post(&url).headers(common(call, accept)).headers(headers).body(body.clone());
            let response = request.send().await.map_err(|error| not_sent(call, &url, error))?;
            if response.status().is_success() {
                return Ok(response);
            }
            let (error, refusal) = self.refused(call, response).await;
            let may_learn = error.kind == LlmErrorKind::InvalidRequest && !call.params.strict_parameters;
            let field = if may_learn { self.refusals.learn(call, &body, &refusal) } else { None };
            match field {
                Some(field) if learned < MAX_CHANGES => {
                    learned += 1;
                    tracing::warn!(model = %call.target.model, field, %error, "the model refuses a parameter; from now on it is sent without");
                }
                _ => return Err(error),
            }
        }
    }

    /// Converts an error response, whose body is read up to a bound; returns the body too.
    async fn refused(&self, call: &Call, response: Response) -> (LlmError, Vec<u8>) {
        let (status, headers) = (response.status(), response.headers().clone());
        let body = head(response).await;
        let error = self.protocol.refusal(call, status, &headers, &body);
        if error.kind == LlmErrorKind::Authentication {
            self.protocol.credentials_refused().await;
        }
        (error, body)
    }

    async fn read(&self, call: &Call, response: Response) -> Result<Draft, LlmError> {
        let id = request_id(response.headers());
        let body = match read_bounded(response, MAX_BODY_BYTES).await {
            Ok((_, true)) => return Err(too_large(call)),
            Ok((body, false)) => body,
            Err(error) => return Err(cut_off(call, &with_causes(&error))),
        };
        let mut draft = self.protocol.whole(call, &body)?;
        draft.id = draft.id.or(id);
        Ok(draft)
    }

    /// Reads a stream to its end and passes every piece of text on as it comes.
    async fn stream(
        &self,
        call: &Call,
        response: Response,
        sink: &dyn TokenSink,
        started: Instant,
        deadline: Instant,
    ) -> Result<TimedReply, LlmError> {
        let mut draft = Draft::of(call);
        draft.id = request_id(response.headers());
        let mut frames = self.protocol.framing().frames(response);
        let mut first_token = None;
        let failed = |error: LlmError, draft: &Draft| LlmError {
            usage: draft.usage,
            is_uncounted: draft.has_begun && !draft.is_counted,
            ..error
        };
        loop {
            let by = match first_token {
                None => started + self.timeouts.first_token,
                Some(_) => Instant::now() + self.timeouts.between_tokens,
            };
            let frame = match timeout_at(by.min(deadline), frames.next()).await {
                Err(_) => return Err(failed(self.silence_error(call, deadline <= by, draft.has_begun), &draft)),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(problem))) => return Err(failed(framing_error(call, problem), &draft)),
                // Some servers omit the end event: the answer is complete once it has a stop reason.
                Ok(None) if draft.stop.is_some() => break,
                Ok(None) => return Err(failed(cut_off(call, "the stream ended before the answer did"), &draft)),
            };
            let progress = self.take(call, &mut draft, &frame, sink).map_err(|error| failed(error, &draft))?;
            if draft.has_begun && first_token.is_none() {
                first_token = Some(started.elapsed());
            }
            if progress == Progress::Done {
                break;
            }
        }
        timed(call, draft, started, first_token)
    }

    fn take(&self, call: &Call, draft: &mut Draft, frame: &Frame, sink: &dyn TokenSink) -> Result<Progress, LlmError> {
        let sent = draft.content.len();
        let progress = if frame.is_whole {
            let id = draft.id.take();
            *draft = self.protocol.whole(call, &frame.data)?;
            draft.id = draft.id.take().or(id);
            draft.has_begun = true;
            Progress::Done
        } else if matches!(frame.data.trim_ascii(), b"" | b"null") && !frame.is_exception {
            // A keep-alive.
            return Ok(Progress::More);
        } else {
            self.protocol.frame(call, draft, frame)?
        };
        // The draft was reset because the text so far was not the answer, so all of it is new.
        let from = if draft.content.len() < sent { 0 } else { sent };
        if draft.may_be_streamed() && draft.content.len() > from {
            sink.piece(&draft.content[from..]);
        }
        Ok(progress)
    }

    fn silence_error(&self, call: &Call, is_total: bool, has_begun: bool) -> LlmError {
        let message = match (is_total, has_begun) {
            (true, _) => format!("no whole answer within {:?}", call.timeout),
            (false, false) => format!("no first token within {:?}", self.timeouts.first_token),
            (false, true) => format!("the answer was cut off: silence for {:?}", self.timeouts.between_tokens),
        };
        failure::error(call, LlmErrorKind::Timeout, message)
    }
}

#[async_trait]
impl LlmProvider for Client {
    async fn call(&self, call: &Call, sink: Option<Arc<dyn TokenSink>>) -> Result<TimedReply, LlmError> {
        match self.call_once(call, sink.as_deref()).await {
            Ok(timed) => Ok(timed),
            Err(error) => Err(failure::redact_error(error, &self.protocol.secrets().await)),
        }
    }

    async fn warm(&self, target: &LlmTarget) {
        let Ok(base_url) = self.protocol.base_url(target) else { return };
        let Ok(client) = self.clients.lease(&base_url) else { return };
        // The request has no content and no key; only the open connection matters.
        let connect = client.head(&base_url).send();
        let ready = async { tokio::join!(self.protocol.warm(), connect) };
        match timeout(WARM_TIMEOUT, ready).await {
            Ok(((), Ok(_))) => tracing::debug!(host = agentry_http::host(&base_url), "connected to an LLM provider"),
            Ok(((), Err(error))) => {
                let error = with_causes(&error.without_url());
                tracing::info!(host = agentry_http::host(&base_url), %error, "LLM provider cannot be reached; its first call will try again");
            }
            Err(_) => tracing::info!(
                host = agentry_http::host(&base_url),
                "LLM provider does not answer; its first call will try again"
            ),
        }
    }
}

fn timed(call: &Call, draft: Draft, started: Instant, first_token: Option<Duration>) -> Result<TimedReply, LlmError> {
    let (usage, is_uncounted) = (draft.usage, !draft.is_counted);
    let (reply, provider_call_id) = draft.finish(call).map_err(|problem| {
        let kind = match problem {
            InvalidAnswer::Refused(_) => LlmErrorKind::Refused,
            _ => LlmErrorKind::Malformed,
        };
        LlmError { usage, is_uncounted, ..failure::error(call, kind, problem.to_string()) }
    })?;
    Ok(TimedReply { reply, duration: started.elapsed(), first_token, provider_call_id, is_uncounted })
}

fn common(call: &Call, accept: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(5);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    // A UUID and hexadecimal digits are always a valid header value.
    if let (Ok(id), Ok(trace)) =
        (HeaderValue::try_from(call.id.to_string()), HeaderValue::try_from(call.place().traceparent()))
    {
        headers.insert("x-request-id", id.clone());
        headers.insert("x-client-request-id", id);
        headers.insert("traceparent", trace);
    }
    headers
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    // Bedrock's, Anthropic's, OpenAI's and Azure's.
    let names = ["x-amzn-requestid", "request-id", "x-request-id", "apim-request-id"];
    let id = names.iter().find_map(|name| headers.get(*name))?;
    id.to_str().ok().map(str::to_owned)
}

/// Reads the beginning of an error body within a time limit.
async fn head(response: Response) -> Vec<u8> {
    let read = timeout(ERROR_BODY_TIMEOUT, read_bounded(response, MAX_ERROR_BODY_BYTES)).await;
    read.ok().and_then(Result::ok).map(|(body, _)| body).unwrap_or_default()
}

fn framing_error(call: &Call, problem: FramingError) -> LlmError {
    match problem {
        FramingError::CutOff(problem) => cut_off(call, &problem),
        FramingError::TooLarge => too_large(call),
        FramingError::Malformed(problem) => malformed(call, format!("the answer is not a stream: {problem}")),
    }
}

/// Returns the error of a request that got no response.
fn not_sent(call: &Call, url: &str, error: reqwest::Error) -> LlmError {
    let (kind, what) = match (error.is_builder(), error.is_timeout()) {
        (true, _) => (LlmErrorKind::InvalidRequest, "check base_url"),
        (false, true) => (LlmErrorKind::Timeout, "no connection in time"),
        (false, false) => (LlmErrorKind::Unavailable, "no answer"),
    };
    failure::error(call, kind, format!("{what} ({}): {}", agentry_http::host(url), with_causes(&error.without_url())))
}

fn too_large(call: &Call) -> LlmError {
    malformed(call, format!("the answer is larger than {MAX_BODY_BYTES} bytes"))
}

fn cut_off(call: &Call, problem: &str) -> LlmError {
    failure::error(call, LlmErrorKind::Unavailable, format!("the answer was cut off: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_call::call;

    #[test]
    fn the_trace_goes_along() {
        let call = call("");
        let header = common(&call, "*/*")["traceparent"].to_str().expect("text").to_owned();
        assert_eq!(header, call.place().traceparent());
        assert!(header.starts_with("00-00000000000000000000000000000abc-") && header.ends_with("-01"), "{header}");
    }
}
