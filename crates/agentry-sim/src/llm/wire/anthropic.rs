//! The Messages API of Anthropic, as the simulator speaks it.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::answer::{Answer, Block, Stop, count, tokens};
use super::super::ids::Ids;
use super::super::limits::BucketLevels;
use super::super::prompt::{Prompt, TokenCounts};
use super::{
    Incoming, Key, Piece, Refusal, Reply, Wire, anthropic_request, anthropic_rules, bearer, json_error, set, sse,
};

pub(in super::super) struct Anthropic;

/// Arguments of the provider's tool that `[[pause]]` pauses in.
const SEARCHED: &str = r#"{"query":"agentry"}"#;
/// Header with the protocol version, which is required.
const VERSION: &str = "anthropic-version";
/// Known versions; the simulator's answers are the same in all of them.
const VERSIONS: [&[u8]; 3] = [b"2023-01-01", b"2023-06-01", b"2026-10-21"];

impl Wire for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn key<'a>(&self, headers: &'a HeaderMap) -> Key<'a> {
        headers.get("x-api-key").and_then(|key| key.to_str().ok()).or_else(|| bearer(headers))
    }

    fn no_key(&self, key: Key<'_>) -> Refusal {
        Refusal::new(401, if key.is_some() { "invalid x-api-key" } else { "x-api-key header is required" })
    }

    fn read<'a>(&self, incoming: &Incoming<'a>) -> Result<Prompt<'a>, Refusal> {
        match incoming.headers.get(VERSION).map(|version| version.as_bytes()) {
            None => return Err(Refusal::bad(format!("{VERSION}: header is required"))),
            Some(version) if VERSIONS.contains(&version) => {}
            Some(other) => {
                let other = String::from_utf8_lossy(other);
                return Err(Refusal::bad(format!("{VERSION}: \"{other}\" is not a valid version")));
            }
        }
        let mut prompt = anthropic_request::read(incoming.body)?;
        // What was read once can be read again.
        let body: Value = serde_json::from_slice(incoming.body).unwrap_or_default();
        anthropic_rules::apply(&mut prompt, &body, incoming.headers);
        Ok(prompt)
    }

    fn no_model(&self, model: &str) -> Refusal {
        Refusal::new(404, format!("model: {model}"))
    }

    fn no_tools(&self, model: &str) -> Refusal {
        Refusal::bad(format!("'{model}' does not support tool types"))
    }

    fn whole(&self, reply: &Reply<'_>) -> Result<Vec<u8>, serde_json::Error> {
        let mut message = json!({
            "id": self.id(reply.ids, true),
            "type": "message",
            "role": "assistant",
            "model": reply.prompt.model,
            "content": blocks(reply),
            "stop_reason": stop_reason(reply.answer),
            "stop_sequence": stop_sequence(reply.answer),
            "stop_details": stop_details(reply.answer),
        });
        add_usage(&mut message, reply, || usage(&reply.counts, reply.counts.output));
        serde_json::to_vec(&message)
    }

    fn stream(&self, reply: &Reply<'_>) -> Result<Vec<Piece>, serde_json::Error> {
        let mut message = json!({
            "id": self.id(reply.ids, true),
            "type": "message",
            "role": "assistant",
            "model": reply.prompt.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
        });
        // The provider has counted a first token by then.
        add_usage(&mut message, reply, || usage(&reply.counts, reply.counts.output.min(1)));
        let mut pieces = vec![
            Piece::frame(sse(Some("message_start"), &json!({"type": "message_start", "message": message}))?),
            Piece::frame(sse(Some("ping"), &json!({"type": "ping"}))?),
        ];
        let answer = reply.answer;
        for (index, block) in answer.blocks().enumerate() {
            match block {
                Block::Thinking(text) => {
                    pieces.push(start(index, &json!({"type": "thinking", "thinking": "", "signature": ""}))?);
                    for thinking in tokens(text) {
                        pieces.push(Piece::reasoning(delta(index, Delta::Thinking { thinking })?, 1));
                    }
                    let signature = reply.signature();
                    pieces.push(Piece::frame(delta(index, Delta::Signature { signature: &signature })?));
                }
                Block::Text(text) => {
                    pieces.push(start(index, &json!({"type": "text", "text": ""}))?);
                    for text in tokens(text) {
                        pieces.push(Piece::content(delta(index, Delta::Text { text })?, 1));
                    }
                }
                Block::Call(at, call) => {
                    let block = json!({"type": "tool_use", "id": call_id(reply, at), "name": call.name, "input": {}});
                    pieces.push(Piece { tokens: count(&call.name), ..start(index, &block)? });
                    pieces.push(Piece::frame(delta(index, Delta::InputJson { partial_json: "" })?));
                    for partial_json in tokens(&call.arguments) {
                        pieces.push(Piece::content(delta(index, Delta::InputJson { partial_json })?, 1));
                    }
                }
            }
            pieces.push(stop(index)?);
        }
        if answer.stop == Stop::Pause {
            let index = answer.blocks().count();
            let block = json!({"type": "server_tool_use", "id": reply.ids.named("srvtoolu_"), "name": "web_search", "input": {}});
            pieces.push(start(index, &block)?);
            pieces.push(Piece::frame(delta(index, Delta::InputJson { partial_json: SEARCHED })?));
            pieces.push(stop(index)?);
        }
        let mut end = json!({
            "type": "message_delta",
            "delta": {
                "stop_reason": stop_reason(answer),
                "stop_sequence": stop_sequence(answer),
                "stop_details": stop_details(answer),
            },
        });
        add_usage(&mut end, reply, || cumulative(&reply.counts));
        pieces.push(Piece::frame(sse(Some("message_delta"), &end)?));
        pieces.push(Piece::frame(sse(Some("message_stop"), &json!({"type": "message_stop"}))?));
        Ok(pieces)
    }

    fn stream_type(&self) -> &'static str {
        "text/event-stream; charset=utf-8"
    }

    fn broken(&self, refusal: &Refusal) -> Bytes {
        let error = json!({"type": kind(refusal.status), "message": refusal.message});
        Bytes::from(format!("event: error\ndata: {}\n\n", json!({"type": "error", "error": error})))
    }

    fn garbage(&self) -> Bytes {
        Bytes::from_static(b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"del\n\n")
    }

    fn error(&self, refusal: &Refusal, ids: &Ids) -> Response {
        let error = json!({"type": kind(refusal.status), "message": refusal.message});
        json_error(refusal, &json!({"type": "error", "error": error, "request_id": self.id(ids, false)}))
    }

    fn stamp(&self, headers: &mut HeaderMap, ids: &Ids, levels: &BucketLevels, now: Duration) {
        set(headers, "request-id", &self.id(ids, false));
        set(headers, "anthropic-organization-id", "00000000-0000-4000-8000-000000000000");
        for (of, level) in [("requests", levels.requests), ("tokens", levels.tokens)] {
            let Some(level) = level else { continue };
            let reset = i64::try_from((now + level.full_in).as_secs()).ok();
            let reset = reset.and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or_default();
            set(headers, &format!("anthropic-ratelimit-{of}-limit"), &level.limit.to_string());
            set(headers, &format!("anthropic-ratelimit-{of}-remaining"), &level.remaining.to_string());
            set(headers, &format!("anthropic-ratelimit-{of}-reset"), &reset.to_string());
        }
    }

    fn id(&self, ids: &Ids, answered: bool) -> String {
        ids.named(if answered { "msg_" } else { "req_" })
    }
}

fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

fn stop_reason(answer: &Answer) -> &'static str {
    match answer.stop {
        Stop::End => "end_turn",
        Stop::Tools => "tool_use",
        Stop::Length => "max_tokens",
        Stop::Sequence(_) => "stop_sequence",
        Stop::Refusal => "refusal",
        Stop::Pause => "pause_turn",
    }
}

fn stop_sequence(answer: &Answer) -> Option<&str> {
    if let Stop::Sequence(text) = &answer.stop { Some(text) } else { None }
}

/// Returns why the model declined.
fn stop_details(answer: &Answer) -> Option<Value> {
    let explanation = "The simulator was asked to decline.";
    (answer.stop == Stop::Refusal)
        .then(|| json!({"type": "refusal", "category": "general_harms", "explanation": explanation}))
}

fn add_usage(message: &mut Value, reply: &Reply<'_>, usage: impl FnOnce() -> Value) {
    if reply.has_usage {
        message["usage"] = usage();
    }
}

/// `usage` with `output` tokens; its input excludes cached tokens.
fn usage(counts: &TokenCounts, output: u64) -> Value {
    json!({
        "input_tokens": counts.fresh(),
        "cache_creation_input_tokens": counts.written,
        "cache_read_input_tokens": counts.cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": counts.written - counts.written_1h,
            "ephemeral_1h_input_tokens": counts.written_1h,
        },
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": counts.reasoning.min(output)},
        "service_tier": "standard",
    })
}

/// Cumulative `usage` at the end of a stream.
fn cumulative(counts: &TokenCounts) -> Value {
    json!({
        "input_tokens": counts.fresh(),
        "cache_creation_input_tokens": counts.written,
        "cache_read_input_tokens": counts.cached,
        "output_tokens": counts.output,
        "output_tokens_details": {"thinking_tokens": counts.reasoning},
    })
}

fn call_id(reply: &Reply<'_>, index: usize) -> String {
    reply.call_id("toolu_", index)
}

fn blocks(reply: &Reply<'_>) -> Vec<Value> {
    let block = |block| match block {
        Block::Thinking(text) => json!({"type": "thinking", "thinking": text, "signature": reply.signature()}),
        Block::Text(text) => json!({"type": "text", "text": text}),
        Block::Call(at, call) => {
            json!({"type": "tool_use", "id": call_id(reply, at), "name": call.name, "input": call.input()})
        }
    };
    let mut blocks: Vec<Value> = reply.answer.blocks().map(block).collect();
    if reply.answer.stop == Stop::Pause {
        let input: Value = serde_json::from_str(SEARCHED).unwrap_or_default();
        blocks.push(json!({"type": "server_tool_use", "id": reply.ids.named("srvtoolu_"), "name": "web_search", "input": input}));
    }
    blocks
}

#[derive(Serialize)]
struct BlockDelta<'a> {
    r#type: &'static str,
    index: usize,
    delta: Delta<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Delta<'a> {
    #[serde(rename = "text_delta")]
    Text { text: &'a str },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a str },
    #[serde(rename = "signature_delta")]
    Signature { signature: &'a str },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: &'a str },
}

fn start(index: usize, block: &Value) -> Result<Piece, serde_json::Error> {
    let event = json!({"type": "content_block_start", "index": index, "content_block": block});
    sse(Some("content_block_start"), &event).map(Piece::frame)
}

fn delta(index: usize, delta: Delta<'_>) -> Result<Bytes, serde_json::Error> {
    sse(Some("content_block_delta"), &BlockDelta { r#type: "content_block_delta", index, delta })
}

fn stop(index: usize) -> Result<Piece, serde_json::Error> {
    let event = json!({"type": "content_block_stop", "index": index});
    sse(Some("content_block_stop"), &event).map(Piece::frame)
}
