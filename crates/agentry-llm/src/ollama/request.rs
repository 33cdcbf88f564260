//! Requests of Ollama's chat API. All fields are borrowed, so a conversation is not copied to be sent.

use std::borrow::Cow;

use agentry_core::agent::SamplingParams;
use agentry_core::chat::{Message, ToolDefinition};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::Call;
use crate::wire::{Fields, Form, form, object_or_empty};

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Function<WireTool<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Cow<'a, Value>>,
    #[serde(skip_serializing_if = "Fields::is_empty")]
    options: Fields<8>,
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
    let mut sent: Vec<WireMessage<'_>> =
        messages.iter().enumerate().map(|(at, one)| message(one, &messages[..at])).collect();
    let format = match form(call) {
        Form::Text => None,
        Form::Schema(schema) if call.request.tools.is_empty() => Some(schema),
        Form::Schema(schema) => {
            let text = format!("Answer with nothing but JSON that fits this schema: {schema}");
            let at = sent.iter().take_while(|message| message.role == "system").count();
            sent.insert(at, text_message("system", Cow::Owned(text)));
            None
        }
    };
    let request = Request {
        model: &call.target.model,
        messages: sent,
        tools: call.request.tools.iter().map(tool).collect(),
        format,
        options: options(&call.params),
        stream,
    };
    serde_json::to_vec(&request)
}

fn text_message<'a>(role: &'static str, content: Cow<'a, str>) -> WireMessage<'a> {
    WireMessage { role, content, tool_calls: Vec::new(), tool_name: None }
}

fn message<'a>(message: &'a Message, before: &'a [Message]) -> WireMessage<'a> {
    let content = Cow::Borrowed(message.content());
    match message {
        Message::System { .. } => text_message("system", content),
        Message::User { .. } => text_message("user", content),
        Message::Assistant { tool_calls, .. } => {
            let tool_call = |call: &'a agentry_core::chat::ToolCall| WireToolCall {
                function: WireCall { name: &call.name, arguments: object_or_empty(&call.arguments) },
            };
            WireMessage { tool_calls: tool_calls.iter().map(tool_call).collect(), ..text_message("assistant", content) }
        }
        Message::Tool { call_id, .. } => {
            WireMessage { tool_name: name_of(call_id, before), ..text_message("tool", content) }
        }
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

fn options(params: &SamplingParams) -> Fields<8> {
    Fields([
        ("temperature", params.temperature.into()),
        ("num_predict", params.max_tokens.into()),
        ("top_p", params.top_p.into()),
        ("top_k", params.top_k.into()),
        ("stop", json!(params.stop_sequences)),
        ("frequency_penalty", params.frequency_penalty.into()),
        ("presence_penalty", params.presence_penalty.into()),
        ("seed", params.seed.into()),
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
            },
            Message::Tool { call_id: "t1".into(), content: "found".into() },
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
