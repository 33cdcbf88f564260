//! Conversion of failed calls to [`LlmError`]: by HTTP status, with the provider's message, without keys.

use std::time::{Duration, SystemTime};

use agentry_core::chat::Usage;
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::classify::{kind_of_body, of_number};
use crate::{Call, LlmError, LlmErrorKind};

/// Longest message, in characters.
const MAX_MESSAGE_CHARS: usize = 500;
/// Bytes of an unreadable body that are searched for keys and quoted. More than the message shows, so that a key is
/// never cut in two before it is found.
const EXCERPT_BYTES: usize = 4 * MAX_MESSAGE_CHARS + 2_048;

/// Longest word with the prefix of a key that is not treated as one.
const SHORTEST_KEY_BYTES: usize = 8;
/// Shorter secrets are not masked: they would be found in every text.
const SHORTEST_SECRET_BYTES: usize = 6;

/// Creates an error of this call. [`redact_error`] makes its message safe to show.
pub(crate) fn error(call: &Call, kind: LlmErrorKind, message: impl Into<String>) -> LlmError {
    LlmError {
        kind,
        provider: call.target.provider.as_str(),
        model: call.target.model.to_string(),
        message: message.into(),
        usage: Usage::default(),
        is_uncounted: false,
    }
}

/// Creates the error for an answer that violates the protocol.
pub(crate) fn malformed(call: &Call, message: impl Into<String>) -> LlmError {
    error(call, LlmErrorKind::Malformed, message)
}

/// Creates the error for a call that the protocol cannot express.
pub(crate) fn unwritable(call: &Call, problem: &serde_json::Error) -> LlmError {
    error(call, LlmErrorKind::InvalidRequest, format!("the request cannot be written: {problem}"))
}

pub(crate) fn piece<T: DeserializeOwned>(call: &Call, data: &[u8]) -> Result<T, LlmError> {
    serde_json::from_slice(data).map_err(|problem| {
        malformed(call, format!("a piece of the stream cannot be understood ({problem}): {}", excerpt(data)))
    })
}

/// Reads a JSON document. Some servers write NaN and infinity, which JSON has not: they are read as null.
pub(crate) fn document(body: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(body).or_else(|error| match nulled(body) {
        Some(mended) => serde_json::from_slice(&mended),
        None => Err(error),
    })
}

/// Replaces NaN and infinities outside of texts by null; returns `None` when there are none.
fn nulled(body: &[u8]) -> Option<Vec<u8>> {
    let (mut mended, mut rest, mut in_text, mut found) = (Vec::with_capacity(body.len()), body, false, false);
    while let Some(byte) = rest.first() {
        let word = [&b"-Infinity"[..], b"Infinity", b"NaN"].into_iter().find(|word| !in_text && rest.starts_with(word));
        if let Some(word) = word {
            mended.extend_from_slice(b"null");
            (rest, found) = (&rest[word.len()..], true);
            continue;
        }
        let taken = if in_text && *byte == b'\\' { rest.len().min(2) } else { 1 };
        in_text ^= *byte == b'"';
        mended.extend_from_slice(&rest[..taken]);
        rest = &rest[taken..];
    }
    found.then_some(mended)
}

/// Makes an error safe to show: one line of bounded length, without these secrets and anything that looks like a key.
pub(crate) fn redact_error(mut error: LlmError, secrets: &[SecretString]) -> LlmError {
    for secret in secrets {
        let secret = secret.expose_secret().trim();
        if secret.len() >= SHORTEST_SECRET_BYTES && error.message.contains(secret) {
            error.message = error.message.replace(secret, "[key]");
        }
    }
    error.message = redacted(&error.message, MAX_MESSAGE_CHARS);
    error
}

/// Creates the error that a body reports in an answer or a stream that began well.
pub(crate) fn of_body(call: &Call, body: &Value, otherwise: LlmErrorKind) -> LlmError {
    let words = provider_message(body).map_or_else(|| excerpt(body.to_string().as_bytes()), str::to_owned);
    let kind = kind_of_body(None, body).unwrap_or(otherwise);
    error(call, kind, format!("the answer is an error: {words}"))
}

pub(crate) fn of_status(call: &Call, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> LlmError {
    let parsed = serde_json::from_slice::<Value>(body).ok();
    let by_body = parsed.as_ref().and_then(|parsed| kind_of_body(Some(status.as_u16()), parsed));
    let kind = match (by_body, of_number(status.as_u16())) {
        // What the status says about waiting is more than an error's general name.
        (Some(LlmErrorKind::InvalidRequest | LlmErrorKind::Unavailable) | None, by_status) => {
            by_status.unwrap_or(LlmErrorKind::InvalidRequest)
        }
        (Some(by_body), _) => by_body,
    };
    let kind = kind.with_delay(retry_after(headers));
    error(call, kind, status_message(status, "", parsed.as_ref(), body))
}

/// Formats an HTTP error with the provider's error name, its message and a hint.
pub(crate) fn status_message(status: StatusCode, name: &str, parsed: Option<&Value>, body: &[u8]) -> String {
    let parsed = parsed.and_then(provider_message).map(str::to_owned);
    let parsed = parsed.unwrap_or_else(|| if body.is_empty() { "(empty body)".to_owned() } else { excerpt(body) });
    let hint = match status.as_u16() {
        401 | 403 => "; check the API key",
        300..=399 => "; redirects are not followed, check base_url",
        404 => "; check model and base_url",
        _ => "",
    };
    let name = if name.is_empty() { String::new() } else { format!(" {name}") };
    format!("HTTP {}{name}: {parsed}{hint}", status.as_u16())
}

/// Returns the provider's message from `{"error": {"message"}}`, `{"error": "…"}`, `{"message"}` or `{"Message"}`.
pub(crate) fn provider_message(body: &Value) -> Option<&str> {
    let inner = body.get("error").unwrap_or(body);
    let message = || inner.get("message").or_else(|| inner.get("Message")).and_then(Value::as_str);
    inner.as_str().or_else(message)
}

pub(crate) fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(EXCERPT_BYTES)]).into_owned()
}

/// Returns `Retry-After` in seconds or as a date (RFC 9110 §10.2.3), or OpenAI's `retry-after-ms`.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |value: &reqwest::header::HeaderValue| value.to_str().ok().map(str::trim).map(str::to_owned);
    if let Some(ms) = headers.get("retry-after-ms").and_then(text).and_then(|ms| ms.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(ms / 1_000.0).ok();
    }
    let value = headers.get(RETRY_AFTER).and_then(text)?;
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    // All three forms of RFC 9110 §5.6.7.
    let date = |text: &str| httpdate::parse_http_date(text).ok();
    let until = date(&value)?;
    // The date is compared with the server's own clock where the response has it.
    let now = headers.get(DATE).and_then(text).as_deref().and_then(date).unwrap_or_else(SystemTime::now);
    Some(until.duration_since(now).unwrap_or(Duration::ZERO))
}

/// Shortens a text to `chars` characters on one line and masks anything that looks like a key.
fn redacted(text: &str, chars: usize) -> String {
    let mut redacted_text = String::new();
    for word in text.split_whitespace() {
        if !redacted_text.is_empty() {
            redacted_text.push(' ');
        }
        let Some(at) = word.find("sk-").filter(|at| word.len() - at > SHORTEST_KEY_BYTES) else {
            redacted_text.push_str(word);
            continue;
        };
        let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*');
        let end = word[at..].find(|c| !is_key(c)).map_or(word.len(), |length| at + length);
        redacted_text.push_str(&word[..at]);
        redacted_text.push_str("[key]");
        redacted_text.push_str(&word[end..]);
    }
    match redacted_text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &redacted_text[..end]),
        None => redacted_text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_call::call;

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
            (503, LlmErrorKind::Overloaded { retry_after: None }),
            (504, LlmErrorKind::Timeout),
            (529, LlmErrorKind::Overloaded { retry_after: None }),
        ] {
            assert_eq!(of(status), kind, "{status}");
        }
    }

    #[test]
    fn the_providers_provider_message_are_kept_without_keys() {
        let body =
            br#"{"error":{"message":"Incorrect API key provided: sk-proj-abcdefghijkl.","code":"invalid_api_key"}}"#;
        let error = redact_error(of_status(&call("http://x"), StatusCode::UNAUTHORIZED, &HeaderMap::new(), body), &[]);
        assert_eq!(error.message, "HTTP 401: Incorrect API key provided: [key].; check the API key");
    }

    #[test]
    fn a_page_is_shown_in_part_and_a_key_never_cut_in_two() {
        let secret: SecretString = "wJalrXUtnFEMI-secret".to_owned().into();
        let page =
            format!("<html>{}wJalrXUtnFEMI-secret{}</html>", "x".repeat(MAX_MESSAGE_CHARS - 10), "y ".repeat(9_999));
        let error = redact_error(malformed(&call(""), excerpt(page.as_bytes())), &[secret]);
        assert!(error.message.starts_with("<html>xx"), "{error}");
        assert!(!error.message.contains("wJal") && error.message.chars().count() == MAX_MESSAGE_CHARS + 1, "{error}");
    }

    #[test]
    fn an_account_without_money_is_told_from_a_limit() {
        let body = br#"{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}"#;
        let error = of_status(&call(""), StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new(), body);
        assert_eq!(error.kind, LlmErrorKind::QuotaExhausted);
        assert!(error.may_fall_back() && !error.is_retryable());
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
