//! Bedrock's Converse and ConverseStream: answers, event streams, credentials, headers and errors.

use std::time::Duration;

use axum::http::{HeaderMap, header};
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::answer::{Answer, Block, Stop, count, tokens};
use super::super::ids::Ids;
use super::super::limits::BucketLevels;
use super::super::prompt::{Prompt, TokenCounts};
use super::bedrock_frame::{damaged, frame};
use super::bedrock_sign::SIGNED;
use super::{
    Incoming, Key, Piece, Refusal, Reply, Wire, bearer, bedrock_request, bedrock_rules, bedrock_sign, json_error, set,
};

pub(in super::super) struct Bedrock;

/// Padding of events, which hides the length of their payload.
const PADDING: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

impl Wire for Bedrock {
    fn name(&self) -> &'static str {
        "bedrock"
    }

    /// Returns the bearer token, or the access key of a signature.
    fn key<'a>(&self, headers: &'a HeaderMap) -> Key<'a> {
        let signed = || {
            let signature = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix(SIGNED)?;
            let credential = signature.split(',').find_map(|part| part.trim().strip_prefix("Credential="))?;
            credential.split('/').next()
        };
        bearer(headers).or_else(signed)
    }

    fn no_key(&self, key: Key<'_>) -> Refusal {
        Refusal::new(
            403,
            match key {
                Some(_) => "The security token included in the request is invalid.",
                None => "Missing Authentication Token",
            },
        )
    }

    fn check_signature(&self, incoming: &Incoming<'_>, secret: &str) -> Result<(), Refusal> {
        // A bearer token replaces the signature.
        if bearer(incoming.headers).is_some() { Ok(()) } else { bedrock_sign::check(incoming, secret) }
    }

    fn read<'a>(&self, incoming: &Incoming<'a>) -> Result<Prompt<'a>, Refusal> {
        let mut prompt = bedrock_request::read(incoming.body, incoming.model.unwrap_or_default(), incoming.stream)?;
        // What was read once can be read again.
        let body: Value = serde_json::from_slice(incoming.body).unwrap_or_default();
        bedrock_rules::apply(&mut prompt, &body);
        Ok(prompt)
    }

    fn no_model(&self, _model: &str) -> Refusal {
        Refusal::bad("The provided model identifier is invalid.")
    }

    fn retired(&self, _model: &str) -> Refusal {
        let text = "This model version has reached the end of its life. Please refer to the AWS documentation for more details.";
        Refusal::new(404, text)
    }

    fn no_tools(&self, _model: &str) -> Refusal {
        Refusal::bad("This model doesn't support tool use.")
    }

    fn whole(&self, reply: &Reply<'_>) -> Result<Vec<u8>, serde_json::Error> {
        let mut whole = json!({
            "output": {"message": {"role": "assistant", "content": blocks(reply)}},
            "stopReason": stop_reason(reply.answer),
            "metrics": {"latencyMs": millis(reply.total)},
        });
        if reply.has_usage {
            whole["usage"] = usage(&reply.counts);
        }
        serde_json::to_vec(&whole)
    }

    fn stream(&self, reply: &Reply<'_>) -> Result<Vec<Piece>, serde_json::Error> {
        let answer = reply.answer;
        let frame = |kind: &str, payload: &Value| event(kind, payload).map(Piece::frame);
        let mut pieces = vec![frame("messageStart", &json!({"p": pad(0), "role": "assistant"}))?];
        for (index, block) in answer.blocks().enumerate() {
            match block {
                Block::Thinking(text) => {
                    for text in tokens(text) {
                        let delta = Delta::ReasoningContent(Reasoning::Text(text));
                        pieces.push(Piece::reasoning(delta_event(index, pieces.len(), delta)?, 1));
                    }
                    let signature = reply.signature();
                    let signed = Delta::ReasoningContent(Reasoning::Signature(&signature));
                    pieces.push(Piece::frame(delta_event(index, pieces.len(), signed)?));
                }
                Block::Text(text) => {
                    for text in tokens(text) {
                        pieces.push(Piece::content(delta_event(index, pieces.len(), Delta::Text(text))?, 1));
                    }
                }
                Block::Call(at, call) => {
                    let tool = json!({"toolUseId": call_id(reply, at), "name": call.name});
                    let start = json!({"contentBlockIndex": index, "start": {"toolUse": tool}, "p": pad(at)});
                    pieces.push(Piece { tokens: count(&call.name), ..frame("contentBlockStart", &start)? });
                    for input in tokens(&call.arguments) {
                        let delta = Delta::ToolUse(Input { input });
                        pieces.push(Piece::content(delta_event(index, pieces.len(), delta)?, 1));
                    }
                }
            }
            pieces.push(frame("contentBlockStop", &json!({"contentBlockIndex": index, "p": pad(index)}))?);
        }
        let blocks = answer.blocks().count();
        pieces.push(frame("messageStop", &json!({"stopReason": stop_reason(answer), "p": pad(blocks)}))?);
        let mut metadata = json!({"metrics": {"latencyMs": millis(reply.total)}, "p": pad(7)});
        if reply.has_usage {
            metadata["usage"] = usage(&reply.counts);
        }
        pieces.push(frame("metadata", &metadata)?);
        Ok(pieces)
    }

    fn stream_type(&self) -> &'static str {
        "application/vnd.amazon.eventstream"
    }

    fn broken(&self, refusal: &Refusal) -> Bytes {
        let kind = match refusal.status {
            400 => "validationException",
            429 => "throttlingException",
            424 => "modelStreamErrorException",
            503 | 529 => "serviceUnavailableException",
            _ => "internalServerException",
        };
        let payload = json!({"message": refusal.message}).to_string();
        let headers =
            [(":exception-type", kind), (":content-type", "application/json"), (":message-type", "exception")];
        frame(&headers, payload.as_bytes())
    }

    fn garbage(&self) -> Bytes {
        let payload = br#"{"contentBlockIndex":0,"delta":{"text":"?"}}"#;
        damaged(&frame(&[(":event-type", "contentBlockDelta"), (":message-type", "event")], payload))
    }

    fn error(&self, refusal: &Refusal, _ids: &Ids) -> Response {
        let kind = exception(refusal);
        // Bedrock has no status 529 and sends no `Retry-After`.
        let status = if refusal.status == 529 { 503 } else { refusal.status };
        let refusal_with_status = Refusal { status, retry_after: None, ..refusal.clone() };
        let mut response = json_error(&refusal_with_status, &json!({"message": refusal.message}));
        let kind = format!("{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/");
        set(response.headers_mut(), "x-amzn-errortype", &kind);
        response
    }

    fn stamp(&self, headers: &mut HeaderMap, ids: &Ids, _levels: &BucketLevels, _now: Duration) {
        set(headers, "x-amzn-requestid", &ids.uuid());
    }

    fn id(&self, ids: &Ids, _answered: bool) -> String {
        ids.uuid()
    }
}

fn exception(refusal: &Refusal) -> &'static str {
    match refusal.status {
        401 | 403 if refusal.message.contains("security token") => "UnrecognizedClientException",
        401 | 403 if refusal.message.contains("Authentication Token") => "MissingAuthenticationTokenException",
        401 | 403 if refusal.message.to_ascii_lowercase().contains("signature") => "InvalidSignatureException",
        401 | 403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        408 => "ModelTimeoutException",
        424 => "ModelErrorException",
        429 => "ThrottlingException",
        503 | 529 => "ServiceUnavailableException",
        500.. => "InternalServerException",
        _ => "ValidationException",
    }
}

fn stop_reason(answer: &Answer) -> &'static str {
    match answer.stop {
        Stop::End | Stop::Pause => "end_turn",
        Stop::Tools => "tool_use",
        Stop::Length => "max_tokens",
        Stop::Sequence(_) => "stop_sequence",
        Stop::Refusal => "content_filtered",
    }
}

/// `usage`: its input excludes cached tokens, its total includes them.
fn usage(counts: &TokenCounts) -> Value {
    let details = [("1h", counts.written_1h), ("5m", counts.written - counts.written_1h)];
    let details = details.iter().filter(|(_, tokens)| *tokens > 0);
    let details: Vec<Value> = details.map(|(ttl, tokens)| json!({"ttl": ttl, "inputTokens": tokens})).collect();
    json!({
        "cacheDetails": details,
        "inputTokens": counts.fresh(),
        "outputTokens": counts.output,
        "totalTokens": counts.input + counts.output,
        "cacheReadInputTokens": counts.cached,
        "cacheWriteInputTokens": counts.written,
    })
}

fn call_id(reply: &Reply<'_>, index: usize) -> String {
    reply.call_id("tooluse_", index)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn pad(n: usize) -> &'static str {
    &PADDING[..n * 7 % PADDING.len() + 1]
}

fn blocks(reply: &Reply<'_>) -> Vec<Value> {
    let block = |block| match block {
        Block::Thinking(text) => {
            json!({"reasoningContent": {"reasoningText": {"text": text, "signature": reply.signature()}}})
        }
        Block::Text(text) => json!({"text": text}),
        Block::Call(at, call) => {
            json!({"toolUse": {"toolUseId": call_id(reply, at), "name": call.name, "input": call.input()}})
        }
    };
    reply.answer.blocks().map(block).collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BlockDelta<'a> {
    content_block_index: usize,
    delta: Delta<'a>,
    p: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Delta<'a> {
    Text(&'a str),
    ToolUse(Input<'a>),
    ReasoningContent(Reasoning<'a>),
}

#[derive(Serialize)]
struct Input<'a> {
    input: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Reasoning<'a> {
    Text(&'a str),
    Signature(&'a str),
}

fn delta_event(index: usize, n: usize, delta: Delta<'_>) -> Result<Bytes, serde_json::Error> {
    event("contentBlockDelta", &BlockDelta { content_block_index: index, delta, p: pad(n) })
}

fn event(kind: &str, payload: &impl Serialize) -> Result<Bytes, serde_json::Error> {
    let headers = [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")];
    Ok(frame(&headers, &serde_json::to_vec(payload)?))
}
