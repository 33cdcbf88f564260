//! OpenAI's answers, whole and in chunks, and how they become a [`ChatReply`].

use agentry_core::chat::{ChatReply, StopReason, ToolCall, Usage};
use serde::Deserialize;

/// Tool calls of one answer at most; a model that asks for more is not in its right mind.
const MAX_TOOL_CALLS: usize = 128;

/// A whole answer.
#[derive(Deserialize)]
pub(super) struct Completion {
    model: Option<String>,
    choices: Vec<Choice>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Delta,
    finish_reason: Option<String>,
}

/// One piece of a streamed answer. The piece with the usage has no choices; some servers report an error in one.
#[derive(Deserialize)]
pub(super) struct Chunk {
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
    tool_calls: Option<Vec<ToolDelta>>,
}

#[derive(Deserialize)]
struct ToolDelta {
    index: Option<usize>,
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
            ..Usage::default()
        }
    }
}

/// An answer being put together.
#[derive(Default)]
pub(super) struct Assembly {
    content: String,
    refusal: String,
    calls: Vec<(Option<usize>, ToolCall)>,
    finish: Option<String>,
    model: Option<String>,
    pub(super) usage: Usage,
}

impl Assembly {
    /// A whole answer; `None` when it has no choice.
    pub(super) fn whole(completion: Completion) -> Option<Self> {
        let mut assembly = Self { model: completion.model, ..Self::default() };
        assembly.usage = completion.usage.map(Usage::from).unwrap_or_default();
        let choice = completion.choices.into_iter().next()?;
        assembly.finish = choice.finish_reason;
        // In a whole answer every call is complete, whatever index it claims.
        for mut call in choice.message.tool_calls.into_iter().flatten() {
            call.index = Some(assembly.calls.len());
            assembly.tool_delta(call);
        }
        assembly.content = choice.message.content.unwrap_or_default();
        assembly.refusal = choice.message.refusal.unwrap_or_default();
        Some(assembly)
    }

    /// Takes in the next chunk and returns its text.
    pub(super) fn chunk(&mut self, chunk: Chunk) -> Option<String> {
        if self.model.is_none() {
            self.model = chunk.model;
        }
        if let Some(usage) = chunk.usage {
            self.usage = usage.into();
        }
        let choice = chunk.choices.into_iter().find(|choice| choice.index == 0)?;
        if choice.finish_reason.is_some() {
            self.finish = choice.finish_reason;
        }
        for call in choice.delta.tool_calls.into_iter().flatten() {
            self.tool_delta(call);
        }
        if let Some(refusal) = choice.delta.refusal {
            self.refusal.push_str(&refusal);
        }
        let text = choice.delta.content.filter(|text| !text.is_empty())?;
        self.content.push_str(&text);
        Some(text)
    }

    /// Whether the model said that it is done.
    pub(super) fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// Pieces of a call belong together by index; without one, a piece with an id begins a call.
    fn tool_delta(&mut self, delta: ToolDelta) {
        let known = match (delta.index, &delta.id) {
            (Some(index), _) => self.calls.iter().position(|(at, _)| *at == Some(index)),
            (None, None) => self.calls.len().checked_sub(1),
            (None, Some(_)) => None,
        };
        let position = known.unwrap_or_else(|| {
            let empty = ToolCall { id: String::new(), name: String::new(), arguments: String::new() };
            self.calls.push((delta.index, empty));
            self.calls.len() - 1
        });
        let call = &mut self.calls[position].1;
        if let Some(id) = delta.id.filter(|id| !id.is_empty()) {
            call.id = id;
        }
        call.name.push_str(&delta.function.name.unwrap_or_default());
        call.arguments.push_str(&delta.function.arguments.unwrap_or_default());
    }

    /// The answer. `asked` stands in for a model that the server does not name, `call` makes ids for tool calls
    /// that have none.
    pub(super) fn finish(self, asked: &str, call: &agentry_core::id::CallId) -> Result<ChatReply, String> {
        if self.calls.len() > MAX_TOOL_CALLS {
            return Err(format!("the answer has {} tool calls; at most {MAX_TOOL_CALLS} are taken", self.calls.len()));
        }
        let mut tool_calls: Vec<ToolCall> = self.calls.into_iter().map(|(_, call)| call).collect();
        for (index, tool) in tool_calls.iter_mut().enumerate() {
            if tool.name.is_empty() {
                return Err("the answer has a tool call without a name".to_owned());
            }
            if tool.id.is_empty() {
                tool.id = format!("{call}-{index}");
            }
        }
        let refused = self.content.is_empty() && !self.refusal.is_empty();
        let stop = match self.finish.as_deref() {
            _ if refused => StopReason::ContentFilter,
            _ if !tool_calls.is_empty() => StopReason::ToolCalls,
            Some("stop") | None => StopReason::End,
            Some("tool_calls" | "function_call") => StopReason::ToolCalls,
            Some("length") => StopReason::Length,
            Some("content_filter") => StopReason::ContentFilter,
            Some(_) => StopReason::Other,
        };
        let content = if refused { self.refusal } else { self.content };
        let model = self.model.unwrap_or_else(|| asked.to_owned());
        Ok(ChatReply { content, tool_calls, stop, usage: self.usage, model, provider_call: None })
    }
}

#[cfg(test)]
mod tests {
    use agentry_core::id::CallId;
    use serde_json::json;

    use super::*;

    fn id() -> CallId {
        CallId::from_parts(1, 2)
    }

    fn stream(chunks: &[serde_json::Value]) -> ChatReply {
        let mut assembly = Assembly::default();
        for chunk in chunks {
            assembly.chunk(serde_json::from_value(chunk.clone()).unwrap());
        }
        assembly.finish("asked", &id()).unwrap()
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
        let reply = Assembly::whole(serde_json::from_value(completion).unwrap()).unwrap().finish("x", &id()).unwrap();
        assert_eq!(
            reply.usage,
            Usage { input_tokens: 2006, output_tokens: 300, cached_tokens: 1920, reasoning_tokens: 128 }
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
        assert_eq!(reply.tool_calls[1].id, format!("{}-1", id()));
    }

    #[test]
    fn a_refusal_is_an_answer_that_was_withheld() {
        let reply = stream(&[json!({"choices": [{"delta": {"refusal": "No."}, "finish_reason": "stop"}]})]);
        assert_eq!((reply.stop, reply.content.as_str()), (StopReason::ContentFilter, "No."));
    }
}
