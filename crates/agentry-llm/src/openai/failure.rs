//! How a failed call becomes an [`LlmError`]: by HTTP status, in the provider's own words, never with a key.

use std::time::Duration;

use agentry_core::agent::ProviderKind;
use agentry_core::chat::Usage;
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use serde_json::Value;

use crate::{Call, LlmError, LlmErrorKind};

/// How much of a provider's own message is kept, in characters.
const MAX_MESSAGE_CHARS: usize = 500;
/// How much of a body that is not JSON is shown, in characters.
const EXCERPT_CHARS: usize = 200;

/// What begins as a key does and is no longer than this is a word.
const SHORTEST_KEY_BYTES: usize = 8;

/// An error of this call.
pub(super) fn error(call: &Call, kind: LlmErrorKind, message: impl AsRef<str>) -> LlmError {
    LlmError {
        kind,
        provider: word(call.target.provider),
        model: call.target.model.to_string(),
        message: redacted(message.as_ref(), MAX_MESSAGE_CHARS),
        usage: Usage::default(),
    }
}

/// The provider's word, for errors.
pub(crate) fn word(provider: ProviderKind) -> &'static str {
    provider.as_str()
}

/// The error that an HTTP status other than success means.
pub(super) fn of_status(call: &Call, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> LlmError {
    let kind = match status.as_u16() {
        401 | 403 => LlmErrorKind::Authentication,
        429 => LlmErrorKind::RateLimited { retry_after: retry_after(headers) },
        408 | 409 | 425 | 500.. => LlmErrorKind::Unavailable,
        _ => LlmErrorKind::InvalidRequest,
    };
    let said = serde_json::from_slice::<Value>(body).ok().as_ref().and_then(own_words).map(str::to_owned);
    let said = said.unwrap_or_else(|| if body.is_empty() { "(empty body)".to_owned() } else { excerpt(body) });
    let hint = match status.as_u16() {
        401 | 403 => "; check the API key",
        300..=399 => "; redirects are not followed, check base_url",
        404 => "; check model and base_url",
        _ => "",
    };
    error(call, kind, format!("HTTP {}: {said}{hint}", status.as_u16()))
}

/// The provider's own message in `{"error": {"message"}}`, `{"error": "…"}` or `{"message"}`.
pub(super) fn own_words(body: &Value) -> Option<&str> {
    let inner = body.get("error").unwrap_or(body);
    inner.as_str().or_else(|| inner.get("message").and_then(Value::as_str))
}

/// The beginning of a body that could not be understood.
pub(super) fn excerpt(body: &[u8]) -> String {
    // Four bytes a character at most: no need to decode what is not shown.
    let head = String::from_utf8_lossy(&body[..body.len().min(EXCERPT_CHARS * 4)]).into_owned();
    redacted(&head, EXCERPT_CHARS)
}

/// `Retry-After` in seconds or as a date (RFC 9110 §10.2.3), or OpenAI's `retry-after-ms`.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |value: &reqwest::header::HeaderValue| value.to_str().ok().map(str::trim).map(str::to_owned);
    if let Some(ms) = headers.get("retry-after-ms").and_then(text).and_then(|ms| ms.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(ms / 1_000.0).ok();
    }
    let value = headers.get(RETRY_AFTER).and_then(text)?;
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp());
    let until = date(&value)?;
    // Against the server's own clock where it tells it, so that two clocks need not agree.
    let now = headers.get(DATE).and_then(text).as_deref().and_then(date).unwrap_or_else(jiff::Timestamp::now);
    Some(Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// At most `chars` characters on one line, without anything that looks like a key.
fn redacted(text: &str, chars: usize) -> String {
    let mut shown = String::new();
    for word in text.split_whitespace() {
        if !shown.is_empty() {
            shown.push(' ');
        }
        let Some(at) = word.find("sk-").filter(|at| word.len() - at > SHORTEST_KEY_BYTES) else {
            shown.push_str(word);
            continue;
        };
        let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*');
        let end = word[at..].find(|c| !is_key(c)).map_or(word.len(), |length| at + length);
        shown.push_str(&word[..at]);
        shown.push_str("[key]");
        shown.push_str(&word[end..]);
    }
    match shown.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::tests::call;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (reqwest::header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn statuses_are_sorted_by_who_must_react() {
        let of = |status: u16| {
            of_status(&call("http://x"), StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), b"").kind
        };
        for (status, kind) in [
            (400, LlmErrorKind::InvalidRequest),
            (401, LlmErrorKind::Authentication),
            (403, LlmErrorKind::Authentication),
            (404, LlmErrorKind::InvalidRequest),
            (422, LlmErrorKind::InvalidRequest),
            (429, LlmErrorKind::RateLimited { retry_after: None }),
            (500, LlmErrorKind::Unavailable),
            (503, LlmErrorKind::Unavailable),
            (529, LlmErrorKind::Unavailable),
        ] {
            assert_eq!(of(status), kind, "{status}");
        }
    }

    #[test]
    fn the_providers_own_words_are_kept_without_keys() {
        let body =
            br#"{"error":{"message":"Incorrect API key provided: sk-proj-abcdefghijkl.","code":"invalid_api_key"}}"#;
        let error = of_status(&call("http://x"), StatusCode::UNAUTHORIZED, &HeaderMap::new(), body);
        assert_eq!(error.message, "HTTP 401: Incorrect API key provided: [key].; check the API key");
    }

    #[test]
    fn html_is_shown_in_part() {
        let page = format!("<html>{}</html>", "x ".repeat(1_000));
        let shown = excerpt(page.as_bytes());
        assert!(shown.starts_with("<html>x x") && shown.chars().count() == EXCERPT_CHARS + 1, "{shown}");
    }

    #[test]
    fn retry_after_is_read_in_every_form() {
        let seconds = |pairs: &[(&'static str, &str)]| retry_after(&headers(pairs)).map(|wait| wait.as_secs_f64());
        assert_eq!(seconds(&[("retry-after", "7")]), Some(7.0));
        assert_eq!(seconds(&[("retry-after-ms", "1500"), ("retry-after", "2")]), Some(1.5));
        let date = [("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT"), ("date", "Wed, 21 Oct 2015 07:28:00 GMT")];
        assert_eq!(seconds(&date), Some(30.0));
        assert_eq!(seconds(&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")]), Some(0.0), "in the past");
        assert_eq!(seconds(&[("retry-after", "soon")]), None);
    }
}
