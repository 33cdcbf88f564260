//! OpenAI's answers: whole completions and the chunks of a stream.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::answer::{Answer, Stop, ToolCall, count, tokens};
use super::super::ids::Ids;
use super::super::rules::model::Model;
use super::gemini_rules::call_signature;
use super::{Piece, Reply, sse};

/// `system_fingerprint` of all answers.
const FINGERPRINT: &str = "fp_agentry_sim";

fn usage(reply: &Reply<'_>) -> Value {
    let counts = &reply.counts;
    let mut usage = json!({
        "prompt_tokens": counts.input,
        "completion_tokens": counts.output,
        "total_tokens": counts.input + counts.output,
        "prompt_tokens_details": {
            "cached_tokens": counts.cached,
            "cache_write_tokens": counts.written,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    });
    if shows_reasoning(reply) {
        usage["prompt_cache_hit_tokens"] = counts.cached.into();
        usage["prompt_cache_miss_tokens"] = (counts.input - counts.cached).into();
    }
    usage
}

/// Returns true when the model shows its reasoning, which DeepSeek does and OpenAI does not.
fn shows_reasoning(reply: &Reply<'_>) -> bool {
    Model::of(&reply.prompt.model) == Model::DeepSeek
}

/// Returns the signature of the first call, which Gemini gives and others do not.
fn extra_content(reply: &Reply<'_>, index: usize) -> Option<Value> {
    let is_signed = index == 0 && matches!(Model::of(&reply.prompt.model), Model::Gemini(major) if major >= 3);
    let call = reply.answer.calls.get(index).filter(|_| is_signed)?;
    Some(json!({"google": {"thought_signature": call_signature(reply, call)}}))
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    service_tier: &'a str,
    system_fingerprint: &'static str,
    choices: &'a [ChunkChoice<'a>],
    /// Absent unless requested; then null in every chunk but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Value>>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: Delta<'a>,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize, Default)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[ToolDelta<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Option<()>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
}

#[derive(Serialize)]
struct ToolDelta<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    function: FunctionDelta<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<Value>,
}

#[derive(Serialize)]
struct FunctionDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

fn finish_reason(answer: &Answer) -> &'static str {
    match answer.stop {
        Stop::End | Stop::Sequence(_) | Stop::Pause => "stop",
        Stop::Tools => "tool_calls",
        Stop::Length => "length",
        Stop::Refusal => "content_filter",
    }
}

pub(super) fn answer_id(ids: &Ids) -> String {
    ids.named("chatcmpl-")
}

fn call_id(reply: &Reply<'_>, index: usize) -> String {
    reply.call_id("call_", index)
}

pub(super) fn whole(reply: &Reply<'_>) -> Result<Vec<u8>, serde_json::Error> {
    let answer = reply.answer;
    let mut message = json!({"role": "assistant", "content": answer.text, "refusal": null, "annotations": []});
    if !answer.calls.is_empty() {
        let call = |(index, call): (usize, &ToolCall)| {
            let function = json!({"name": call.name, "arguments": call.arguments});
            let mut made = json!({"id": call_id(reply, index), "type": "function", "function": function});
            if let Some(extra) = extra_content(reply, index) {
                made["extra_content"] = extra;
            }
            made
        };
        message["content"] = Value::Null;
        message["tool_calls"] = answer.calls.iter().enumerate().map(call).collect();
    }
    if shows_reasoning(reply) && !answer.thinking.is_empty() {
        message["reasoning_content"] = json!(answer.thinking);
    }
    let mut completion = json!({
        "id": answer_id(reply.ids),
        "object": "chat.completion",
        "created": reply.asked_at.as_secs(),
        "model": reply.prompt.model,
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason(answer)}],
        "service_tier": reply.prompt.served_tier(),
        "system_fingerprint": FINGERPRINT,
    });
    if reply.has_usage {
        completion["usage"] = usage(reply);
    }
    serde_json::to_vec(&completion)
}

/// Returns the pieces of a stream, in order: the role, one piece per token, the finish reason, the usage when it was
/// requested, `[DONE]`.
pub(super) fn pieces(reply: &Reply<'_>) -> Result<Vec<Piece>, serde_json::Error> {
    let id = answer_id(reply.ids);
    let event = |choices: &[ChunkChoice<'_>], usage: Option<Value>| {
        let chunk = Chunk {
            id: &id,
            object: "chat.completion.chunk",
            created: reply.asked_at.as_secs(),
            model: &reply.prompt.model,
            service_tier: reply.prompt.served_tier(),
            system_fingerprint: FINGERPRINT,
            choices,
            usage: reply.prompt.include_usage.then_some(usage),
        };
        sse(None, &chunk)
    };
    let delta = |delta| event(&[ChunkChoice { index: 0, delta, logprobs: None, finish_reason: None }], None);
    let answer = reply.answer;
    let role = Some("assistant");
    let content = Some(answer.calls.is_empty().then_some(""));
    // Reasoning is not shown, but it is counted before any content.
    let opening = delta(Delta { role, content, refusal: Some(None), ..Delta::default() })?;
    let shows_reasoning = shows_reasoning(reply);
    let mut pieces = vec![Piece::reasoning(opening, if shows_reasoning { 0 } else { reply.counts.reasoning })];
    for token in tokens(&answer.thinking).filter(|_| shows_reasoning) {
        pieces.push(Piece::reasoning(delta(Delta { reasoning_content: Some(token), ..Delta::default() })?, 1));
    }
    for token in tokens(&answer.text) {
        pieces.push(Piece::content(delta(Delta { content: Some(Some(token)), ..Delta::default() })?, 1));
    }
    for (index, call) in answer.calls.iter().enumerate() {
        let part = |id: Option<String>, r#type, name, arguments| {
            let extra_content = id.as_ref().and_then(|_| extra_content(reply, index));
            let part = ToolDelta { index, id, r#type, function: FunctionDelta { name, arguments }, extra_content };
            delta(Delta { tool_calls: Some([part]), ..Delta::default() })
        };
        let first = part(Some(call_id(reply, index)), Some("function"), Some(&call.name), "")?;
        pieces.push(Piece::content(first, count(&call.name)));
        for token in tokens(&call.arguments) {
            pieces.push(Piece::content(part(None, None, None, token)?, 1));
        }
    }
    let stop =
        ChunkChoice { index: 0, delta: Delta::default(), logprobs: None, finish_reason: Some(finish_reason(answer)) };
    pieces.push(Piece::frame(event(&[stop], None)?));
    if reply.prompt.include_usage && reply.has_usage {
        pieces.push(Piece::frame(event(&[], Some(usage(reply)))?));
    }
    pieces.push(Piece::frame(Bytes::from_static(b"data: [DONE]\n\n")));
    Ok(pieces)
}
