//! Requests of Converse. All fields are borrowed, so a conversation is not copied to be sent.

use std::borrow::Cow;

use agentry_core::agent::{CacheKeep, ToolChoice};
use agentry_core::chat::{Message, NativePart, ToolCall, ToolDefinition};
use agentry_core::models::Caching;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::Call;
use crate::anthropic::{ANSWER_DESCRIPTION, output_config, thinking};
use crate::wire::{
    ANSWER_TOOL, AnswerBy, Fields, OwnParts, Turn, answer_by, in_words, object_or_empty, offered, shown, turns, wire_id,
};

/// Longest id of a call that Converse accepts, in bytes.
const MAX_CALL_ID_BYTES: usize = 64;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    #[serde(skip_serializing_if = "Fields::is_empty")]
    inference_config: Fields<4>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Fields::is_empty")]
    additional_model_request_fields: Fields<3>,
    request_metadata: Metadata,
}

#[derive(Serialize)]
struct Text<'a> {
    text: &'a str,
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
#[serde(untagged)]
enum Block<'a> {
    Own(OwnBlock<'a>),
    Opaque(&'a Value),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum OwnBlock<'a> {
    Text(Cow<'a, str>),
    #[serde(rename_all = "camelCase")]
    ToolUse {
        tool_use_id: Cow<'a, str>,
        name: &'a str,
        input: &'a RawValue,
    },
    #[serde(rename_all = "camelCase")]
    ToolResult {
        tool_use_id: Cow<'a, str>,
        content: [Text<'a>; 1],
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<&'static str>,
    },
    CachePoint {
        r#type: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        ttl: Option<&'static str>,
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
    Auto {},
    Any {},
    Tool { name: &'static str },
}

/// Builds the request body; the path says whether it streams.
pub(super) fn body(call: &Call) -> Result<Vec<u8>, serde_json::Error> {
    let (system, turns) = turns(&call.request.messages);
    let (offered, own) = (offered(call), OwnParts::of(call));
    let mut system: Vec<Block<'_>> = system.into_iter().map(text).collect();
    let mut tools: Vec<WireTool<'_>> = offered.iter().map(|one| tool(one)).collect();
    let mut tool_choice = match call.params.tool_choice {
        Some(ToolChoice::Auto) => Some(Choice::Auto {}),
        Some(ToolChoice::Required) => Some(Choice::Any {}),
        None | Some(ToolChoice::None) => None,
    };
    let words = match answer_by(call) {
        AnswerBy::Text => None,
        AnswerBy::Tool(schema) => {
            tool_choice = Some(if tools.is_empty() { Choice::Tool { name: ANSWER_TOOL } } else { Choice::Any {} });
            tools.push(spec(ANSWER_TOOL, ANSWER_DESCRIPTION, schema));
            None
        }
        // Which models of Converse hold an answer to a schema is not documented.
        AnswerBy::Schema(schema) => Some(in_words(&schema)),
        AnswerBy::Words(words) => Some(words),
    };
    system.extend(words.map(|words| Block::Own(OwnBlock::Text(words.into()))));
    let mut messages: Vec<WireMessage<'_>> = turns.iter().map(|turn| message(&own, turn)).collect();
    if let Some(ttl) = cache_ttl(call) {
        let point = || Block::Own(OwnBlock::CachePoint { r#type: "default", ttl });
        if !system.is_empty() {
            system.push(point());
        }
        if let Some(last) = messages.last_mut() {
            last.content.push(point());
        }
    }
    let params = &call.params;
    let request = Request {
        messages,
        system,
        inference_config: Fields([
            ("maxTokens", params.max_tokens.into()),
            ("temperature", params.temperature.into()),
            ("topP", params.top_p.into()),
            ("stopSequences", json!(params.stop_sequences)),
        ]),
        tool_config: (!tools.is_empty()).then_some(ToolConfig { tools, tool_choice }),
        additional_model_request_fields: Fields([
            ("top_k", params.top_k.into()),
            ("thinking", thinking(call)),
            ("output_config", output_config(call, Value::Null)),
        ]),
        request_metadata: Metadata { agentry_call: call.id.to_string() },
    };
    serde_json::to_vec(&request)
}

/// Returns the time that prefixes are kept, inside; `None` when the model has no cache that is asked for.
fn cache_ttl(call: &Call) -> Option<Option<&'static str>> {
    match (call.traits.caching, call.params.cache) {
        (Caching::Breakpoints, CacheKeep::Auto) => Some(None),
        (Caching::Breakpoints, CacheKeep::Hour) => Some(Some("1h")),
        _ => None,
    }
}

fn tool(tool: &ToolDefinition) -> WireTool<'_> {
    spec(&tool.name, &tool.description, Cow::Borrowed(&tool.parameters))
}

fn spec<'a>(name: &'a str, description: &'a str, json: Cow<'a, Value>) -> WireTool<'a> {
    WireTool { tool_spec: ToolSpec { name, description, input_schema: Schema { json } } }
}

fn message<'a>(own: &OwnParts<'_>, turn: &Turn<'a>) -> WireMessage<'a> {
    let mut content = Vec::with_capacity(turn.messages.len());
    for message in &turn.messages {
        match message {
            Message::System { content: words } | Message::User { content: words } => content.push(text(words)),
            Message::Assistant { content: words, tool_calls, native } => match own.parts(native.as_deref()) {
                Some(parts) => content.extend(parts.iter().filter_map(|part| match part {
                    NativePart::Opaque { block } => Some(Block::Opaque(block)),
                    NativePart::Text { text: words, .. } => (!words.trim().is_empty()).then(|| text(words)),
                    NativePart::Call { index, .. } => tool_calls.get(*index).map(tool_use),
                })),
                None => {
                    if !words.trim().is_empty() {
                        content.push(text(words));
                    }
                    content.extend(tool_calls.iter().map(tool_use));
                }
            },
            Message::Tool { call_id, content: words, is_error } => content.push(Block::Own(OwnBlock::ToolResult {
                tool_use_id: wire_id(call_id, MAX_CALL_ID_BYTES),
                content: [Text { text: shown(words) }],
                status: is_error.then_some("error"),
            })),
        }
    }
    WireMessage { role: if turn.is_assistant { "assistant" } else { "user" }, content }
}

fn text(words: &str) -> Block<'_> {
    Block::Own(OwnBlock::Text(Cow::Borrowed(shown(words))))
}

fn tool_use(call: &ToolCall) -> Block<'_> {
    Block::Own(OwnBlock::ToolUse {
        tool_use_id: wire_id(&call.id, MAX_CALL_ID_BYTES),
        name: &call.name,
        input: object_or_empty(&call.arguments),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_call::call;
    use agentry_core::agent::SamplingParams;

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
                native: None,
            },
            Message::Tool { call_id: "t1".into(), content: "found".into(), is_error: false },
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
        call.target.provider = agentry_core::agent::ProviderKind::Bedrock;
        let mut call = crate::test_call::modern(call, "sim-small");
        call.request.output_schema = Some(json!({"type": "array"}));
        let config = &sent(&call)["toolConfig"];
        assert_eq!(config["toolChoice"], json!({"tool": {"name": ANSWER_TOOL}}));
        let schema = &config["tools"][0]["toolSpec"]["inputSchema"]["json"];
        assert_eq!(schema["properties"]["answer"], json!({"type": "array"}));
    }
}
