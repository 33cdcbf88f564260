//! A streamed answer: server-sent events until `[DONE]`.

use std::io;

use agentry_http::with_causes;
use futures_util::{Stream, StreamExt};
use reqwest::Response;
use sse_stream::{Error as SseError, SseStream};
use tokio::time::{Instant, timeout};

use super::reply::{Assembly, Chunk};
use super::{IDLE_TIMEOUT, MAX_BODY_BYTES, cut_off, failure, too_large};
use crate::{Call, LlmError, LlmErrorKind, Timed, TokenSink};

/// Reads the stream to its end and hands every piece of text on as it comes.
pub(super) async fn read(
    call: &Call,
    response: Response,
    sink: &dyn TokenSink,
    started: Instant,
) -> Result<Timed, LlmError> {
    let is_stream = |value: &reqwest::header::HeaderValue| value.as_bytes().starts_with(b"text/event-stream");
    if !response.headers().get(reqwest::header::CONTENT_TYPE).is_some_and(is_stream) {
        let body = super::read(response, super::MAX_ERROR_BODY_BYTES).await.map(|(body, _)| body).unwrap_or_default();
        let problem = format!("the answer is not an event stream: {}", failure::excerpt(&body));
        return Err(failure::error(call, LlmErrorKind::Malformed, problem));
    }
    let mut events = Box::pin(SseStream::from_bytes_stream(bounded(response)));
    let mut assembly = Assembly::default();
    let mut first_token = None;
    loop {
        let next = timeout(IDLE_TIMEOUT, events.next()).await;
        let failed = |error: LlmError, assembly: &Assembly| LlmError { usage: assembly.usage, ..error };
        let event = match next {
            Err(_) => return Err(failed(cut_off(call, &format!("silence for {IDLE_TIMEOUT:?}")), &assembly)),
            Ok(Some(Ok(event))) => event,
            Ok(Some(Err(error))) => return Err(failed(broken(call, &error), &assembly)),
            // Some servers end without `[DONE]`: the answer is whole once the model said why it stopped.
            Ok(None) if assembly.is_finished() => break,
            Ok(None) => return Err(failed(cut_off(call, "the stream ended before the answer did"), &assembly)),
        };
        let Some(data) = event.data else { continue };
        if data == "[DONE]" {
            break;
        }
        let chunk = parse(call, &data).map_err(|error| failed(error, &assembly))?;
        if let Some(text) = assembly.chunk(chunk) {
            first_token.get_or_insert_with(|| started.elapsed());
            sink.piece(&text);
        }
    }
    let usage = assembly.usage;
    let reply = assembly.finish(&call.target.model, &call.id).map_err(|problem| {
        let error = failure::error(call, LlmErrorKind::Malformed, problem);
        LlmError { usage, ..error }
    })?;
    Ok(Timed { reply, duration: started.elapsed(), first_token })
}

fn parse(call: &Call, data: &str) -> Result<Chunk, LlmError> {
    let chunk: Chunk = serde_json::from_str(data).map_err(|error| {
        let problem = format!("a piece of the stream is not a chunk ({error}): {}", failure::excerpt(data.as_bytes()));
        failure::error(call, LlmErrorKind::Malformed, problem)
    })?;
    match &chunk.error {
        None => Ok(chunk),
        Some(said) => {
            let words = failure::own_words(said).unwrap_or("an error without a message");
            Err(failure::error(call, LlmErrorKind::Unavailable, format!("the stream ended with an error: {words}")))
        }
    }
}

/// The body's pieces, ended with an error once they are more than [`MAX_BODY_BYTES`] together.
fn bounded(response: Response) -> impl Stream<Item = Result<bytes::Bytes, io::Error>> {
    let mut read = 0;
    response.bytes_stream().map(move |piece| {
        let piece = piece.map_err(|error| io::Error::other(with_causes(&error)))?;
        read += piece.len();
        if read > MAX_BODY_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(piece) }
    })
}

fn broken(call: &Call, error: &SseError) -> LlmError {
    match error {
        SseError::Body(cause) => match cause.downcast_ref::<io::Error>() {
            Some(cause) if cause.kind() == io::ErrorKind::FileTooLarge => too_large(call),
            _ => cut_off(call, &cause.to_string()),
        },
        other => failure::error(call, LlmErrorKind::Malformed, format!("the answer is not an event stream: {other}")),
    }
}
