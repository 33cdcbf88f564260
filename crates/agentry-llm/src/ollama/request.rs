//! A call as Ollama's chat endpoint takes it. Everything is borrowed: a history is not copied to be sent.

use std::borrow::Cow;

use agentry_core::agent::SamplingParams;
use agentry_core::chat::{Message, ToolDefinition};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::Call;
use crate::wire::{Form, form, object_or_empty};

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Function<WireTool<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Cow<'a, Value>>,
    #[serde(skip_serializing_if = "Options::is_empty")]
    options: Options<'a>,
    // Streams unless told not to.
    stream: bool,
}

#[derive(Serialize)]
struct WireMessage<'a> {
    role: &'static str,
    content: Cow<'a, str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Called<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_name: Option<&'a str>,
}

#[derive(Serialize)]
struct Called<'a> {
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

#[derive(Serialize, PartialEq, Default)]
struct Options<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_predict: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop: &'a [Box<str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
}

impl Options<'_> {
    fn is_empty(&self) -> bool {
        *self == Options::default()
    }
}

/// The body of a request. `format` holds the whole answer to a schema, so that a model could no longer call a tool:
/// where there are tools, the schema is said instead.
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
            sent.insert(at, said("system", Cow::Owned(text)));
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

fn said<'a>(role: &'static str, content: Cow<'a, str>) -> WireMessage<'a> {
    WireMessage { role, content, tool_calls: Vec::new(), tool_name: None }
}

fn message<'a>(message: &'a Message, before: &'a [Message]) -> WireMessage<'a> {
    let content = Cow::Borrowed(message.content());
    match message {
        Message::System { .. } => said("system", content),
        Message::User { .. } => said("user", content),
        Message::Assistant { tool_calls, .. } => {
            let called = |call: &'a agentry_core::chat::ToolCall| Called {
                function: WireCall { name: &call.name, arguments: object_or_empty(&call.arguments) },
            };
            WireMessage { tool_calls: tool_calls.iter().map(called).collect(), ..said("assistant", content) }
        }
        Message::Tool { call_id, .. } => WireMessage { tool_name: name_of(call_id, before), ..said("tool", content) },
    }
}

/// The tool that a result is of: Ollama knows calls by name.
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

fn options(params: &SamplingParams) -> Options<'_> {
    Options {
        temperature: params.temperature,
        num_predict: params.max_tokens,
        top_p: params.top_p,
        top_k: params.top_k,
        stop: &params.stop_sequences,
        frequency_penalty: params.frequency_penalty,
        presence_penalty: params.presence_penalty,
        seed: params.seed,
    }
}

#[cfg(test)]
mod tests {
    use agentry_core::chat::ToolCall;
    use serde_json::json;

    use super::*;
    use crate::test_call::call;

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
