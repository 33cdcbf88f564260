//! Requests of Converse. All fields are borrowed, so a conversation is not copied to be sent.

use std::borrow::Cow;

use agentry_core::chat::{Message, ToolDefinition};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::Call;
use crate::anthropic::ANSWER_DESCRIPTION;
use crate::wire::{ANSWER_TOOL, AnswerSchema, Fields, Form, Turn, form, object_or_empty, turns};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Text<'a>>,
    #[serde(skip_serializing_if = "Fields::is_empty")]
    inference_config: Fields<4>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    additional_model_request_fields: Option<Additional>,
    request_metadata: Metadata,
}

#[derive(Serialize)]
struct Text<'a> {
    text: &'a str,
}

/// Parameters that Converse has no field for. Some models refuse them, so they are sent only when an agent file sets
/// them.
#[derive(Serialize)]
struct Additional {
    top_k: u32,
}

/// Appears in the logs of model invocations, where it identifies the call.
#[derive(Serialize)]
struct Metadata {
    agentry_call: String,
}

#[derive(Serialize)]
struct WireMessage<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Block<'a> {
    Text(&'a str),
    #[serde(rename_all = "camelCase")]
    ToolUse {
        tool_use_id: &'a str,
        name: &'a str,
        input: &'a RawValue,
    },
    #[serde(rename_all = "camelCase")]
    ToolResult {
        tool_use_id: &'a str,
        content: [Text<'a>; 1],
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireTool<'a> {
    tool_spec: ToolSpec<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolSpec<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    input_schema: Schema<'a>,
}

#[derive(Serialize)]
struct Schema<'a> {
    json: Cow<'a, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Choice {
    Any {},
    Tool { name: &'static str },
}

/// Builds the request body; the path says whether it streams. Structured output is requested as the arguments of a
/// tool, which the model must call: at once, or after it is done with the agent's own tools.
pub(super) fn body(call: &Call) -> Result<Vec<u8>, serde_json::Error> {
    let (system, turns) = turns(&call.request.messages);
    let mut tools: Vec<WireTool<'_>> = call.request.tools.iter().map(tool).collect();
    let tool_choice = match form(call) {
        Form::Text => None,
        Form::Schema(schema) => {
            let choice = if tools.is_empty() { Choice::Tool { name: ANSWER_TOOL } } else { Choice::Any {} };
            tools.push(spec(ANSWER_TOOL, ANSWER_DESCRIPTION, AnswerSchema::new(schema).into_schema()));
            Some(choice)
        }
    };
    let params = &call.params;
    let request = Request {
        messages: turns.iter().map(message).collect(),
        system: system.into_iter().map(|text| Text { text }).collect(),
        inference_config: Fields([
            ("maxTokens", params.max_tokens.into()),
            ("temperature", params.temperature.into()),
            ("topP", params.top_p.into()),
            ("stopSequences", json!(params.stop_sequences)),
        ]),
        tool_config: (!tools.is_empty()).then_some(ToolConfig { tools, tool_choice }),
        additional_model_request_fields: params.top_k.map(|top_k| Additional { top_k }),
        request_metadata: Metadata { agentry_call: call.id.to_string() },
    };
    serde_json::to_vec(&request)
}

fn tool(tool: &ToolDefinition) -> WireTool<'_> {
    spec(&tool.name, &tool.description, Cow::Borrowed(&tool.parameters))
}

fn spec<'a>(name: &'a str, description: &'a str, json: Cow<'a, Value>) -> WireTool<'a> {
    WireTool { tool_spec: ToolSpec { name, description, input_schema: Schema { json } } }
}

fn message<'a>(turn: &Turn<'a>) -> WireMessage<'a> {
    let mut content = Vec::with_capacity(turn.messages.len());
    for message in &turn.messages {
        match message {
            Message::System { content: text } | Message::User { content: text } => content.push(Block::Text(text)),
            Message::Assistant { content: text, tool_calls } => {
                if !text.is_empty() {
                    content.push(Block::Text(text));
                }
                content.extend(tool_calls.iter().map(|call| Block::ToolUse {
                    tool_use_id: &call.id,
                    name: &call.name,
                    input: object_or_empty(&call.arguments),
                }));
            }
            Message::Tool { call_id, content: text } => {
                content.push(Block::ToolResult { tool_use_id: call_id, content: [Text { text }] });
            }
        }
    }
    WireMessage { role: if turn.is_assistant { "assistant" } else { "user" }, content }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_call::call;
    use agentry_core::agent::SamplingParams;
    use agentry_core::chat::ToolCall;

    fn sent(call: &Call) -> Value {
        serde_json::from_slice(&body(call).unwrap()).unwrap()
    }

    #[test]
    fn a_conversation_with_tools_is_written_as_the_api_takes_it() {
        let mut call = call("");
        call.request.messages = vec![
            Message::System { content: "s".into() },
            Message::User { content: "u".into() },
            Message::Assistant {
                content: String::new(),
                tool_calls: vec![ToolCall { id: "t1".into(), name: "find".into(), arguments: r#"{"q":1}"#.into() }],
            },
            Message::Tool { call_id: "t1".into(), content: "found".into() },
        ];
        call.request.tools =
            vec![ToolDefinition { name: "find".into(), description: String::new(), parameters: json!({"x": 1}) }];
        call.params = SamplingParams { max_tokens: Some(9), top_k: Some(3), ..SamplingParams::default() };
        let expected = json!({
            "system": [{"text": "s"}],
            "messages": [
                {"role": "user", "content": [{"text": "u"}]},
                {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t1", "name": "find", "input": {"q": 1}}}]},
                {"role": "user", "content": [{"toolResult": {"toolUseId": "t1", "content": [{"text": "found"}]}}]}
            ],
            "inferenceConfig": {"maxTokens": 9},
            "toolConfig": {"tools": [{"toolSpec": {"name": "find", "inputSchema": {"json": {"x": 1}}}}]},
            "additionalModelRequestFields": {"top_k": 3},
            "requestMetadata": {"agentry_call": call.id.to_string()}
        });
        assert_eq!(sent(&call), expected);
    }

    #[test]
    fn a_form_is_a_tool_that_must_be_called() {
        let mut call = call("");
        call.request.output_schema = Some(json!({"type": "array"}));
        let config = &sent(&call)["toolConfig"];
        assert_eq!(config["toolChoice"], json!({"tool": {"name": ANSWER_TOOL}}));
        let schema = &config["tools"][0]["toolSpec"]["inputSchema"]["json"];
        assert_eq!(schema["properties"]["answer"], json!({"type": "array"}));
    }
}
