//! How a failed call becomes an [`LlmError`]: by HTTP status, in the provider's own words, never with a key.

use std::time::Duration;

use agentry_core::chat::Usage;
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Call, LlmError, LlmErrorKind};

/// How much of a message is kept, in characters.
const MAX_MESSAGE_CHARS: usize = 500;
/// How much of a body that could not be understood is looked at, in bytes. More than can be shown of it, so that a key is
/// never cut in two before it is looked for.
const EXCERPT_BYTES: usize = 4 * MAX_MESSAGE_CHARS + 2_048;

/// What begins as a key does and is no longer than this is a word.
const SHORTEST_KEY_BYTES: usize = 8;
/// Secrets shorter than this are not looked for: they would be found in every text.
const SHORTEST_SECRET_BYTES: usize = 6;

/// An error of this call, with its message as it is: [`shown`] makes it fit to be shown.
pub(crate) fn error(call: &Call, kind: LlmErrorKind, message: impl Into<String>) -> LlmError {
    LlmError {
        kind,
        provider: call.target.provider.as_str(),
        model: call.target.model.to_string(),
        message: message.into(),
        usage: Usage::default(),
    }
}

/// What is not as the protocol says.
pub(crate) fn malformed(call: &Call, message: impl Into<String>) -> LlmError {
    error(call, LlmErrorKind::Malformed, message)
}

/// A call that cannot be written as the protocol wants it.
pub(crate) fn unwritable(call: &Call, problem: &serde_json::Error) -> LlmError {
    error(call, LlmErrorKind::InvalidRequest, format!("the request cannot be written: {problem}"))
}

/// A piece of a stream.
pub(crate) fn piece<T: DeserializeOwned>(call: &Call, data: &[u8]) -> Result<T, LlmError> {
    serde_json::from_slice(data).map_err(|problem| {
        malformed(call, format!("a piece of the stream cannot be understood ({problem}): {}", excerpt(data)))
    })
}

/// The error with a message of bounded length on one line, without any of these secrets and without anything that looks
/// like a key.
pub(crate) fn shown(mut error: LlmError, secrets: &[SecretString]) -> LlmError {
    for secret in secrets {
        let secret = secret.expose_secret().trim();
        if secret.len() >= SHORTEST_SECRET_BYTES && error.message.contains(secret) {
            error.message = error.message.replace(secret, "[key]");
        }
    }
    error.message = redacted(&error.message, MAX_MESSAGE_CHARS);
    error
}

/// The error that an HTTP status other than success means.
pub(crate) fn of_status(call: &Call, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> LlmError {
    let said = serde_json::from_slice::<Value>(body).ok();
    let retry_after = retry_after(headers);
    let is_spent = said.as_ref().and_then(|said| said.pointer("/error/code")?.as_str()) == Some("insufficient_quota");
    let kind = match status.as_u16() {
        401 | 403 => LlmErrorKind::Authentication,
        429 if is_spent => LlmErrorKind::QuotaExhausted,
        429 => LlmErrorKind::RateLimited { retry_after },
        503 | 529 => LlmErrorKind::Overloaded { retry_after },
        408 | 504 => LlmErrorKind::Timeout,
        409 | 425 | 500.. => LlmErrorKind::Unavailable,
        _ => LlmErrorKind::InvalidRequest,
    };
    error(call, kind, status_message(status, "", said.as_ref(), body))
}

/// What a status says, with the provider's name for it, its words and what to do.
pub(crate) fn status_message(status: StatusCode, name: &str, said: Option<&Value>, body: &[u8]) -> String {
    let said = said.and_then(own_words).map(str::to_owned);
    let said = said.unwrap_or_else(|| if body.is_empty() { "(empty body)".to_owned() } else { excerpt(body) });
    let hint = match status.as_u16() {
        401 | 403 => "; check the API key",
        300..=399 => "; redirects are not followed, check base_url",
        404 => "; check model and base_url",
        _ => "",
    };
    let name = if name.is_empty() { String::new() } else { format!(" {name}") };
    format!("HTTP {}{name}: {said}{hint}", status.as_u16())
}

/// The provider's own message in `{"error": {"message"}}`, `{"error": "…"}`, `{"message"}` or `{"Message"}`.
pub(crate) fn own_words(body: &Value) -> Option<&str> {
    let inner = body.get("error").unwrap_or(body);
    let message = || inner.get("message").or_else(|| inner.get("Message")).and_then(Value::as_str);
    inner.as_str().or_else(message)
}

/// The beginning of a body that could not be understood.
pub(crate) fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(EXCERPT_BYTES)]).into_owned()
}

/// `Retry-After` in seconds or as a date (RFC 9110 §10.2.3), or OpenAI's `retry-after-ms`.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
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
    fn the_providers_own_words_are_kept_without_keys() {
        let body =
            br#"{"error":{"message":"Incorrect API key provided: sk-proj-abcdefghijkl.","code":"invalid_api_key"}}"#;
        let error = shown(of_status(&call("http://x"), StatusCode::UNAUTHORIZED, &HeaderMap::new(), body), &[]);
        assert_eq!(error.message, "HTTP 401: Incorrect API key provided: [key].; check the API key");
    }

    #[test]
    fn a_page_is_shown_in_part_and_a_key_never_cut_in_two() {
        let secret: SecretString = "wJalrXUtnFEMI-secret".to_owned().into();
        let page =
            format!("<html>{}wJalrXUtnFEMI-secret{}</html>", "x".repeat(MAX_MESSAGE_CHARS - 10), "y ".repeat(9_999));
        let error = shown(malformed(&call(""), excerpt(page.as_bytes())), &[secret]);
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
