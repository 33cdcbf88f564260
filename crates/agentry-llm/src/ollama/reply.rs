//! Ollama's answers: one object, or one object per line until one is `done`.

use agentry_core::chat::StopReason;
use serde::Deserialize;
use serde_json::Value;

use crate::wire::{Draft, Progress};

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Line {
    Error { error: String },
    Part(Box<Part>),
}

#[derive(Deserialize)]
pub(super) struct Part {
    model: Option<String>,
    message: Option<WireMessage>,
    done: bool,
    done_reason: Option<String>,
    prompt_eval_count: Option<u64>,
    eval_count: Option<u64>,
}

#[derive(Deserialize)]
struct WireMessage {
    #[serde(default)]
    content: String,
    thinking: Option<String>,
    #[serde(default)]
    tool_calls: Vec<WireToolCall>,
}

#[derive(Deserialize)]
struct WireToolCall {
    #[serde(default)]
    id: String,
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    arguments: Value,
}

pub(super) fn part(draft: &mut Draft, part: Part) -> Progress {
    if draft.model.is_none() {
        draft.model = part.model;
    }
    if let Some(message) = part.message {
        draft.has_begun |= message.thinking.is_some_and(|text| !text.is_empty());
        draft.text(&message.content);
        for WireToolCall { id, function: Function { name, arguments } } in message.tool_calls {
            draft.tool(&id, &name, &arguments.to_string());
        }
    }
    draft.usage.input_tokens = part.prompt_eval_count.unwrap_or(draft.usage.input_tokens);
    draft.usage.output_tokens = part.eval_count.unwrap_or(draft.usage.output_tokens);
    if !part.done {
        return Progress::More;
    }
    draft.stop = Some(match part.done_reason.as_deref() {
        Some("stop") | None => StopReason::End,
        Some("length") => StopReason::Length,
        Some(_) => StopReason::Other,
    });
    Progress::Done
}
