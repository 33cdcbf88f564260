//! Requests of Ollama's chat API. All fields are borrowed, so a conversation is not copied to be sent.

use std::borrow::Cow;

use agentry_core::agent::{Effort, SamplingParams};
use agentry_core::chat::{Message, NativePart, ToolDefinition};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::Call;
use crate::wire::{Fields, Form, OwnParts, form, in_words, object_or_empty, offered, shown};

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Function<WireTool<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Cow<'a, Value>>,
    #[serde(skip_serializing_if = "Fields::is_empty")]
    options: Fields<9>,
    #[serde(flatten)]
    more: Fields<2>,
    // Always sent, because Ollama streams by default.
    stream: bool,
}

#[derive(Serialize)]
struct WireMessage<'a> {
    role: &'static str,
    content: Cow<'a, str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<WireToolCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_name: Option<&'a str>,
    /// Thinking as it came.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    extra: Option<&'a Value>,
}

#[derive(Serialize)]
struct WireToolCall<'a> {
    function: WireCall<'a>,
}

#[derive(Serialize)]
struct WireCall<'a> {
    name: &'a str,
    arguments: &'a RawValue,
}

#[derive(Serialize)]
struct Function<T> {
    r#type: &'static str,
    function: T,
}

#[derive(Serialize)]
struct WireTool<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a Value,
}

/// Builds the request body. `format` constrains the whole answer, so that the model could not call a tool any more:
/// with tools, the schema is part of the system prompt instead.
pub(super) fn body(call: &Call, stream: bool) -> Result<Vec<u8>, serde_json::Error> {
    let messages = &call.request.messages;
    let (offered, own) = (offered(call), OwnParts::of(call));
    let mut sent: Vec<WireMessage<'_>> =
        messages.iter().enumerate().filter_map(|(at, one)| message(&own, one, &messages[..at])).collect();
    let format = match form(call) {
        Form::Text => None,
        Form::Schema(schema) if call.request.tools.is_empty() => Some(schema),
        Form::Schema(schema) => {
            let at = sent.iter().take_while(|message| message.role == "system").count();
            sent.insert(at, text_message("system", Cow::Owned(in_words(&schema))));
            None
        }
    };
    let request = Request {
        model: &call.target.model,
        messages: sent,
        tools: offered.iter().map(|one| tool(one)).collect(),
        format,
        options: options(&call.params),
        more: Fields([("think", think(call)), ("keep_alive", call.params.keep_alive.as_deref().into())]),
        stream,
    };
    serde_json::to_vec(&request)
}

fn text_message<'a>(role: &'static str, content: Cow<'a, str>) -> WireMessage<'a> {
    WireMessage { role, content, tool_calls: Vec::new(), tool_name: None, extra: None }
}

fn message<'a>(own: &OwnParts<'_>, message: &'a Message, before: &'a [Message]) -> Option<WireMessage<'a>> {
    Some(match message {
        Message::System { content } => text_message("system", Cow::Borrowed(content)),
        Message::User { content } => text_message("user", Cow::Borrowed(shown(content))),
        Message::Assistant { content, tool_calls, native } => {
            if content.trim().is_empty() && tool_calls.is_empty() {
                return None;
            }
            let tool_call = |call: &'a agentry_core::chat::ToolCall| WireToolCall {
                function: WireCall { name: &call.name, arguments: object_or_empty(&call.arguments) },
            };
            let extra = own.parts(native.as_deref()).unwrap_or_default().iter().find_map(|part| match part {
                NativePart::Opaque { block } => Some(block),
                _ => None,
            });
            let tool_calls = tool_calls.iter().map(tool_call).collect();
            WireMessage { tool_calls, extra, ..text_message("assistant", Cow::Borrowed(content)) }
        }
        Message::Tool { call_id, content, .. } => {
            WireMessage { tool_name: name_of(call_id, before), ..text_message("tool", Cow::Borrowed(shown(content))) }
        }
    })
}

/// Returns whether and how hard the model thinks; nothing is sent when the agent's file says nothing.
fn think(call: &Call) -> Value {
    let Some(effort) = call.params.reasoning else { return Value::Null };
    // Other models only think or do not (Ollama, "Thinking").
    if !call.target.model.contains("gpt-oss") {
        return (effort != Effort::None).into();
    }
    match effort {
        Effort::None => false.into(),
        Effort::Minimal | Effort::Low => "low".into(),
        Effort::Medium => "medium".into(),
        Effort::High | Effort::Xhigh | Effort::Max => "high".into(),
    }
}

/// Returns the name of the tool whose result this is, because Ollama identifies calls by name.
fn name_of<'a>(call_id: &str, before: &'a [Message]) -> Option<&'a str> {
    before.iter().rev().find_map(|message| match message {
        Message::Assistant { tool_calls, .. } => {
            tool_calls.iter().find(|call| call.id == call_id).map(|call| call.name.as_str())
        }
        _ => None,
    })
}

fn tool(tool: &ToolDefinition) -> Function<WireTool<'_>> {
    let function = WireTool { name: &tool.name, description: &tool.description, parameters: &tool.parameters };
    Function { r#type: "function", function }
}

fn options(params: &SamplingParams) -> Fields<9> {
    Fields([
        ("temperature", params.temperature.into()),
        ("num_predict", params.max_tokens.into()),
        ("top_p", params.top_p.into()),
        ("top_k", params.top_k.into()),
        ("stop", json!(params.stop_sequences)),
        ("frequency_penalty", params.frequency_penalty.into()),
        ("presence_penalty", params.presence_penalty.into()),
        ("seed", params.seed.into()),
        ("num_ctx", params.num_ctx.into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_call::call;
    use agentry_core::chat::ToolCall;

    fn sent(call: &Call) -> Value {
        serde_json::from_slice(&body(call, false).unwrap()).unwrap()
    }

    #[test]
    fn a_conversation_with_tools_is_written_as_the_api_takes_it() {
        let mut call = call("");
        call.request.messages = vec![
            Message::User { content: "u".into() },
            Message::Assistant {
                content: String::new(),
                tool_calls: vec![ToolCall { id: "t1".into(), name: "find".into(), arguments: r#"{"q":1}"#.into() }],
                native: None,
            },
            Message::Tool { call_id: "t1".into(), content: "found".into(), is_error: false },
        ];
        call.request.tools =
            vec![ToolDefinition { name: "find".into(), description: "Finds.".into(), parameters: json!({}) }];
        call.params = SamplingParams { max_tokens: Some(9), seed: Some(3), ..SamplingParams::default() };
        let expected = json!({
            "model": "sim-small", "stream": false,
            "messages": [
                {"role": "user", "content": "u"},
                {"role": "assistant", "content": "",
                    "tool_calls": [{"function": {"name": "find", "arguments": {"q": 1}}}]},
                {"role": "tool", "content": "found", "tool_name": "find"}
            ],
            "tools": [{"type": "function",
                "function": {"name": "find", "description": "Finds.", "parameters": {}}}],
            "options": {"num_predict": 9, "seed": 3}
        });
        assert_eq!(sent(&call), expected);
    }

    #[test]
    fn a_form_is_held_to_unless_tools_must_stay_possible() {
        let mut call = call("");
        let schema = json!({"type": "object", "title": "t"});
        call.request.output_schema = Some(schema.clone());
        assert_eq!(sent(&call)["format"], schema);
        call.request.tools = vec![ToolDefinition { name: "f".into(), description: "f".into(), parameters: json!({}) }];
        let body = sent(&call);
        assert!(body.get("format").is_none() && body["messages"][0]["content"].as_str().unwrap().contains("\"title\""));
    }
}
