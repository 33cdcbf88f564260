//! Ollama's answers: one object, or one object per line until one is `done`.

use agentry_core::chat::StopReason;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::wire::{Draft, Progress, lenient};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Part {
    #[serde(deserialize_with = "lenient::id")]
    model: Option<String>,
    #[serde(deserialize_with = "lenient::or_default")]
    message: WireMessage,
    #[serde(deserialize_with = "lenient::or_default")]
    done: bool,
    #[serde(deserialize_with = "lenient::id")]
    done_reason: Option<String>,
    #[serde(deserialize_with = "lenient::count")]
    prompt_eval_count: Option<u64>,
    #[serde(deserialize_with = "lenient::count")]
    eval_count: Option<u64>,
    pub(super) error: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireMessage {
    #[serde(deserialize_with = "lenient::text")]
    content: Option<String>,
    #[serde(deserialize_with = "lenient::text")]
    thinking: Option<String>,
    #[serde(deserialize_with = "lenient::or_default")]
    tool_calls: Vec<WireToolCall>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireToolCall {
    #[serde(deserialize_with = "lenient::id")]
    id: Option<String>,
    function: Function,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Function {
    #[serde(deserialize_with = "lenient::id")]
    name: Option<String>,
    #[serde(deserialize_with = "lenient::arguments")]
    arguments: Option<String>,
}

impl Part {
    /// Returns whether the server only loaded or unloaded the model.
    pub(super) fn is_only_loaded(&self) -> bool {
        self.done && matches!(self.done_reason.as_deref(), Some("load" | "unload"))
    }
}

/// Number of the part that holds the fields of the message which are sent back.
const FIELDS: u64 = u64::MAX;

pub(super) fn part(draft: &mut Draft, part: Part) -> Progress {
    if draft.model.is_none() {
        draft.model = part.model;
    }
    let WireMessage { content, thinking, tool_calls } = part.message;
    if let Some(more) = thinking.filter(|thinking| !thinking.is_empty()) {
        let block = draft.opaque_mut(FIELDS);
        *block = json!({"thinking": format!("{}{more}", block["thinking"].as_str().unwrap_or_default())});
    }
    draft.text(content.as_deref().unwrap_or_default());
    for WireToolCall { id, function: Function { name, arguments } } in tool_calls {
        draft.tool(
            id.as_deref().unwrap_or_default(),
            name.as_deref().unwrap_or_default(),
            arguments.as_deref().unwrap_or_default(),
        );
    }
    draft.usage.input_tokens = part.prompt_eval_count.unwrap_or(draft.usage.input_tokens);
    draft.usage.output_tokens = part.eval_count.unwrap_or(draft.usage.output_tokens);
    if !part.done {
        return Progress::More;
    }
    // The prompt is not counted when all of it was in the cache.
    draft.is_counted = part.eval_count.is_some();
    draft.stop = Some(match part.done_reason.as_deref() {
        Some("stop") | None => StopReason::End,
        Some("length") => StopReason::Length,
        Some(_) => StopReason::Other,
    });
    Progress::Done
}
