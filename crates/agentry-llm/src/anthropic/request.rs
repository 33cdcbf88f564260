//! Requests of Anthropic's Messages API. All fields are borrowed, so a conversation is not copied to be sent.

use agentry_core::chat::{Message, ToolDefinition};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::Call;
use crate::wire::{ANSWER_TOOL, AnswerSchema, Fields, Form, Turn, form, object_or_empty, turns};

/// Answer limit of agents that set none; the protocol requires one.
pub(crate) const DEFAULT_MAX_TOKENS: u32 = 4_096;
/// Description of the tool whose arguments are the answer.
pub(crate) const ANSWER_DESCRIPTION: &str =
    "Gives the final answer. Call it once, when nothing else is left to be done.";

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    max_tokens: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    system: String,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice>,
    #[serde(flatten)]
    params: Fields<5>,
}

#[derive(Serialize)]
struct WireMessage<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text { text: &'a str },
    ToolUse { id: &'a str, name: &'a str, input: &'a RawValue },
    ToolResult { tool_use_id: &'a str, content: &'a str },
}

#[derive(Serialize)]
struct WireTool<'a> {
    name: &'a str,
    description: &'a str,
    input_schema: Schema<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Schema<'a> {
    Given(&'a Value),
    Answer(AnswerSchema<'a>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Choice {
    Any,
    Tool { name: &'static str },
}

/// Builds the request body. Structured output is requested as the arguments of a tool, which the model must call: at
/// once, or after it is done with the agent's own tools.
pub(super) fn body(call: &Call, stream: bool) -> Result<Vec<u8>, serde_json::Error> {
    let (system, turns) = turns(&call.request.messages);
    let mut tools: Vec<WireTool<'_>> = call.request.tools.iter().map(tool).collect();
    let tool_choice = match form(call) {
        Form::Text => None,
        Form::Schema(schema) => {
            let choice = if tools.is_empty() { Choice::Tool { name: ANSWER_TOOL } } else { Choice::Any };
            let input_schema = Schema::Answer(AnswerSchema::new(schema));
            tools.push(WireTool { name: ANSWER_TOOL, description: ANSWER_DESCRIPTION, input_schema });
            Some(choice)
        }
    };
    let request = Request {
        model: &call.target.model,
        max_tokens: call.params.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS),
        system: system.join("\n\n"),
        messages: turns.iter().map(message).collect(),
        tools,
        tool_choice,
        params: Fields([
            ("temperature", call.params.temperature.into()),
            ("top_p", call.params.top_p.into()),
            ("top_k", call.params.top_k.into()),
            ("stop_sequences", json!(call.params.stop_sequences)),
            ("stream", stream.then_some(true).into()),
        ]),
    };
    serde_json::to_vec(&request)
}

fn tool(tool: &ToolDefinition) -> WireTool<'_> {
    WireTool { name: &tool.name, description: &tool.description, input_schema: Schema::Given(&tool.parameters) }
}

fn message<'a>(turn: &Turn<'a>) -> WireMessage<'a> {
    let mut content = Vec::with_capacity(turn.messages.len());
    for message in &turn.messages {
        match message {
            Message::System { content: text } | Message::User { content: text } => content.push(Block::Text { text }),
            Message::Assistant { content: text, tool_calls } => {
                if !text.is_empty() {
                    content.push(Block::Text { text });
                }
                content.extend(tool_calls.iter().map(|call| Block::ToolUse {
                    id: &call.id,
                    name: &call.name,
                    input: object_or_empty(&call.arguments),
                }));
            }
            Message::Tool { call_id, content: text } => {
                content.push(Block::ToolResult { tool_use_id: call_id, content: text });
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
            },
            Message::Tool { call_id: "t1".into(), content: "found".into() },
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
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "found"},
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
}
