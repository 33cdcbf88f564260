//! OpenAI's answers, whole and in chunks, and their conversion to a [`Draft`]. Compatible servers send null for what is
//! absent, objects for texts and texts for numbers: all of it is read.

use agentry_core::chat::{ServiceTier, StopReason, Usage};
use agentry_core::money::NanoUsd;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::wire::{Draft, ToolDelta, lenient};

/// An answer or a chunk of one. The chunk with the usage has no choices; some servers report an error in one.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Completion {
    #[serde(deserialize_with = "lenient::id")]
    id: Option<String>,
    #[serde(deserialize_with = "lenient::id")]
    model: Option<String>,
    #[serde(deserialize_with = "lenient::or_default")]
    choices: Vec<Choice>,
    usage: Option<WireUsage>,
    service_tier: Option<Value>,
    pub(super) error: Option<Value>,
    object: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Choice {
    #[serde(deserialize_with = "lenient::count")]
    index: Option<u64>,
    #[serde(alias = "message", deserialize_with = "lenient::or_default")]
    delta: Delta,
    #[serde(deserialize_with = "lenient::id")]
    finish_reason: Option<String>,
    error: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Delta {
    #[serde(deserialize_with = "lenient::text")]
    content: Option<String>,
    #[serde(deserialize_with = "lenient::text")]
    refusal: Option<String>,
    /// Reasoning of DeepSeek and others, which some want back.
    #[serde(deserialize_with = "lenient::text")]
    reasoning_content: Option<String>,
    /// Reasoning of vLLM and Groq, which is shown only.
    #[serde(deserialize_with = "lenient::text")]
    reasoning: Option<String>,
    /// Reasoning of OpenRouter, which is wanted back unchanged.
    #[serde(deserialize_with = "lenient::or_default")]
    reasoning_details: Vec<Value>,
    #[serde(deserialize_with = "lenient::or_default")]
    tool_calls: Vec<CallDelta>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CallDelta {
    #[serde(deserialize_with = "lenient::count")]
    index: Option<u64>,
    #[serde(deserialize_with = "lenient::id")]
    id: Option<String>,
    #[serde(deserialize_with = "lenient::or_default")]
    function: FunctionDelta,
    /// Google's thought signatures.
    extra_content: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct FunctionDelta {
    #[serde(deserialize_with = "lenient::id")]
    name: Option<String>,
    #[serde(deserialize_with = "lenient::arguments")]
    arguments: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireUsage {
    #[serde(deserialize_with = "lenient::count")]
    prompt_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::count")]
    completion_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::count")]
    total_tokens: Option<u64>,
    /// DeepSeek's name for the cached part.
    #[serde(deserialize_with = "lenient::count")]
    prompt_cache_hit_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::or_default")]
    prompt_tokens_details: PromptDetails,
    #[serde(deserialize_with = "lenient::or_default")]
    completion_tokens_details: CompletionDetails,
    /// What OpenRouter charged, in US dollars.
    cost: Option<Value>,
    /// What xAI charged, in ten-billionths of a US dollar.
    #[serde(deserialize_with = "lenient::count")]
    cost_in_usd_ticks: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PromptDetails {
    #[serde(deserialize_with = "lenient::count")]
    cached_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::count")]
    cache_write_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CompletionDetails {
    #[serde(deserialize_with = "lenient::count")]
    reasoning_tokens: Option<u64>,
}

impl WireUsage {
    /// Returns the counts; `None` when there are none, which some servers send in every chunk but the last.
    fn read(&self) -> Option<Usage> {
        let (input_tokens, completion) = (self.prompt_tokens?, self.completion_tokens?);
        let reasoning_tokens = self.completion_tokens_details.reasoning_tokens.unwrap_or(0);
        // xAI counts its reasoning beside the completion, and so does its total.
        let is_apart = reasoning_tokens > 0
            && self.total_tokens == Some(input_tokens.saturating_add(completion).saturating_add(reasoning_tokens));
        Some(Usage {
            input_tokens,
            output_tokens: if is_apart { completion.saturating_add(reasoning_tokens) } else { completion },
            cached_tokens: self.prompt_tokens_details.cached_tokens.or(self.prompt_cache_hit_tokens).unwrap_or(0),
            cache_write_tokens: self.prompt_tokens_details.cache_write_tokens.unwrap_or(0),
            reasoning_tokens,
            charged: self.charged(),
            ..Usage::default()
        })
    }

    fn charged(&self) -> Option<NanoUsd> {
        if let Some(ticks) = self.cost_in_usd_ticks {
            return Some(NanoUsd(i64::try_from((ticks + 5) / 10).unwrap_or(i64::MAX)));
        }
        let dollars = self.cost.as_ref()?;
        let dollars = dollars.as_f64().or_else(|| dollars.as_str()?.parse().ok())?;
        #[allow(clippy::cast_possible_truncation, reason = "the cast saturates")]
        (dollars >= 0.0).then(|| NanoUsd((dollars * 1e9).round() as i64))
    }
}

/// Reads an HTTP answer with a tier such as `priority`; the standard one has no name.
pub(crate) fn tier(served: Option<&Value>) -> Option<ServiceTier> {
    served?.as_str()?.parse().ok()
}

impl Completion {
    /// Returns whether anything in it looks like an error; chunks rarely do.
    pub(super) fn may_be_error(&self) -> bool {
        self.error.is_some()
            || self.choices.iter().any(|choice| choice.error.is_some())
            || self.object.as_ref().and_then(Value::as_str) == Some("error")
    }

    /// Returns the error that a body reports instead of an answer, or beside one.
    pub(super) fn error(&self, body: &Value) -> Option<Value> {
        let is_error = |error: &&Value| !error.is_null();
        let own = self.error.as_ref().filter(is_error).map(|error| serde_json::json!({ "error": error }));
        let in_choice = || {
            let error = self.choices.iter().find_map(|choice| choice.error.as_ref().filter(is_error))?;
            Some(serde_json::json!({ "error": error }))
        };
        let is_object = self.object.as_ref().and_then(Value::as_str) == Some("error");
        own.or_else(in_choice).or_else(|| is_object.then(|| body.clone()))
    }
}

/// Converts a whole answer to a draft; returns `None` when it has no choice.
pub(super) fn whole(draft: &mut Draft, mut completion: Completion) -> Option<()> {
    // In a whole answer every call is complete, whatever its index and id.
    let mut choice = std::mem::take(&mut completion.choices).into_iter().next()?;
    for (index, call) in choice.delta.tool_calls.iter_mut().enumerate() {
        call.index = Some(index as u64);
    }
    choice.index = None;
    completion.choices.push(choice);
    chunk(draft, completion);
    Some(())
}

pub(super) fn chunk(draft: &mut Draft, chunk: Completion) {
    if draft.model.is_none() {
        draft.model = chunk.model;
    }
    if chunk.id.is_some() {
        draft.id = chunk.id;
    }
    if let Some(usage) = chunk.usage.as_ref().and_then(WireUsage::read) {
        draft.counted(Usage { tier: draft.usage.tier, ..usage });
    }
    if let Some(tier) = tier(chunk.service_tier.as_ref()) {
        draft.usage.tier = Some(tier);
    }
    let Some(choice) = chunk.choices.into_iter().find(|choice| choice.index.unwrap_or(0) == 0) else { return };
    if let Some(reason) = choice.finish_reason {
        draft.stop = Some(stop(&reason));
    }
    let delta = choice.delta;
    keep_reasoning(draft, &delta);
    for CallDelta { index, id, function: FunctionDelta { name, arguments }, extra_content } in delta.tool_calls {
        draft.tool_delta(ToolDelta {
            index,
            id: id.as_deref(),
            name: name.as_deref(),
            arguments: arguments.as_deref().unwrap_or_default(),
        });
        if let Some(extra) = extra_content.filter(|extra| !extra.is_null()) {
            draft.attach_to_call(Map::from_iter([("extra_content".to_owned(), extra)]));
        }
    }
    draft.refusal.push_str(delta.refusal.as_deref().unwrap_or_default());
    draft.has_begun |= [&delta.refusal, &delta.reasoning].into_iter().flatten().any(|text| !text.is_empty());
    draft.text(delta.content.as_deref().unwrap_or_default());
}

/// Number of the part that holds the fields of the message which are sent back.
const FIELDS: u64 = 0;

/// Keeps the reasoning that must be sent back: the fields of the message, as they came.
fn keep_reasoning(draft: &mut Draft, delta: &Delta) {
    if let Some(text) = delta.reasoning_content.as_deref().filter(|text| !text.is_empty()) {
        let Value::Object(fields) = draft.opaque_mut(FIELDS) else { return };
        match fields.entry("reasoning_content").or_insert_with(|| String::new().into()) {
            Value::String(so_far) => so_far.push_str(text),
            other => *other = text.into(),
        }
    }
    if !delta.reasoning_details.is_empty() {
        let Value::Object(fields) = draft.opaque_mut(FIELDS) else { return };
        if let Value::Array(details) = fields.entry("reasoning_details").or_insert_with(|| Value::Array(Vec::new())) {
            delta.reasoning_details.iter().for_each(|detail| join(details, detail));
        }
    }
}

/// Adds a piece of OpenRouter's reasoning: one with the kind and index of the last goes on with it.
fn join(details: &mut Vec<Value>, piece: &Value) {
    let same = |last: &Value| {
        last.get("index").is_some() && ["index", "type"].iter().all(|key| last.get(key) == piece.get(key))
    };
    match (details.last_mut().filter(|last| same(last)), piece) {
        (Some(Value::Object(last)), Value::Object(piece)) => {
            for (name, value) in piece {
                match (last.get_mut(name), value) {
                    (Some(Value::String(so_far)), Value::String(more))
                        if matches!(name.as_str(), "text" | "summary" | "data") =>
                    {
                        so_far.push_str(more);
                    }
                    (_, Value::Null) => {}
                    _ => {
                        last.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        _ => details.push(piece.clone()),
    }
}

fn stop(reason: &str) -> StopReason {
    match reason.to_ascii_lowercase().as_str() {
        "stop" | "end_turn" | "stop_sequence" | "eos" | "eos_token" | "complete" | "completed" => StopReason::End,
        "tool_calls" | "function_call" | "tool_use" => StopReason::ToolCalls,
        "length" | "max_tokens" | "max_output_tokens" => StopReason::Length,
        "content_filter" | "safety" | "refusal" => StopReason::ContentFilter,
        "model_length" | "model_context_window_exceeded" => StopReason::ContextExceeded,
        _ => StopReason::Other,
    }
}

#[cfg(test)]
mod tests {
    use agentry_core::chat::ChatReply;
    use serde_json::json;

    use super::*;
    use crate::test_call::call;

    fn stream(chunks: &[serde_json::Value]) -> ChatReply {
        let mut draft = Draft::default();
        for next in chunks {
            chunk(&mut draft, serde_json::from_value(next.clone()).unwrap());
        }
        draft.finish(&call("")).unwrap().0
    }

    #[test]
    fn cached_and_reasoning_tokens_are_read() {
        let completion = json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-2024-08-06",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi", "refusal": null},
                "logprobs": null, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
                "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 128}}
        });
        let mut draft = Draft::default();
        whole(&mut draft, serde_json::from_value(completion).unwrap()).unwrap();
        let (reply, id) = draft.finish(&call("")).unwrap();
        assert_eq!(id.as_deref(), Some("chatcmpl-1"));
        assert_eq!(
            reply.usage,
            Usage {
                input_tokens: 2006,
                output_tokens: 300,
                cached_tokens: 1920,
                reasoning_tokens: 128,
                ..Usage::default()
            }
        );
        assert_eq!((reply.stop, reply.model.as_str()), (StopReason::Length, "gpt-4o-2024-08-06"));
    }

    #[test]
    fn tool_arguments_are_joined_by_index() {
        let delta = |calls: serde_json::Value| json!({"choices": [{"index": 0, "delta": {"tool_calls": calls}}]});
        let reply = stream(&[
            delta(json!([{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}])),
            delta(json!([{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{"}}])),
            delta(json!([{"index": 0, "function": {"arguments": "{\"x\":"}}])),
            delta(json!([{"index": 1, "function": {"arguments": "}"}}, {"index": 0, "function": {"arguments": "1}"}}])),
            json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
            json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}),
        ]);
        let calls: Vec<_> =
            reply.tool_calls.iter().map(|c| (c.id.as_str(), c.name.as_str(), c.arguments.as_str())).collect();
        assert_eq!(calls, [("a", "f", "{\"x\":1}"), ("b", "g", "{}")]);
        assert_eq!((reply.stop, reply.usage.input_tokens), (StopReason::ToolCalls, 7));
    }

    #[test]
    fn calls_without_index_or_id_are_still_told_apart() {
        let delta = |calls: serde_json::Value| json!({"choices": [{"delta": {"tool_calls": calls}}]});
        let reply = stream(&[
            delta(json!([{"id": "a", "function": {"name": "f", "arguments": "{"}}])),
            delta(json!([{"function": {"arguments": "}"}}])),
            delta(json!([{"id": "", "function": {"name": "g", "arguments": "{}"}}])),
        ]);
        assert_eq!(reply.tool_calls.len(), 2);
        assert_eq!(reply.tool_calls[0].arguments, "{}");
        assert_eq!(reply.tool_calls[1].id, format!("{}-1", call("").id));
    }

    #[test]
    fn every_call_under_index_0_is_a_call() {
        let delta = |calls: serde_json::Value| json!({"choices": [{"delta": {"tool_calls": calls}}]});
        let named = |id: &str, arguments: &str| json!({"index": 0, "id": id, "function": {"name": "add", "arguments": arguments}});
        let reply = stream(&[
            delta(json!([named("a", "{\"n\":1}"), named("b", "{\"n\"")])),
            delta(json!([{"index": 0, "function": {"arguments": ":2}"}}])),
            delta(json!([named("c", "{")])),
            delta(json!([named("c", "\"n\":3}")])),
        ]);
        let calls: Vec<_> =
            reply.tool_calls.iter().map(|c| (c.id.as_str(), c.name.as_str(), c.arguments.as_str())).collect();
        assert_eq!(calls, [("a", "add", "{\"n\":1}"), ("b", "add", "{\"n\":2}"), ("c", "add", "{\"n\":3}")]);
    }

    #[test]
    fn what_compatible_servers_send_is_read() {
        let text = |delta: serde_json::Value| json!({"id": 7, "choices": [{"index": null, "delta": delta}]});
        let reply = stream(&[
            text(json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "he"}], "tool_calls": null, "role": null})),
            json!({"choices": null, "usage": null}),
            json!({"choices": [{"index": 0, "delta": null, "finish_reason": null}]}),
            text(json!({"content": "llo"})),
            json!({"choices": [], "usage": {"prompt_tokens": null, "completion_tokens": null}}),
            json!({"choices": [], "usage": {"prompt_tokens": 10.0, "completion_tokens": "5"}}),
        ]);
        assert_eq!((reply.content.as_str(), reply.usage.input_tokens, reply.usage.output_tokens), ("hello", 10, 5));
    }

    #[test]
    fn reasoning_that_is_wanted_back_is_kept() {
        let delta = |delta: serde_json::Value| json!({"choices": [{"delta": delta}]});
        let reply = stream(&[
            delta(json!({"reasoning_content": "Let me "})),
            delta(
                json!({"reasoning_content": "add.", "reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "Let"}]}),
            ),
            delta(
                json!({"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": " me", "signature": "s"}]}),
            ),
            delta(json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "add", "arguments": "{}"},
                "extra_content": {"google": {"thought_signature": "abc"}}}]})),
        ]);
        let parts = serde_json::to_value(&reply.native.unwrap().parts).unwrap();
        assert_eq!(
            parts,
            json!([
                {"part": "opaque", "block": {"reasoning_content": "Let me add.", "reasoning_details":
                    [{"type": "reasoning.text", "index": 0, "text": "Let me", "signature": "s"}]}},
                {"part": "call", "index": 0, "extra": {"extra_content": {"google": {"thought_signature": "abc"}}}}
            ])
        );
    }

    #[test]
    fn money_and_tokens_are_what_the_provider_counts() {
        let usage = |usage: serde_json::Value| stream(&[json!({"choices": [], "usage": usage})]).usage;
        let xai = usage(json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115,
            "completion_tokens_details": {"reasoning_tokens": 100}, "cost_in_usd_ticks": 123_456_789}));
        assert_eq!((xai.output_tokens, xai.reasoning_tokens, xai.charged), (105, 100, Some(NanoUsd(12_345_679))));
        let openrouter =
            usage(json!({"prompt_tokens": 10, "completion_tokens": 105, "total_tokens": 115, "cost": 0.0125,
            "completion_tokens_details": {"reasoning_tokens": 100},
            "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 4}}));
        assert_eq!((openrouter.output_tokens, openrouter.charged), (105, Some(NanoUsd(12_500_000))));
        assert_eq!((openrouter.cached_tokens, openrouter.cache_write_tokens), (3, 4));
    }

    #[test]
    fn a_refusal_is_no_answer() {
        let mut draft = Draft::default();
        let refusal = json!({"choices": [{"delta": {"refusal": "No."}, "finish_reason": "stop"}]});
        chunk(&mut draft, serde_json::from_value(refusal).unwrap());
        assert!(draft.finish(&call("")).unwrap_err().to_string().contains("No."));
    }
}
