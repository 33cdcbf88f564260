//! Gemini's `generateContent` and `streamGenerateContent`: answers, keys, headers and errors.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};

use super::super::answer::{Block, Stop, count, tokens};
use super::super::ids::Ids;
use super::super::limits::BucketLevels;
use super::super::prompt::Prompt;
use super::super::rules::model::Model;
use super::gemini_rules::call_signature;
use super::{Incoming, Key, Piece, Refusal, Reply, Wire, gemini_request, gemini_rules, json_error};

pub(in super::super) struct Gemini;

impl Wire for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn key<'a>(&self, headers: &'a HeaderMap) -> Key<'a> {
        headers.get("x-goog-api-key")?.to_str().ok()
    }

    fn no_key(&self, key: Key<'_>) -> Refusal {
        match key {
            Some(_) => Refusal::bad("API key not valid. Please pass a valid API key."),
            None => Refusal::new(
                403,
                "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or \
                 other form of API consumer identity to call this API.",
            ),
        }
    }

    fn read<'a>(&self, incoming: &Incoming<'a>) -> Result<Prompt<'a>, Refusal> {
        let is_sse = incoming.query.is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
        if incoming.stream && !is_sse {
            return Err(Refusal::bad("the simulator streams with ?alt=sse only"));
        }
        let body: Value = serde_json::from_slice(incoming.body)
            .map_err(|problem| Refusal::bad(format!("Invalid JSON payload received. {problem}")))?;
        let mut prompt = gemini_request::read(&body, incoming.model.unwrap_or_default(), incoming.stream)?;
        gemini_rules::apply(&mut prompt, &body);
        Ok(prompt)
    }

    fn no_model(&self, model: &str) -> Refusal {
        Refusal::new(
            404,
            format!(
                "models/{model} is not found for API version v1beta, or is not supported for generateContent. Call ListModels \
                 to see the list of available models and their supported methods."
            ),
        )
    }

    fn no_tools(&self, _model: &str) -> Refusal {
        Refusal::bad("Function calling is not enabled for this model")
    }

    fn whole(&self, reply: &Reply<'_>) -> Result<Vec<u8>, serde_json::Error> {
        let parts = reply.answer.blocks().filter_map(|block| part(reply, &block)).collect();
        serde_json::to_vec(&response(reply, parts, true))
    }

    fn stream(&self, reply: &Reply<'_>) -> Result<Vec<Piece>, serde_json::Error> {
        let chunk = |parts: Vec<Value>, ends| sse(&response(reply, parts, ends));
        let mut pieces = Vec::new();
        for block in reply.answer.blocks() {
            match block {
                Block::Thinking(text) if reply.prompt.summarizes => {
                    for text in tokens(text) {
                        pieces.push(Piece::reasoning(chunk(vec![json!({"text": text, "thought": true})], false)?, 1));
                    }
                }
                // Reasoning that is not shown is counted before any content.
                Block::Thinking(text) => pieces.push(Piece::reasoning(Bytes::new(), count(text))),
                Block::Text(text) => {
                    for text in tokens(text) {
                        pieces.push(Piece::content(chunk(vec![json!({"text": text})], false)?, 1));
                    }
                }
                Block::Call(_, call) => {
                    let parts = part(reply, &block).into_iter().collect();
                    pieces.push(Piece::content(chunk(parts, false)?, count(&call.name) + count(&call.arguments)));
                }
            }
        }
        pieces.push(Piece::frame(chunk(Vec::new(), true)?));
        Ok(pieces)
    }

    fn stream_type(&self) -> &'static str {
        "text/event-stream"
    }

    fn broken(&self, refusal: &Refusal) -> Bytes {
        Bytes::from(format!("data: {}\r\n\r\n", body(refusal)))
    }

    fn garbage(&self) -> Bytes {
        Bytes::from_static(b"data: {\"candidates\": [{\"content\": {\"parts\": [{\"te\r\n\r\n")
    }

    fn error(&self, refusal: &Refusal, _ids: &Ids) -> Response {
        // Google has no status 529.
        let status = if refusal.status == 529 { 503 } else { refusal.status };
        let refusal = Refusal { status, retry_after: None, ..refusal.clone() };
        json_error(&refusal, &body(&refusal))
    }

    fn stamp(&self, _headers: &mut HeaderMap, _ids: &Ids, _levels: &BucketLevels, _now: Duration) {}

    /// Errors of Google have no id.
    fn id(&self, ids: &Ids, answered: bool) -> String {
        if answered { ids.digits() } else { String::new() }
    }
}

fn body(refusal: &Refusal) -> Value {
    let status = match refusal.status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 | 529 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    };
    json!({"error": {"code": refusal.status, "message": refusal.message, "status": status}})
}

fn sse(value: &Value) -> Result<Bytes, serde_json::Error> {
    Ok(Bytes::from(format!("data: {}\r\n\r\n", serde_json::to_string(value)?)))
}

fn part(reply: &Reply<'_>, block: &Block<'_>) -> Option<Value> {
    match block {
        Block::Thinking(text) => reply.prompt.summarizes.then(|| json!({"text": text, "thought": true})),
        Block::Text(text) => Some(json!({"text": text})),
        Block::Call(at, call) => {
            let made = json!({"id": reply.call_id("", *at), "name": call.name, "args": call.input()});
            let mut part = json!({"functionCall": made});
            let is_signed = *at == 0 && matches!(Model::of(&reply.prompt.model), Model::Gemini(major) if major >= 3);
            if is_signed {
                part["thoughtSignature"] = call_signature(reply, call).into();
            }
            Some(part)
        }
    }
}

/// Returns a response, or one of a stream; `ends` says whether it is the last one.
fn response(reply: &Reply<'_>, parts: Vec<Value>, ends: bool) -> Value {
    let mut candidate = json!({"index": 0, "content": {"role": "model", "parts": parts}});
    if ends {
        candidate["finishReason"] = finish_reason(reply).into();
    }
    let mut response = json!({
        "candidates": [candidate],
        "modelVersion": reply.prompt.model,
        "responseId": reply.ids.digits(),
    });
    if reply.has_usage && ends {
        response["usageMetadata"] = usage(reply);
    }
    response
}

fn finish_reason(reply: &Reply<'_>) -> &'static str {
    match reply.answer.stop {
        Stop::Length => "MAX_TOKENS",
        Stop::Refusal => "SAFETY",
        Stop::End | Stop::Tools | Stop::Sequence(_) | Stop::Pause => "STOP",
    }
}

/// `usageMetadata`: its prompt includes what was cached, its candidates exclude thoughts.
fn usage(reply: &Reply<'_>) -> Value {
    let counts = &reply.counts;
    let mut usage = json!({
        "promptTokenCount": counts.input,
        "candidatesTokenCount": counts.output - counts.reasoning,
        "totalTokenCount": counts.input + counts.output,
        "trafficType": "ON_DEMAND",
    });
    if counts.reasoning > 0 {
        usage["thoughtsTokenCount"] = counts.reasoning.into();
    }
    if counts.cached > 0 {
        usage["cachedContentTokenCount"] = counts.cached.into();
    }
    usage
}
