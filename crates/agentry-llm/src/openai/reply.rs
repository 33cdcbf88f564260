//! OpenAI's answers, whole and in chunks, and their conversion to a [`Draft`].

use agentry_core::chat::{StopReason, Usage};
use serde::Deserialize;

use crate::wire::Draft;

#[derive(Deserialize)]
pub(super) struct Completion {
    id: Option<String>,
    model: Option<String>,
    choices: Vec<Choice>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Delta,
    finish_reason: Option<String>,
}

/// A chunk of a stream. The chunk with the usage has no choices; some servers report an error in one.
#[derive(Deserialize)]
pub(super) struct Chunk {
    id: Option<String>,
    model: Option<String>,
    #[serde(default)]
    choices: Vec<ChunkChoice>,
    usage: Option<WireUsage>,
    pub(super) error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct ChunkChoice {
    #[serde(default)]
    index: u32,
    #[serde(default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Deserialize, Default)]
struct Delta {
    content: Option<String>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    tool_calls: Option<Vec<ToolDelta>>,
}

#[derive(Deserialize)]
struct ToolDelta {
    index: Option<u64>,
    id: Option<String>,
    #[serde(default)]
    function: FunctionDelta,
}

#[derive(Deserialize, Default)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct WireUsage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    reasoning_tokens: Option<u64>,
}

impl From<WireUsage> for Usage {
    fn from(wire: WireUsage) -> Self {
        Self {
            input_tokens: wire.prompt_tokens,
            output_tokens: wire.completion_tokens,
            cached_tokens: wire.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0),
            reasoning_tokens: wire.completion_tokens_details.and_then(|details| details.reasoning_tokens).unwrap_or(0),
            ..Self::default()
        }
    }
}

/// Converts a whole answer to a draft; returns `None` when it has no choice.
pub(super) fn whole(completion: Completion) -> Option<Draft> {
    let mut draft = Draft::default();
    (draft.id, draft.model) = (completion.id, completion.model);
    draft.usage = completion.usage.map(Usage::from).unwrap_or_default();
    let choice = completion.choices.into_iter().next()?;
    draft.stop = choice.finish_reason.as_deref().map(stop);
    // In a whole answer every call is complete, whatever its index.
    for (index, call) in choice.message.tool_calls.into_iter().flatten().enumerate() {
        let ToolDelta { id, function: FunctionDelta { name, arguments }, .. } = call;
        draft.tool_delta(Some(index as u64), id, name, arguments.as_deref().unwrap_or_default());
    }
    draft.text(choice.message.content.as_deref().unwrap_or_default());
    draft.refusal = choice.message.refusal.unwrap_or_default();
    Some(draft)
}

pub(super) fn chunk(draft: &mut Draft, chunk: Chunk) {
    if draft.model.is_none() {
        draft.model = chunk.model;
    }
    if chunk.id.is_some() {
        draft.id = chunk.id;
    }
    if let Some(usage) = chunk.usage {
        draft.usage = usage.into();
    }
    let Some(choice) = chunk.choices.into_iter().find(|choice| choice.index == 0) else { return };
    if let Some(reason) = choice.finish_reason {
        draft.stop = Some(stop(&reason));
    }
    let delta = choice.delta;
    for call in delta.tool_calls.into_iter().flatten() {
        let ToolDelta { index, id, function: FunctionDelta { name, arguments } } = call;
        draft.tool_delta(index, id, name, arguments.as_deref().unwrap_or_default());
    }
    draft.refusal.push_str(delta.refusal.as_deref().unwrap_or_default());
    // Reasoning that compatible servers show counts as content, but is no part of the answer.
    draft.has_begun |= [&delta.refusal, &delta.reasoning_content].into_iter().flatten().any(|text| !text.is_empty());
    draft.text(delta.content.as_deref().unwrap_or_default());
}

fn stop(reason: &str) -> StopReason {
    match reason {
        "stop" => StopReason::End,
        "tool_calls" | "function_call" => StopReason::ToolCalls,
        "length" => StopReason::Length,
        "content_filter" => StopReason::ContentFilter,
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
        let (reply, id) = whole(serde_json::from_value(completion).unwrap()).unwrap().finish(&call("")).unwrap();
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
    fn a_refusal_is_an_answer_that_was_withheld() {
        let reply = stream(&[json!({"choices": [{"delta": {"refusal": "No."}, "finish_reason": "stop"}]})]);
        assert_eq!((reply.stop, reply.content.as_str()), (StopReason::ContentFilter, "No."));
    }
}
