//! Extractors of bodies, queries and ids, whose errors name the place and suggest a correction.

use std::convert::Infallible;
use std::str::FromStr;

use agentry_core::time::Timestamp;
use agentry_core::trace::{Sampling, SpanContext, SpanId, Trace};
use agentry_store::MAX_PAGE;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::problem::{ApiProblem, ApiResult, Code, FieldError, did_you_mean};
use crate::state::AppState;

/// The default number of rows of a page.
pub(crate) const DEFAULT_PAGE: usize = 50;

/// An owned JSON body.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<AppState> for Json<T> {
    type Rejection = ApiProblem;

    async fn from_request(request: Request, state: &AppState) -> ApiResult<Self> {
        let body = read_body(request, state.deps.limits.max_body_bytes).await?;
        parse(&body).map(Self)
    }
}

/// Reads a JSON body of at most `limit` bytes.
pub(crate) async fn read_body(request: Request, limit: usize) -> ApiResult<Bytes> {
    require_json(request.headers())?;
    read_bytes(request, limit).await
}

/// Reads a body of any type of at most `limit` bytes.
pub(crate) async fn read_bytes(mut request: Request, limit: usize) -> ApiResult<Bytes> {
    let too_large = || ApiProblem::new(Code::BodyTooLarge, format!("the body may have at most {limit} bytes"));
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: u64| bytes > limit as u64) {
        return Err(too_large());
    }
    DefaultBodyLimit::max(limit).apply(&mut request);
    Bytes::from_request(request, &()).await.map_err(|rejection| match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => too_large(),
        other => ApiProblem::new(Code::IncompleteBody, format!("the body did not arrive whole: {}", other.body_text())),
    })
}

fn require_json(headers: &HeaderMap) -> ApiResult<()> {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = sent.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let sent = if sent.is_empty() { "no Content-Type".to_owned() } else { format!("`{sent}`") };
    Err(ApiProblem::new(Code::UnsupportedMediaType, format!("{sent} was sent; send `Content-Type: application/json`")))
}

/// Parses a JSON body; borrows from it where `T` does.
pub(crate) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> ApiResult<T> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let at = error.valid_up_to();
        ApiProblem::new(Code::InvalidUtf8, format!("byte {at} of the body does not belong to any UTF-8 character"))
    })?;
    // serde also reads a struct from an array, which is never intended.
    if text.trim_ascii_start().starts_with('[') {
        return Err(ApiProblem::new(Code::InvalidRequest, "the body is an array: expected an object"));
    }
    serde_json::from_str(text).map_err(|error| json_problem(&error))
}

/// Returns the problem of an invalid JSON body.
pub(crate) fn json_problem(error: &serde_json::Error) -> ApiProblem {
    if !error.is_data() {
        return ApiProblem::new(Code::MalformedJson, format!("the body is not JSON: {error}"));
    }
    let detail = format!("{}{}", error, suggestion(&error.to_string()));
    let mut problem = ApiProblem::new(Code::InvalidRequest, detail.clone());
    problem.errors.push(FieldError { pointer: String::new(), detail });
    problem
}

/// Returns a suggestion for an unknown field or variant, from the message of serde: ``unknown field `a`, expected one of `b`, `c` ``.
fn suggestion(message: &str) -> String {
    if !message.starts_with("unknown field") && !message.starts_with("unknown variant") {
        return String::new();
    }
    let mut words = message.split('`').skip(1).step_by(2);
    let Some(unknown) = words.next() else { return String::new() };
    did_you_mean(unknown, words)
}

/// The query of a request.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<AppState> for Query<T> {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, _state: &AppState) -> ApiResult<Self> {
        axum::extract::Query::<T>::try_from_uri(&parts.uri).map(|query| Self(query.0)).map_err(|rejection| {
            let text = rejection.body_text();
            let reason = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            let found = reason.find("unknown ").map_or("", |at| &reason[at..]);
            ApiProblem::new(Code::InvalidQuery, format!("{reason}{}", suggestion(found)))
        })
    }
}

/// The only parameter of a path, parsed.
pub(crate) struct PathParam<T>(pub(crate) T);

impl<T> FromRequestParts<AppState> for PathParam<T>
where
    T: FromStr<Err: std::fmt::Display>,
{
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, _state: &AppState) -> ApiResult<Self> {
        let bad = |text: String| ApiProblem::new(Code::InvalidId, text);
        let Path(text) =
            Path::<String>::from_request_parts(parts, &()).await.map_err(|error| bad(error.body_text()))?;
        text.parse().map(Self).map_err(|error: T::Err| bad(error.to_string()))
    }
}

/// The span context of a request. The frame sets it, so that handler, problem and audit log have the same trace.
pub(crate) struct RequestSpan(pub(crate) SpanContext);

impl FromRequestParts<AppState> for RequestSpan {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Infallible> {
        Ok(Self(span_context(&parts.extensions, state)))
    }
}

/// Returns the span context of a request; see [`RequestSpan`].
pub(crate) fn span_context(extensions: &Extensions, state: &AppState) -> SpanContext {
    extensions
        .get::<SpanContext>()
        .copied()
        .unwrap_or_else(|| SpanContext::of(state.deps.sampling, begin_trace(), new_span()))
}

/// Returns the span context of a new request: in the trace of its `traceparent`, or in a new one.
pub(crate) fn ingress_span(headers: &HeaderMap, sampling: Sampling) -> SpanContext {
    SpanContext::of(sampling, incoming_trace(headers).unwrap_or_else(begin_trace), new_span())
}

/// Returns a new trace.
pub(crate) fn begin_trace() -> Trace {
    Trace::begin(rand::random())
}

fn new_span() -> SpanId {
    SpanId::new(rand::random())
}

/// Returns the trace of the `traceparent` header, if it is valid.
pub(crate) fn incoming_trace(headers: &HeaderMap) -> Option<Trace> {
    Trace::of_traceparent(headers.get("traceparent")?.to_str().ok()?)
}

/// Parses a time as RFC 3339, or as the start of a UTC day (`YYYY-MM-DD`).
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    serde_json::from_value(serde_json::Value::String(whole)).ok()
}

/// Returns the number of rows of a page, which must be within 1 and [`MAX_PAGE`].
pub(crate) fn page_size(limit: Option<usize>) -> ApiResult<usize> {
    match limit.unwrap_or(DEFAULT_PAGE) {
        limit @ 1..=MAX_PAGE => Ok(limit),
        other => Err(ApiProblem::new(Code::InvalidQuery, format!("`limit` is {other}: use 1 to {MAX_PAGE}"))),
    }
}

/// Encodes the cursor of the next page; opaque to callers.
pub(crate) fn to_cursor(last: &impl std::fmt::Display) -> String {
    URL_SAFE_NO_PAD.encode(last.to_string())
}

/// Decodes a cursor.
pub(crate) fn from_cursor<T: FromStr>(cursor: Option<&str>) -> ApiResult<Option<T>> {
    let Some(cursor) = cursor else { return Ok(None) };
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    let last = bytes.and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok());
    last.map(Some).ok_or_else(|| {
        ApiProblem::new(Code::InvalidQuery, "`cursor` is not one of this list: pass `next_cursor` of the page before")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip_and_foreign_ones_are_refused() {
        let cursor = to_cursor(&17);
        assert_eq!(from_cursor::<u64>(Some(&cursor)).unwrap(), Some(17));
        assert!(from_cursor::<u64>(Some("???")).is_err());
        assert!(from_cursor::<u64>(Some(&to_cursor(&"x"))).is_err());
    }
}
