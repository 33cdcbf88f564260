//! Requests of Anthropic's Messages API. All fields are borrowed, so a conversation is not copied to be sent.

use std::borrow::Cow;

use agentry_core::agent::{CacheKeep, Effort, ToolChoice};
use agentry_core::chat::{Message, NativePart, ToolCall, ToolDefinition};
use agentry_core::models::{Caching, Thinking};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::Call;
use crate::wire::{
    ANSWER_TOOL, AnswerBy, Fields, OwnParts, Turn, answer_by, object_or_empty, offered, shown, turns, wire_id,
};

/// Smallest budget of thinking that the API accepts.
const MIN_THINKING_TOKENS: u32 = 1_024;
/// Longest id of a call, in bytes.
const MAX_CALL_ID_BYTES: usize = 64;
/// Description of the tool whose arguments are the answer.
pub(crate) const ANSWER_DESCRIPTION: &str =
    "Gives the final answer. Call it once, when nothing else is left to be done.";

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    max_tokens: u32,
    #[serde(skip_serializing_if = "System::is_empty")]
    system: System,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(flatten)]
    params: Fields<10>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum System {
    Text(String),
    /// A block at whose end the provider's cache may begin.
    Cached([Value; 1]),
}

impl System {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Text(text) if text.is_empty())
    }
}

#[derive(Serialize)]
struct WireMessage<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Block<'a> {
    Own(OwnBlock<'a>),
    Opaque(&'a Value),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum OwnBlock<'a> {
    Text {
        text: &'a str,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: &'a str,
        input: &'a RawValue,
    },
    ToolResult {
        tool_use_id: Cow<'a, str>,
        content: &'a str,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
}

#[derive(Serialize)]
struct WireTool<'a> {
    name: &'a str,
    description: &'a str,
    input_schema: Cow<'a, Value>,
}

/// Builds the request body.
pub(super) fn body(call: &Call, stream: bool) -> Result<Vec<u8>, serde_json::Error> {
    let (system, turns) = turns(&call.request.messages);
    let (offered, own) = (offered(call), OwnParts::of(call));
    let mut system = system.join("\n\n");
    let mut tools: Vec<WireTool<'_>> = offered.iter().map(|one| tool(one)).collect();
    let (mut tool_choice, mut format) = (choice(call.params.tool_choice), Value::Null);
    match answer_by(call) {
        AnswerBy::Text => {}
        AnswerBy::Schema(schema) => format = json!({"type": "json_schema", "schema": schema}),
        AnswerBy::Tool(input_schema) => {
            tool_choice =
                if tools.is_empty() { json!({"type": "tool", "name": ANSWER_TOOL}) } else { json!({"type": "any"}) };
            tools.push(WireTool { name: ANSWER_TOOL, description: ANSWER_DESCRIPTION, input_schema });
        }
        AnswerBy::Words(words) => {
            system.push_str(if system.is_empty() { "" } else { "\n\n" });
            system.push_str(&words);
        }
    }
    if call.params.parallel_tool_calls == Some(false) && !tools.is_empty() {
        let choice = if tool_choice.is_null() { json!({"type": "auto"}) } else { tool_choice };
        tool_choice = with(choice, "disable_parallel_tool_use", true.into());
    }
    let cache = cache_control(call);
    let request = Request {
        model: &call.target.model,
        max_tokens: call.output_limit(),
        system: match &cache {
            Value::Null => System::Text(system),
            _ if system.is_empty() => System::Text(system),
            cache => System::Cached([json!({"type": "text", "text": system, "cache_control": cache})]),
        },
        messages: turns.iter().map(|turn| message(&own, turn)).collect(),
        tools,
        params: Fields([
            ("tool_choice", tool_choice),
            ("temperature", call.params.temperature.into()),
            ("top_p", call.params.top_p.into()),
            ("top_k", call.params.top_k.into()),
            ("stop_sequences", json!(call.params.stop_sequences)),
            ("thinking", thinking(call)),
            ("output_config", output_config(call, format)),
            ("cache_control", cache),
            ("service_tier", call.params.service_tier.as_deref().into()),
            ("stream", stream.then_some(true).into()),
        ]),
    };
    serde_json::to_vec(&request)
}

fn choice(choice: Option<ToolChoice>) -> Value {
    match choice {
        None => Value::Null,
        Some(ToolChoice::Auto) => json!({"type": "auto"}),
        Some(ToolChoice::None) => json!({"type": "none"}),
        Some(ToolChoice::Required) => json!({"type": "any"}),
    }
}

fn with(mut object: Value, field: &str, value: Value) -> Value {
    object[field] = value;
    object
}

/// Returns how long a prefix is kept. One mark stands after the tools and the system text, another, which the API
/// places itself, at the end of the conversation.
fn cache_control(call: &Call) -> Value {
    match (call.traits.caching, call.params.cache) {
        (Caching::Breakpoints, CacheKeep::Auto) => json!({"type": "ephemeral"}),
        (Caching::Breakpoints, CacheKeep::Hour) => json!({"type": "ephemeral", "ttl": "1h"}),
        _ => Value::Null,
    }
}

/// Returns the thinking that the effort asks for, in the form that the model takes.
pub(crate) fn thinking(call: &Call) -> Value {
    match (call.traits.thinking, call.params.reasoning) {
        (Thinking::Adaptive, Some(Effort::None)) => json!({"type": "disabled"}),
        (Thinking::Adaptive, Some(_)) => json!({"type": "adaptive"}),
        (Thinking::Budget, Some(effort)) => thinking_tokens(effort, call.output_limit())
            .map_or(Value::Null, |tokens| json!({"type": "enabled", "budget_tokens": tokens})),
        _ => Value::Null,
    }
}

/// Returns the budget of thinking, which must leave room for the answer.
fn thinking_tokens(effort: Effort, max_tokens: u32) -> Option<u32> {
    let wanted = match effort {
        Effort::None => return None,
        Effort::Minimal => MIN_THINKING_TOKENS,
        Effort::Low => 4_096,
        Effort::Medium => 8_192,
        Effort::High => 16_384,
        Effort::Xhigh | Effort::Max => 32_768,
    };
    let room = max_tokens.saturating_sub(max_tokens / 4);
    Some(wanted.min(room)).filter(|tokens| *tokens >= MIN_THINKING_TOKENS)
}

/// Returns effort and format of the answer.
pub(crate) fn output_config(call: &Call, format: Value) -> Value {
    let effort = match (call.traits.thinking, call.params.reasoning) {
        (Thinking::Adaptive, Some(effort)) if effort != Effort::None => json!(effort),
        _ => Value::Null,
    };
    match (effort, format) {
        (Value::Null, Value::Null) => Value::Null,
        (Value::Null, format) => json!({ "format": format }),
        (effort, Value::Null) => json!({ "effort": effort }),
        (effort, format) => json!({"effort": effort, "format": format}),
    }
}

fn tool(tool: &ToolDefinition) -> WireTool<'_> {
    WireTool { name: &tool.name, description: &tool.description, input_schema: Cow::Borrowed(&tool.parameters) }
}

fn message<'a>(own: &OwnParts<'_>, turn: &Turn<'a>) -> WireMessage<'a> {
    let mut content = Vec::with_capacity(turn.messages.len());
    for message in &turn.messages {
        match message {
            Message::System { content: text } | Message::User { content: text } => content.push(text_block(text)),
            Message::Assistant { content: text, tool_calls, native } => match own.parts(native.as_deref()) {
                Some(parts) => content.extend(parts.iter().filter_map(|part| match part {
                    NativePart::Opaque { block } => Some(Block::Opaque(block)),
                    NativePart::Text { text, .. } => (!text.trim().is_empty()).then(|| text_block(text)),
                    NativePart::Call { index, .. } => tool_calls.get(*index).map(tool_use),
                })),
                None => {
                    if !text.trim().is_empty() {
                        content.push(text_block(text));
                    }
                    content.extend(tool_calls.iter().map(tool_use));
                }
            },
            Message::Tool { call_id, content: text, is_error } => content.push(Block::Own(OwnBlock::ToolResult {
                tool_use_id: wire_id(call_id, MAX_CALL_ID_BYTES),
                content: shown(text),
                is_error: *is_error,
            })),
        }
    }
    WireMessage { role: if turn.is_assistant { "assistant" } else { "user" }, content }
}

fn text_block(text: &str) -> Block<'_> {
    Block::Own(OwnBlock::Text { text: shown(text) })
}

fn tool_use(call: &ToolCall) -> Block<'_> {
    Block::Own(OwnBlock::ToolUse {
        id: wire_id(&call.id, MAX_CALL_ID_BYTES),
        name: &call.name,
        input: object_or_empty(&call.arguments),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_call::call;
    use agentry_core::agent::{ProviderKind, SamplingParams};
    use agentry_core::chat::NativeReply;

    fn sent(call: &Call, stream: bool) -> Value {
        serde_json::from_slice(&body(call, stream).unwrap()).unwrap()
    }

    #[test]
    fn a_conversation_with_tools_is_written_as_the_api_takes_it() {
        let mut call = call("");
        call.request.messages = vec![
            Message::System { content: "s".into() },
            Message::User { content: "u".into() },
            Message::Assistant {
                content: "Looking.".into(),
                tool_calls: vec![ToolCall { id: "t1".into(), name: "find".into(), arguments: r#"{"q":1}"#.into() }],
                native: None,
            },
            Message::Tool { call_id: "t1".into(), content: "found".into(), is_error: true },
            Message::User { content: "and?".into() },
        ];
        call.request.tools = vec![ToolDefinition {
            name: "find".into(),
            description: "Finds.".into(),
            parameters: json!({"type": "object"}),
        }];
        call.params = SamplingParams {
            temperature: Some(0.5),
            top_k: Some(9),
            stop_sequences: vec!["END".into()],
            seed: Some(3),
            ..SamplingParams::default()
        };
        let expected = json!({
            "model": "sim-small", "max_tokens": 4096, "system": "s",
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "u"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "Looking."},
                    {"type": "tool_use", "id": "t1", "name": "find", "input": {"q": 1}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "found", "is_error": true},
                    {"type": "text", "text": "and?"}]}
            ],
            "tools": [{"name": "find", "description": "Finds.", "input_schema": {"type": "object"}}],
            "temperature": 0.5, "top_k": 9, "stop_sequences": ["END"], "stream": true
        });
        assert_eq!(sent(&call, true), expected);
    }

    #[test]
    fn a_form_is_a_tool_that_must_be_called() {
        let mut call = call("");
        call.request.output_schema = Some(json!({"type": "object", "title": "t"}));
        let body = sent(&call, false);
        assert_eq!(body["tool_choice"], json!({"type": "tool", "name": ANSWER_TOOL}));
        assert_eq!(body["tools"][0]["input_schema"]["title"], "t");
        call.request.tools = vec![ToolDefinition { name: "f".into(), description: "f".into(), parameters: json!({}) }];
        assert_eq!(sent(&call, false)["tool_choice"], json!({"type": "any"}));
    }

    fn claude(model: &str) -> Call {
        let mut call = call("");
        call.target.provider = ProviderKind::Anthropic;
        crate::test_call::modern(call, model)
    }

    #[test]
    fn current_models_get_effort_a_format_and_a_cache() {
        let mut call = claude("claude-sonnet-5-5");
        call.request.messages.insert(0, Message::System { content: "s".into() });
        call.request.output_schema =
            Some(json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}));
        call.params.reasoning = Some(Effort::High);
        let body = sent(&call, false);
        assert_eq!(body["thinking"], json!({"type": "adaptive"}));
        assert_eq!(
            body["output_config"],
            json!({"effort": "high", "format": {"type": "json_schema", "schema":
            {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": false}}})
        );
        assert!(body.get("tool_choice").is_none() && body.get("tools").is_none(), "{body}");
        assert_eq!(body["cache_control"], json!({"type": "ephemeral"}));
        assert_eq!(body["system"], json!([{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]));
        call.params.cache = CacheKeep::Off;
        assert_eq!(sent(&call, false)["system"], "s");
        assert_eq!(sent(&call, false)["max_tokens"], 16_384);
    }

    #[test]
    fn thinking_goes_back_unchanged_and_only_to_its_model() {
        let thinking = json!({"type": "thinking", "thinking": "hm", "signature": "sig"});
        let mut call = claude("claude-sonnet-5-5");
        let prefix = crate::wire::prefix_of(&call);
        call.request.messages.push(Message::Assistant {
            content: "Looking.".into(),
            tool_calls: vec![ToolCall { id: "t:1".into(), name: "find".into(), arguments: "{}".into() }],
            native: Some(Box::new(NativeReply {
                provider: ProviderKind::Anthropic,
                model: "claude-sonnet-5-5".into(),
                prefix,
                parts: vec![
                    NativePart::Opaque { block: thinking.clone() },
                    NativePart::Text { text: "Looking.".into(), extra: serde_json::Map::new() },
                    NativePart::Call { index: 0, extra: serde_json::Map::new() },
                ],
            })),
        });
        call.request.messages.push(Message::Tool { call_id: "t:1".into(), content: "\n".into(), is_error: false });
        let body = sent(&call, false);
        let content = &body["messages"][1]["content"];
        assert_eq!((&content[0], &content[1]["text"]), (&thinking, &json!("Looking.")));
        assert_eq!(content[2]["id"], body["messages"][2]["content"][0]["tool_use_id"]);
        assert_eq!(body["tools"][0]["name"], "find", "a tool that is gone stays defined");
        let mut pruned = call.clone();
        pruned.request.messages[0] = Message::User { content: "another beginning".into() };
        assert_eq!(sent(&pruned, false)["messages"][1]["content"][0]["type"], "text", "it is bound to the beginning");
        call.target.model = "claude-opus-5-5".into();
        assert_eq!(sent(&call, false)["messages"][1]["content"][0]["type"], "text");
    }
}
