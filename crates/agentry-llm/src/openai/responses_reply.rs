//! Answers of OpenAI's Responses API, whole and as events, and their conversion to a [`Draft`].

use agentry_core::chat::{StopReason, Usage};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::reply::tier;
use crate::wire::failure::of_body;
use crate::wire::{Draft, Progress, lenient};
use crate::{Call, LlmError, LlmErrorKind};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Response {
    #[serde(deserialize_with = "lenient::id")]
    id: Option<String>,
    #[serde(deserialize_with = "lenient::id")]
    model: Option<String>,
    #[serde(deserialize_with = "lenient::id")]
    status: Option<String>,
    #[serde(deserialize_with = "lenient::or_default")]
    output: Vec<Value>,
    #[serde(deserialize_with = "lenient::or_default")]
    incomplete_details: Incomplete,
    error: Option<Value>,
    usage: Option<WireUsage>,
    service_tier: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Incomplete {
    #[serde(deserialize_with = "lenient::id")]
    reason: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireUsage {
    #[serde(deserialize_with = "lenient::count")]
    input_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::count")]
    output_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::or_default")]
    input_tokens_details: InputDetails,
    #[serde(deserialize_with = "lenient::or_default")]
    output_tokens_details: OutputDetails,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct InputDetails {
    #[serde(deserialize_with = "lenient::count")]
    cached_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::count")]
    cache_write_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OutputDetails {
    #[serde(deserialize_with = "lenient::count")]
    reasoning_tokens: Option<u64>,
}

/// An event; what it needs not is absent.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Event {
    r#type: String,
    #[serde(deserialize_with = "lenient::count")]
    output_index: Option<u64>,
    #[serde(deserialize_with = "lenient::text")]
    delta: Option<String>,
    item: Value,
    response: Option<Response>,
}

/// Adds a whole answer to the draft.
///
/// # Errors
/// The answer is an error, or not one at all.
pub(super) fn whole(call: &Call, draft: &mut Draft, body: &Value, response: Response) -> Result<(), LlmError> {
    let is_error = body.get("object").and_then(Value::as_str) != Some("response") && body.get("error").is_some();
    if is_error || (response.output.is_empty() && response.status.is_none()) {
        return Err(of_body(call, body, LlmErrorKind::Malformed));
    }
    ended(call, draft, response)
}

/// Applies the next event of a stream.
///
/// # Errors
/// The event reports an error.
pub(super) fn event(call: &Call, draft: &mut Draft, data: &[u8], event: Event) -> Result<Progress, LlmError> {
    let at = event.output_index.unwrap_or(0);
    let delta = event.delta.as_deref().unwrap_or_default();
    match event.r#type.as_str() {
        "response.created" | "response.in_progress" | "response.queued" => {
            if let Some(response) = event.response {
                (draft.id, draft.model) = (response.id.or(draft.id.take()), response.model.or(draft.model.take()));
            }
        }
        "response.output_item.added" => begin(draft, at, &event.item),
        "response.output_text.delta" => draft.text_at(at, delta),
        "response.refusal.delta" => {
            draft.has_begun = true;
            draft.refusal.push_str(delta);
        }
        "response.function_call_arguments.delta" => draft.tool_arguments(at, delta),
        "response.output_item.done" => end(draft, at, event.item),
        "response.completed" | "response.incomplete" | "response.failed" => {
            let mut response = event.response.unwrap_or_default();
            // The items have come one by one.
            response.output.clear();
            ended(call, draft, response)?;
            return Ok(Progress::Done);
        }
        "error" => {
            let body = serde_json::from_slice(data).unwrap_or_default();
            return Err(of_body(call, &body, LlmErrorKind::Unavailable));
        }
        kind => draft.has_begun |= kind.starts_with("response.reasoning"),
    }
    Ok(Progress::More)
}

fn begin(draft: &mut Draft, at: u64, item: &Value) {
    let field = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
    match field("type") {
        "function_call" => draft.tool_begins(at, field("call_id"), field("name")),
        "reasoning" => draft.has_begun = true,
        _ => {}
    }
}

/// Adds an item that is complete.
fn end(draft: &mut Draft, at: u64, item: Value) {
    let field = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
    match field("type") {
        "function_call" => {
            if !draft.has_call(at) {
                begin(draft, at, &item);
            }
            draft.all_tool_arguments(at, field("arguments"));
            draft.attach(at, beyond(&item, &["call_id", "name", "arguments"]));
        }
        "message" => {
            let parts = item.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let of = |kind: &str, field: &str| -> String {
                let of_kind = parts.iter().filter(|part| part.get("type").and_then(Value::as_str) == Some(kind));
                of_kind.filter_map(|part| part.get(field)?.as_str()).collect()
            };
            if !draft.has_text(at) {
                draft.text_at(at, &of("output_text", "text"));
            }
            if draft.refusal.is_empty() {
                draft.refusal = of("refusal", "refusal");
            }
            draft.attach(at, beyond(&item, &["role", "content"]));
        }
        _ => draft.opaque(at, without_nulls(item)),
    }
}

/// Returns the fields of an item that are neither in the draft nor the API's own book-keeping.
fn beyond(item: &Value, known: &[&str]) -> Map<String, Value> {
    let own = ["type", "id", "status"];
    let is_more = |(name, value): &(&String, &Value)| {
        !known.contains(&name.as_str()) && !own.contains(&name.as_str()) && !value.is_null()
    };
    item.as_object().into_iter().flatten().filter(is_more).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn without_nulls(mut item: Value) -> Value {
    if let Value::Object(fields) = &mut item {
        fields.retain(|_, value| !value.is_null());
    }
    item
}

fn ended(call: &Call, draft: &mut Draft, response: Response) -> Result<(), LlmError> {
    (draft.id, draft.model) = (response.id.or(draft.id.take()), response.model.or(draft.model.take()));
    for (at, item) in (0..).zip(response.output) {
        end(draft, at, item);
    }
    if let Some(usage) = response.usage.as_ref().and_then(WireUsage::read) {
        draft.counted(usage);
    }
    draft.usage.tier = tier(response.service_tier.as_ref());
    draft.stop = Some(match (response.status.as_deref(), response.incomplete_details.reason.as_deref()) {
        (Some("failed"), _) => {
            let body = serde_json::json!({"error": response.error});
            return Err(of_body(call, &body, LlmErrorKind::Unavailable));
        }
        (Some("incomplete"), Some("max_output_tokens")) => StopReason::Length,
        (Some("incomplete"), Some("content_filter")) => StopReason::ContentFilter,
        (Some("completed") | None, _) => StopReason::End,
        _ => StopReason::Other,
    });
    Ok(())
}

impl WireUsage {
    fn read(&self) -> Option<Usage> {
        Some(Usage {
            input_tokens: self.input_tokens?,
            output_tokens: self.output_tokens?,
            cached_tokens: self.input_tokens_details.cached_tokens.unwrap_or(0),
            cache_write_tokens: self.input_tokens_details.cache_write_tokens.unwrap_or(0),
            reasoning_tokens: self.output_tokens_details.reasoning_tokens.unwrap_or(0),
            ..Usage::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use agentry_core::chat::ChatReply;
    use serde_json::json;

    use super::*;
    use crate::test_call::{call, modern};

    fn usage() -> Value {
        json!({"input_tokens": 2_000, "output_tokens": 300, "total_tokens": 2_300,
            "input_tokens_details": {"cached_tokens": 1_024, "cache_write_tokens": 900},
            "output_tokens_details": {"reasoning_tokens": 128}})
    }

    fn items() -> Value {
        json!([
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "opaque", "status": null},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "phase": "commentary",
                "content": [{"type": "output_text", "text": "Looking.", "annotations": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "find", "arguments": "{\"q\":1}",
                "status": "completed"}
        ])
    }

    fn streamed(events: &[Value]) -> Result<ChatReply, LlmError> {
        let call = modern(call(""), "gpt-6-luna");
        let mut draft = Draft::default();
        for next in events {
            let data = next.to_string();
            event(&call, &mut draft, data.as_bytes(), serde_json::from_value(next.clone()).unwrap())?;
        }
        Ok(draft.finish(&call).unwrap().0)
    }

    #[test]
    fn a_stream_and_a_whole_answer_are_the_same() {
        let items = items();
        let body = json!({"id": "resp_1", "object": "response", "status": "completed", "model": "gpt-6-luna-2026",
            "output": items, "usage": usage(), "service_tier": "flex", "error": null, "incomplete_details": null});
        let call = modern(call(""), "gpt-6-luna");
        let mut draft = Draft::default();
        whole(&call, &mut draft, &body, serde_json::from_value(body.clone()).unwrap()).unwrap();
        let whole = draft.finish(&call).unwrap().0;
        let done = json!({"id": "resp_1", "status": "completed", "model": "gpt-6-luna-2026", "output": items,
            "usage": usage(), "service_tier": "flex"});
        let streamed = streamed(&[
            json!({"type": "response.created", "response": {"id": "resp_1", "model": "gpt-6-luna-2026", "output": []}}),
            json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "rs_1"}}),
            json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "hm"}),
            json!({"type": "response.output_item.done", "output_index": 0, "item": items[0]}),
            json!({"type": "response.output_text.delta", "output_index": 1, "delta": "Look"}),
            json!({"type": "response.output_text.delta", "output_index": 1, "delta": "ing."}),
            json!({"type": "response.output_item.done", "output_index": 1, "item": items[1]}),
            json!({"type": "response.output_item.added", "output_index": 2, "item":
                {"type": "function_call", "call_id": "c1", "name": "find", "arguments": ""}}),
            json!({"type": "response.function_call_arguments.delta", "output_index": 2, "delta": "{\"q\""}),
            json!({"type": "response.something_new", "x": 1}),
            json!({"type": "response.output_item.done", "output_index": 2, "item": items[2]}),
            json!({"type": "response.completed", "response": done}),
        ])
        .unwrap();
        assert_eq!(whole, streamed);
        assert_eq!((whole.content.as_str(), whole.stop), ("Looking.", StopReason::ToolCalls));
        assert_eq!(whole.tool_calls[0].arguments, "{\"q\":1}");
        let native = serde_json::to_value(&whole.native.unwrap().parts).unwrap();
        assert_eq!(
            native,
            json!([
                {"part": "opaque", "block": {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "opaque"}},
                {"part": "text", "text": "Looking.", "extra": {"phase": "commentary"}},
                {"part": "call", "index": 0}
            ])
        );
        assert_eq!((whole.usage.cache_write_tokens, whole.usage.reasoning_tokens), (900, 128));
    }

    #[test]
    fn cut_and_failed_answers_are_told_apart() {
        let incomplete = |reason: &str| {
            streamed(&[json!({"type": "response.incomplete",
                "response": {"status": "incomplete", "incomplete_details": {"reason": reason}, "usage": usage()}})])
        };
        assert_eq!(incomplete("max_output_tokens").unwrap().stop, StopReason::Length);
        let failed = |code: &str| {
            let event = json!({"type": "response.failed",
                "response": {"status": "failed", "error": {"code": code, "message": "words"}}});
            streamed(&[event]).unwrap_err().kind
        };
        assert_eq!(failed("server_error"), LlmErrorKind::Unavailable);
        assert_eq!(failed("rate_limit_exceeded"), LlmErrorKind::RateLimited { retry_after: None });
        assert_eq!(failed("invalid_prompt"), LlmErrorKind::Refused);
        let error = streamed(&[json!({"type": "error", "code": "credit_balance_exhausted", "message": "words"})]);
        assert_eq!(error.unwrap_err().kind, LlmErrorKind::QuotaExhausted);
    }
}
