//! OpenAI's Responses: keys, headers and errors.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};

use super::super::ids::Ids;
use super::super::limits::BucketLevels;
use super::super::prompt::Prompt;
use super::{
    Incoming, Key, Piece, Refusal, Reply, Wire, bearer, json_error, openai, responses_reply, responses_request,
    responses_rules, sse,
};

pub(in super::super) struct Responses;

impl Wire for Responses {
    fn name(&self) -> &'static str {
        "responses"
    }

    fn key<'a>(&self, headers: &'a HeaderMap) -> Key<'a> {
        bearer(headers)
    }

    fn no_key(&self, key: Key<'_>) -> Refusal {
        openai::no_key(key)
    }

    fn read<'a>(&self, incoming: &Incoming<'a>) -> Result<Prompt<'a>, Refusal> {
        let body: Value = serde_json::from_slice(incoming.body)
            .map_err(|problem| Refusal::bad(format!("We could not parse the JSON body of your request: {problem}")))?;
        let mut prompt = responses_request::read(&body)?;
        responses_rules::apply(&mut prompt, &body);
        Ok(prompt)
    }

    fn no_model(&self, model: &str) -> Refusal {
        Refusal::bad(format!("The requested model '{model}' does not exist.")).at("model").with_code("model_not_found")
    }

    fn retired(&self, model: &str) -> Refusal {
        openai::retired(model)
    }

    fn no_tools(&self, _model: &str) -> Refusal {
        Refusal::bad("Unsupported parameter: 'tools' is not supported with this model.").at("tools")
    }

    fn whole(&self, reply: &Reply<'_>) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&responses_reply::whole(reply))
    }

    fn stream(&self, reply: &Reply<'_>) -> Result<Vec<Piece>, serde_json::Error> {
        responses_reply::pieces(reply)
    }

    fn stream_type(&self) -> &'static str {
        "text/event-stream; charset=utf-8"
    }

    /// A server that fails ends the response, everything else is an error of its own.
    fn broken(&self, refusal: &Refusal) -> Bytes {
        let code = match refusal.status {
            429 => "rate_limit_exceeded",
            500.. => "server_error",
            _ => "invalid_prompt",
        };
        let event = if refusal.status >= 500 {
            let error = json!({"code": code, "message": refusal.message});
            let response = json!({"id": "resp_failed", "object": "response", "created_at": 0, "status": "failed", "error": error,
                "incomplete_details": null, "model": "", "output": [], "usage": null});
            json!({"type": "response.failed", "sequence_number": 1_000, "response": response})
        } else {
            json!({"type": "error", "sequence_number": 1_000, "code": code, "message": refusal.message, "param": null})
        };
        sse(event["type"].as_str(), &event).unwrap_or_default()
    }

    fn garbage(&self) -> Bytes {
        Bytes::from_static(
            b"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"del\n\n",
        )
    }

    fn error(&self, refusal: &Refusal, _ids: &Ids) -> Response {
        json_error(refusal, &openai::body(refusal))
    }

    fn stamp(&self, headers: &mut HeaderMap, ids: &Ids, levels: &BucketLevels, _now: Duration) {
        openai::stamp(headers, ids, levels);
    }

    fn id(&self, ids: &Ids, answered: bool) -> String {
        ids.named(if answered { "resp_" } else { "req_" })
    }
}
