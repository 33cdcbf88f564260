//! Ollama's chat: answers, streams of lines, headers and errors.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::answer::{Answer, Stop, count, tokens};
use super::super::ids::Ids;
use super::super::limits::BucketLevels;
use super::super::prompt::Prompt;
use super::{Incoming, Key, Piece, Refusal, Reply, Wire, bearer, json_error, ollama_request};

pub(in super::super) struct Ollama;

const LOAD: Duration = Duration::from_millis(2);

impl Wire for Ollama {
    fn name(&self) -> &'static str {
        "ollama"
    }

    fn key<'a>(&self, headers: &'a HeaderMap) -> Key<'a> {
        bearer(headers)
    }

    fn no_key(&self, _key: Key<'_>) -> Refusal {
        Refusal::new(401, "unauthorized")
    }

    fn read<'a>(&self, incoming: &Incoming<'a>) -> Result<Prompt<'a>, Refusal> {
        ollama_request::read(incoming.body)
    }

    fn no_model(&self, model: &str) -> Refusal {
        Refusal::new(404, format!("model '{model}' not found"))
    }

    fn no_tools(&self, model: &str) -> Refusal {
        Refusal::bad(format!("registry.ollama.ai/library/{model} does not support tools"))
    }

    fn whole(&self, reply: &Reply<'_>) -> Result<Vec<u8>, serde_json::Error> {
        let answer = reply.answer;
        let mut message = json!({"role": "assistant", "content": answer.text});
        if !answer.thinking.is_empty() {
            message["thinking"] = json!(answer.thinking);
        }
        if !answer.calls.is_empty() {
            message["tool_calls"] = (0..answer.calls.len()).map(|index| call(reply, index)).collect();
        }
        serde_json::to_vec(&end(reply, &message))
    }

    fn stream(&self, reply: &Reply<'_>) -> Result<Vec<Piece>, serde_json::Error> {
        let answer = reply.answer;
        let created_at = created_at(reply);
        let part = |content, thinking, tool_calls| {
            let message = MessagePart { role: "assistant", content, thinking, tool_calls };
            line(&StreamLine { model: &reply.prompt.model, created_at: &created_at, message, done: false })
        };
        let mut pieces = Vec::new();
        for thinking in tokens(&answer.thinking) {
            pieces.push(Piece::reasoning(part("", Some(thinking), None)?, 1));
        }
        for content in tokens(&answer.text) {
            pieces.push(Piece::content(part(content, None, None)?, 1));
        }
        for (index, made) in answer.calls.iter().enumerate() {
            let bytes = part("", None, Some([call(reply, index)]))?;
            pieces.push(Piece::content(bytes, count(&made.name) + count(&made.arguments)));
        }
        pieces.push(Piece::frame(line(&end(reply, &json!({"role": "assistant", "content": ""})))?));
        Ok(pieces)
    }

    fn stream_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn broken(&self, refusal: &Refusal) -> Bytes {
        Bytes::from(format!("{}\n", json!({"error": refusal.message})))
    }

    fn garbage(&self) -> Bytes {
        Bytes::from_static(b"{\"model\":\"m\",\"created_at\":\"2026-01-01T00:00:00Z\",\"message\":{\"role\":\"assis\n")
    }

    fn error(&self, refusal: &Refusal, _ids: &Ids) -> Response {
        json_error(refusal, &json!({"error": refusal.message}))
    }

    fn stamp(&self, _headers: &mut HeaderMap, _ids: &Ids, _levels: &BucketLevels, _now: Duration) {}

    /// Ollama sends no id.
    fn id(&self, _ids: &Ids, _answered: bool) -> String {
        String::new()
    }
}

#[derive(Serialize)]
struct StreamLine<'a> {
    model: &'a str,
    created_at: &'a str,
    message: MessagePart<'a>,
    done: bool,
}

#[derive(Serialize)]
struct MessagePart<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[Value; 1]>,
}

fn line(value: &impl Serialize) -> Result<Bytes, serde_json::Error> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(Bytes::from(line))
}

fn call(reply: &Reply<'_>, index: usize) -> Value {
    let made = &reply.answer.calls[index];
    let function = json!({"index": index, "name": made.name, "arguments": made.input()});
    json!({"id": reply.call_id("call_", index), "function": function})
}

/// Returns the last object of a stream, or a whole answer.
fn end(reply: &Reply<'_>, message: &Value) -> Value {
    let (first, rest) = (reply.first, reply.total.saturating_sub(reply.first));
    let mut end = json!({
        "model": reply.prompt.model,
        "created_at": created_at(reply),
        "message": message,
        "done": true,
        "done_reason": done_reason(reply.prompt, reply.answer),
        "total_duration": nanos(reply.total + LOAD),
        "load_duration": nanos(LOAD),
        "prompt_eval_duration": nanos(first),
        "eval_duration": nanos(rest),
    });
    if reply.has_usage {
        end["prompt_eval_count"] = reply.counts.input.into();
        end["eval_count"] = reply.counts.output.into();
    }
    end
}

fn done_reason(prompt: &Prompt<'_>, answer: &Answer) -> &'static str {
    match answer.stop {
        // A request without messages only loads the model.
        _ if prompt.messages.is_empty() => "load",
        Stop::Length => "length",
        _ => "stop",
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn created_at(reply: &Reply<'_>) -> String {
    let nanos = i128::try_from(reply.asked_at.as_nanos()).unwrap_or_default();
    Timestamp::from_nanosecond(nanos).unwrap_or_default().to_string()
}
