//! The class of an error by what its body says: servers report errors with the wrong status, with 200, and in the
//! middle of a stream.

use serde_json::Value;

use super::failure::provider_message;
use crate::LlmErrorKind;

/// Texts of accounts that have nothing left, in lower case. Waiting does not help them.
const SPENT: &[&str] = &[
    "credit balance is too low",
    "credit_balance_exhausted",
    "insufficient_quota",
    "insufficient quota",
    "insufficient balance",
    "insufficient credits",
    "insufficient funds",
    "exceeded your current quota",
    "billing hard limit",
    "billing_hard_limit_reached",
    "billing_not_active",
    "out of credits",
    "no credits",
    "payment required",
    "spend limit",
    "spending limit",
    "spend cap",
    "usage limit",
];
/// Texts about conversations that do not fit the model.
const TOO_LONG: &[&str] = &[
    "context_length_exceeded",
    "maximum context length",
    "context window",
    "prompt is too long",
    "input is too long",
    "too many input tokens",
    "exceeds the context",
    "exceeds the available context",
    "input token count exceeds",
];
/// Texts about models that are not there, or not any more.
const GONE: &[&str] = &[
    "model_not_found",
    "model not found",
    "model_not_available",
    "does not exist",
    "has been deprecated",
    "has been retired",
    "is retired",
    "been decommissioned",
    "model_decommissioned",
    "end of its life",
    "model identifier is invalid",
    "no longer available",
    "no longer supported",
];

/// Returns the class of an error body; `None` when it says nothing that is known. `status` is the HTTP status of an
/// error response.
pub(crate) fn kind_of_body(status: Option<u16>, body: &Value) -> Option<LlmErrorKind> {
    let inner = body.get("error").filter(|error| !error.is_null()).unwrap_or(body);
    let name = |field: &str| inner.get(field).and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
    let (code, kind) = (name("code"), name("type"));
    let message = provider_message(body).unwrap_or_default().to_ascii_lowercase();
    let says =
        |words: &[&str]| [&code, &kind, &message].iter().any(|text| words.iter().any(|word| text.contains(word)));
    let number = inner.get("code").or_else(|| inner.get("status")).and_then(number_of);
    // A limit of the rate may speak of quotas and usage; it says so itself, with 429.
    let is_rate = code.contains("rate_limit") || (code.is_empty() && message.contains("rate limit"));
    if status == Some(402) || number == Some(402) || kind == "billing_error" || (says(SPENT) && !is_rate) {
        return Some(LlmErrorKind::QuotaExhausted);
    }
    if says(TOO_LONG) {
        return Some(LlmErrorKind::ContextExceeded);
    }
    let is_about_model = code.contains("model") || kind.contains("not_found") || message.contains("model");
    let not_found = status.is_none_or(|status| status == 404) && message.contains("not found");
    if (says(GONE) || not_found) && is_about_model {
        return Some(LlmErrorKind::ModelGone);
    }
    of_name(&code).or_else(|| number.and_then(of_number)).or_else(|| of_name(&kind))
}

fn number_of(value: &Value) -> Option<u16> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    u16::try_from(number).ok().filter(|number| (400..600).contains(number))
}

/// Returns the class of an HTTP status, also where it stands in a body.
pub(crate) fn of_number(status: u16) -> Option<LlmErrorKind> {
    Some(match status {
        401 | 403 => LlmErrorKind::Authentication,
        402 => LlmErrorKind::QuotaExhausted,
        408 | 504 => LlmErrorKind::Timeout,
        429 => LlmErrorKind::RateLimited { retry_after: None },
        503 | 529 => LlmErrorKind::Overloaded { retry_after: None },
        409 | 425 | 500.. => LlmErrorKind::Unavailable,
        400.. => LlmErrorKind::InvalidRequest,
        _ => return None,
    })
}

/// Returns the class of an error name of OpenAI, Anthropic, Google and what is compatible with them.
fn of_name(name: &str) -> Option<LlmErrorKind> {
    Some(match name {
        "rate_limit_exceeded"
        | "rate_limit_error"
        | "rate_limited"
        | "slow_down"
        | "too_many_requests"
        | "resource_exhausted"
        | "requests"
        | "tokens" => LlmErrorKind::RateLimited { retry_after: None },
        "overloaded_error" | "server_is_overloaded" | "overloaded" | "engine_overloaded" | "unavailable" => {
            LlmErrorKind::Overloaded { retry_after: None }
        }
        "server_error"
        | "api_error"
        | "internal_error"
        | "internal_server_error"
        | "internalservererror"
        | "internal" => LlmErrorKind::Unavailable,
        "timeout_error" | "timeout" | "deadline_exceeded" => LlmErrorKind::Timeout,
        "authentication_error"
        | "permission_error"
        | "invalid_api_key"
        | "invalid_authentication"
        | "permission_denied"
        | "unauthenticated" => LlmErrorKind::Authentication,
        "content_policy_violation" | "content_filter" | "invalid_prompt" | "bio_policy" | "cyber_policy" => {
            LlmErrorKind::Refused
        }
        "not_found_error" | "not_found" => LlmErrorKind::ModelGone,
        "invalid_request_error" | "request_too_large" | "invalid_argument" | "badrequesterror" | "bad_request" => {
            LlmErrorKind::InvalidRequest
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_body_decides() {
        let rate = LlmErrorKind::RateLimited { retry_after: None };
        let overloaded = LlmErrorKind::Overloaded { retry_after: None };
        for (status, body, expected) in [
            (None, json!({"error": {"message": "Insufficient credits", "code": 402}}), LlmErrorKind::QuotaExhausted),
            (
                Some(402),
                json!({"error": {"message": "Insufficient Balance", "code": "invalid_request_error"}}),
                LlmErrorKind::QuotaExhausted,
            ),
            (
                Some(400),
                json!({"type": "error", "error": {"type": "invalid_request_error",
                "message": "Your credit balance is too low to access the Anthropic API."}}),
                LlmErrorKind::QuotaExhausted,
            ),
            (
                Some(400),
                json!({"error": {"message": "Billing hard limit has been reached",
                "code": "billing_hard_limit_reached"}}),
                LlmErrorKind::QuotaExhausted,
            ),
            (
                Some(429),
                json!({"error": {"message": "You exceeded your current quota", "type": "insufficient_quota",
                "code": null}}),
                LlmErrorKind::QuotaExhausted,
            ),
            (
                Some(429),
                json!({"error": {"message": "x", "type": "insufficient_quota",
                "code": "credit_balance_exhausted"}}),
                LlmErrorKind::QuotaExhausted,
            ),
            (
                None,
                json!({"error": {"message": "No auth credentials found", "code": 401}}),
                LlmErrorKind::Authentication,
            ),
            (None, json!({"error": {"message": "Rate limit exceeded", "code": 429}}), rate),
            (
                Some(429),
                json!({"error": {"message": "Rate limit reached for gpt-6-luna: usage limit per minute",
                "type": "tokens", "code": "rate_limit_exceeded"}}),
                rate,
            ),
            (
                None,
                json!({"error": {"message": "This endpoint's maximum context length is 8192 tokens", "code": 400}}),
                LlmErrorKind::ContextExceeded,
            ),
            (None, json!({"error": {"code": 502, "message": "Upstream died"}}), LlmErrorKind::Unavailable),
            (
                None,
                json!({"object": "error", "message": "CUDA out of memory", "type": "InternalServerError",
                "code": 500}),
                LlmErrorKind::Unavailable,
            ),
            (
                None,
                json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
                overloaded,
            ),
            (
                Some(404),
                json!({"error": {"message": "The model `gpt-4` has been deprecated", "code": "model_not_found"}}),
                LlmErrorKind::ModelGone,
            ),
            (Some(404), json!({"error": "model 'llama9' not found"}), LlmErrorKind::ModelGone),
            (
                Some(404),
                json!({"type": "error", "error": {"type": "not_found_error", "message": "model: claude-3"}}),
                LlmErrorKind::ModelGone,
            ),
            (
                Some(400),
                json!({"error": {"message": "Invalid prompt", "code": "invalid_prompt"}}),
                LlmErrorKind::Refused,
            ),
        ] {
            assert_eq!(kind_of_body(status, &body), Some(expected), "{body}");
        }
        for unknown in [json!({"message": "words"}), json!({"error": null}), json!([]), json!({"code": 200})] {
            assert_eq!(kind_of_body(None, &unknown), None, "{unknown}");
        }
    }
}
