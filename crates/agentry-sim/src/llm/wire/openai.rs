//! OpenAI's chat completions: keys, headers and errors.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};

use super::super::ids::Ids;
use super::super::limits::BucketLevels;
use super::super::prompt::Prompt;
use super::{
    Incoming, Key, Piece, Refusal, Reply, Wire, bearer, json_error, openai_reply, openai_request, openai_rules, set,
};

pub(in super::super) struct OpenAi;

impl Wire for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn key<'a>(&self, headers: &'a HeaderMap) -> Key<'a> {
        bearer(headers)
    }

    fn no_key(&self, key: Key<'_>) -> Refusal {
        no_key(key)
    }

    fn read<'a>(&self, incoming: &Incoming<'a>) -> Result<Prompt<'a>, Refusal> {
        let mut prompt = openai_request::read(incoming.body)?;
        openai_rules::apply(&mut prompt, incoming.body);
        Ok(prompt)
    }

    fn no_model(&self, model: &str) -> Refusal {
        Refusal::new(404, format!("The model `{model}` does not exist or you do not have access to it."))
    }

    fn retired(&self, model: &str) -> Refusal {
        retired(model)
    }

    fn no_tools(&self, _model: &str) -> Refusal {
        Refusal::bad("Unsupported parameter: 'tools' is not supported with this model.").at("tools")
    }

    fn whole(&self, reply: &Reply<'_>) -> Result<Vec<u8>, serde_json::Error> {
        openai_reply::whole(reply)
    }

    fn stream(&self, reply: &Reply<'_>) -> Result<Vec<Piece>, serde_json::Error> {
        openai_reply::pieces(reply)
    }

    fn stream_type(&self) -> &'static str {
        "text/event-stream; charset=utf-8"
    }

    fn broken(&self, refusal: &Refusal) -> Bytes {
        Bytes::from(format!("data: {}\n\n", body(refusal)))
    }

    fn garbage(&self) -> Bytes {
        Bytes::from_static(b"data: {\"id\":\"chatcmpl-\",\"choices\":[{\"index\":0,\"delta\":{\"cont\n\n")
    }

    fn error(&self, refusal: &Refusal, _ids: &Ids) -> Response {
        json_error(refusal, &body(refusal))
    }

    fn stamp(&self, headers: &mut HeaderMap, ids: &Ids, levels: &BucketLevels, _now: Duration) {
        stamp(headers, ids, levels);
    }

    fn id(&self, ids: &Ids, answered: bool) -> String {
        if answered { openai_reply::answer_id(ids) } else { ids.named("req_") }
    }
}

pub(super) fn no_key(key: Key<'_>) -> Refusal {
    Refusal::new(
        401,
        match key {
            Some(_) => {
                "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys."
            }
            None => {
                "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
            }
        },
    )
}

pub(super) fn retired(model: &str) -> Refusal {
    let page = "https://platform.openai.com/docs/deprecations";
    Refusal::new(404, format!("The model `{model}` has been deprecated, learn more here: {page}"))
}

pub(super) fn stamp(headers: &mut HeaderMap, ids: &Ids, levels: &BucketLevels) {
    set(headers, "x-request-id", &ids.named("req_"));
    set(headers, "openai-version", "2020-10-01");
    for (of, level) in [("requests", levels.requests), ("tokens", levels.tokens)] {
        let Some(level) = level else { continue };
        set(headers, &format!("x-ratelimit-limit-{of}"), &level.limit.to_string());
        set(headers, &format!("x-ratelimit-remaining-{of}"), &level.remaining.to_string());
        set(headers, &format!("x-ratelimit-reset-{of}"), &span(level.full_in));
    }
}

/// Returns the body of an error.
pub(super) fn body(refusal: &Refusal) -> Value {
    let (kind, code) = match refusal.status {
        401 | 403 => ("invalid_request_error", Some("invalid_api_key")),
        404 => ("invalid_request_error", Some("model_not_found")),
        429 => ("requests", Some("rate_limit_exceeded")),
        500.. => ("server_error", None),
        _ => ("invalid_request_error", None),
    };
    let code = refusal.code.or(code);
    json!({"error": {"message": refusal.message, "type": kind, "param": refusal.param, "code": code}})
}

/// Formats a time as OpenAI's headers do: `120ms`, `6m0s`.
fn span(time: Duration) -> String {
    let (seconds, millis) = (time.as_secs(), time.subsec_millis());
    match seconds {
        0 => format!("{millis}ms"),
        1..60 if millis == 0 => format!("{seconds}s"),
        1..60 => format!("{:.3}s", time.as_secs_f64()),
        _ => format!("{}m{}s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_openai_writes_them() {
        for (millis, text) in [(0, "0ms"), (120, "120ms"), (1_000, "1s"), (1_500, "1.500s"), (360_000, "6m0s")] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }
}
