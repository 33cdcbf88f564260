//! AWS's error names, which are more precise than the HTTP status.

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::wire::Frame;
use crate::wire::failure::{self, error, excerpt, provider_message, retry_after};
use crate::{Call, LlmError, LlmErrorKind};

/// Returns the kind of an error with this name (AWS, "Converse", errors, and "Common errors"). In a stream names begin
/// with a lower-case letter.
fn kind_of(name: &str) -> Option<LlmErrorKind> {
    let name = name.strip_suffix("Exception").unwrap_or(name).to_ascii_lowercase();
    Some(match name.as_str() {
        "throttling" | "toomanyrequests" | "servicequotaexceeded" => LlmErrorKind::RateLimited { retry_after: None },
        "serviceunavailable" | "modelnotready" => LlmErrorKind::Overloaded { retry_after: None },
        "modeltimeout" => LlmErrorKind::Timeout,
        "internalserver" | "internalfailure" | "modelerror" | "modelstreamerror" => LlmErrorKind::Unavailable,
        "accessdenied"
        | "unrecognizedclient"
        | "expiredtoken"
        | "invalidsignature"
        | "incompletesignature"
        | "missingauthenticationtoken"
        | "invalidclienttokenid"
        | "notauthorized" => LlmErrorKind::Authentication,
        "validation" => LlmErrorKind::InvalidRequest,
        "resourcenotfound" => LlmErrorKind::ModelGone,
        _ => return None,
    })
}

pub(super) fn of_status(call: &Call, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> LlmError {
    let parsed = serde_json::from_slice::<Value>(body).ok();
    let header = headers.get("x-amzn-errortype").and_then(|name| name.to_str().ok());
    let name = header.or_else(|| parsed.as_ref().and_then(|parsed| parsed.get("__type")?.as_str())).unwrap_or_default();
    // `ValidationException:http://internal.amazon.com/coral/…` or `com.amazon.coral.service#ValidationException`
    let name = name.split(':').next().unwrap_or(name);
    let name = name.rsplit('#').next().unwrap_or(name);
    let mut refusal = failure::of_status(call, status, headers, body);
    // The message of a validation may tell more than the name.
    let is_told =
        matches!(refusal.kind, LlmErrorKind::QuotaExhausted | LlmErrorKind::ContextExceeded | LlmErrorKind::ModelGone);
    if let Some(kind) = kind_of(name).filter(|_| !is_told) {
        refusal.kind = match kind {
            LlmErrorKind::RateLimited { .. } => LlmErrorKind::RateLimited { retry_after: retry_after(headers) },
            LlmErrorKind::Overloaded { .. } => LlmErrorKind::Overloaded { retry_after: retry_after(headers) },
            kind => kind,
        };
    }
    if !name.is_empty() {
        refusal.message = failure::status_message(status, name, parsed.as_ref(), body);
    }
    refusal
}

pub(super) fn of_frame(call: &Call, frame: &Frame) -> LlmError {
    let parsed = serde_json::from_slice::<Value>(&frame.data).ok();
    let words = parsed.as_ref().and_then(provider_message).map_or_else(|| excerpt(&frame.data), str::to_owned);
    let kind = kind_of(&frame.name).unwrap_or(LlmErrorKind::Unavailable);
    error(call, kind, format!("the stream ended with an error: {}: {words}", frame.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_call::call;

    #[test]
    fn names_win_over_statuses() {
        let of = |status: u16, name: &'static str| {
            let headers = HeaderMap::from_iter([("x-amzn-errortype".parse().unwrap(), name.parse().unwrap())]);
            of_status(&call(""), StatusCode::from_u16(status).unwrap(), &headers, br#"{"message":"words"}"#)
        };
        for (status, name, kind) in [
            (429, "ThrottlingException", LlmErrorKind::RateLimited { retry_after: None }),
            (
                400,
                "ThrottlingException:http://internal.amazon.com/coral",
                LlmErrorKind::RateLimited { retry_after: None },
            ),
            (503, "ServiceUnavailableException", LlmErrorKind::Overloaded { retry_after: None }),
            (408, "ModelTimeoutException", LlmErrorKind::Timeout),
            (424, "ModelErrorException", LlmErrorKind::Unavailable),
            (403, "ExpiredTokenException", LlmErrorKind::Authentication),
            (400, "ValidationException", LlmErrorKind::InvalidRequest),
            (404, "ResourceNotFoundException", LlmErrorKind::ModelGone),
        ] {
            let error = of(status, name);
            assert_eq!(error.kind, kind, "{name}");
            assert!(error.message.contains("words") && error.message.contains("Exception"), "{error}");
        }
    }
}
