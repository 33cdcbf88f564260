//! Requests of OpenAI's chat completions. All fields are borrowed, so a conversation is not copied to be sent.

use std::borrow::Cow;

use agentry_core::chat::{Message, NativePart, ToolCall, ToolDefinition};
use agentry_core::models::OutputLimit;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::schema::named_schema;
use crate::Call;
use crate::wire::{Fields, Form, OwnParts, form, offered, shown, wire_id};

/// Longest id of a call that the API accepts, in bytes.
const MAX_CALL_ID_BYTES: usize = 40;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Function<'a, WireTool<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(flatten)]
    params: Fields<14>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
enum WireMessage<'a> {
    System {
        content: &'a str,
    },
    User {
        content: &'a str,
    },
    Assistant {
        content: Option<&'a str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<Function<'a, WireCall<'a>>>,
        /// Reasoning as it came.
        #[serde(flatten, skip_serializing_if = "Option::is_none")]
        extra: Option<&'a Value>,
    },
    Tool {
        tool_call_id: Cow<'a, str>,
        content: &'a str,
    },
}

/// `{"type": "function", "function": …}`; calls also have an id.
#[derive(Serialize)]
struct Function<'a, T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Cow<'a, str>>,
    r#type: &'static str,
    function: T,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    extra: Option<&'a Map<String, Value>>,
}

#[derive(Serialize)]
struct WireCall<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
struct WireTool<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a Value,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ResponseFormat<'a> {
    Given(&'a Value),
    Schema { r#type: &'static str, json_schema: Map<String, Value> },
}

/// Builds the request body. OpenAI's newer models refuse `max_tokens`, while most compatible servers know only that
/// name.
pub(super) fn body(call: &Call, stream: bool, own_host: bool) -> Result<Vec<u8>, serde_json::Error> {
    let (offered, own) = (offered(call), OwnParts::of(call));
    let request = Request {
        model: &call.target.model,
        messages: call.request.messages.iter().filter_map(|one| message(&own, one)).collect(),
        tools: offered.iter().map(|one| tool(one)).collect(),
        response_format: response_format(call),
        params: params(call, own_host),
        stream: stream.then_some(true),
        stream_options: stream.then_some(StreamOptions { include_usage: true }),
    };
    serde_json::to_vec(&request)
}

fn message<'a>(own: &OwnParts<'_>, message: &'a Message) -> Option<WireMessage<'a>> {
    Some(match message {
        Message::System { content } => WireMessage::System { content },
        Message::User { content } => WireMessage::User { content: shown(content) },
        Message::Assistant { content, tool_calls, native } => {
            let native = own.parts(native.as_deref()).unwrap_or_default();
            let extra = native.iter().find_map(|part| match part {
                NativePart::Opaque { block } => Some(block),
                _ => None,
            });
            let content = (!content.trim().is_empty()).then_some(content.as_str());
            if content.is_none() && tool_calls.is_empty() {
                return None;
            }
            let tool_calls = (0..).zip(tool_calls).map(|(index, call)| tool_call(call, attached(native, index)));
            WireMessage::Assistant { content, tool_calls: tool_calls.collect(), extra }
        }
        Message::Tool { call_id, content, .. } => {
            WireMessage::Tool { tool_call_id: wire_id(call_id, MAX_CALL_ID_BYTES), content: shown(content) }
        }
    })
}

/// Returns what the provider attached to a call.
fn attached(native: &[NativePart], at: usize) -> Option<&Map<String, Value>> {
    native.iter().find_map(|part| match part {
        NativePart::Call { index, extra } if *index == at => Some(extra),
        _ => None,
    })
}

fn tool_call<'a>(call: &'a ToolCall, extra: Option<&'a Map<String, Value>>) -> Function<'a, WireCall<'a>> {
    let function = WireCall { name: &call.name, arguments: &call.arguments };
    Function { id: Some(wire_id(&call.id, MAX_CALL_ID_BYTES)), r#type: "function", function, extra }
}

fn tool(tool: &ToolDefinition) -> Function<'_, WireTool<'_>> {
    let function = WireTool { name: &tool.name, description: &tool.description, parameters: &tool.parameters };
    Function { id: None, r#type: "function", function, extra: None }
}

fn response_format(call: &Call) -> Option<ResponseFormat<'_>> {
    if let Some(given) = &call.response_format {
        return Some(ResponseFormat::Given(given));
    }
    match form(call) {
        Form::Text => None,
        Form::Schema(schema) => {
            Some(ResponseFormat::Schema { r#type: "json_schema", json_schema: named_schema(schema) })
        }
    }
}

/// Returns the parameters. Those that only OpenAI or only compatible servers know are sent when an agent file sets
/// them.
fn params(call: &Call, own_host: bool) -> Fields<14> {
    let params = &call.params;
    let is_new = own_host || call.traits.limit == OutputLimit::MaxCompletionTokens;
    let limit = if is_new { "max_completion_tokens" } else { "max_tokens" };
    Fields([
        ("temperature", params.temperature.into()),
        (limit, params.max_tokens.into()),
        ("top_p", params.top_p.into()),
        ("top_k", params.top_k.into()),
        ("stop", json!(params.stop_sequences)),
        ("frequency_penalty", params.frequency_penalty.into()),
        ("presence_penalty", params.presence_penalty.into()),
        ("seed", params.seed.into()),
        ("reasoning_effort", params.reasoning.map(|effort| effort.as_str()).into()),
        ("verbosity", params.verbosity.map(|verbosity| verbosity.as_str()).into()),
        ("tool_choice", params.tool_choice.map(|choice| choice.as_str()).into()),
        ("parallel_tool_calls", params.parallel_tool_calls.into()),
        ("service_tier", params.service_tier.as_deref().into()),
        ("prompt_cache_key", own_host.then_some(call.agent.as_str()).into()),
    ])
}

#[cfg(test)]
mod tests {
    use agentry_core::agent::SamplingParams;

    use super::*;
    use crate::test_call::call;

    fn sent(call: &Call, stream: bool, own_host: bool) -> Value {
        serde_json::from_slice(&body(call, stream, own_host).unwrap()).unwrap()
    }

    #[test]
    fn a_conversation_with_tools_is_written_as_the_api_takes_it() {
        let mut call = call("http://localhost/v1");
        call.request.messages = vec![
            Message::System { content: "s".into() },
            Message::User { content: "u".into() },
            Message::Assistant {
                content: String::new(),
                tool_calls: vec![ToolCall { id: "c1".into(), name: "find".into(), arguments: "{}".into() }],
                native: None,
            },
            Message::Tool { call_id: "c1".into(), content: "found".into(), is_error: false },
        ];
        call.request.tools = vec![ToolDefinition {
            name: "find".into(),
            description: "Finds.".into(),
            parameters: json!({"type": "object"}),
        }];
        call.params = SamplingParams {
            temperature: Some(0.5),
            max_tokens: Some(9),
            stop_sequences: vec!["END".into()],
            seed: Some(3),
            ..SamplingParams::default()
        };
        let expected = json!({
            "model": "sim-small",
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "u"},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "found"}
            ],
            "tools": [{"type": "function", "function":
                {"name": "find", "description": "Finds.", "parameters": {"type": "object"}}}],
            "temperature": 0.5, "max_tokens": 9, "stop": ["END"], "seed": 3
        });
        assert_eq!(sent(&call, false, false), expected);
        assert_eq!(sent(&call, false, true)["max_completion_tokens"], 9);
        let streamed = sent(&call, true, false);
        assert_eq!((&streamed["stream"], &streamed["stream_options"]), (&json!(true), &json!({"include_usage": true})));
    }

    #[test]
    fn the_files_response_format_wins_over_the_schema() {
        let mut call = call("http://localhost/v1");
        call.request.output_schema = Some(json!({"title": "A plan!", "type": "object", "properties": {"a": {}},
            "required": ["a"], "additionalProperties": false}));
        let format = &sent(&call, false, false)["response_format"];
        assert_eq!((&format["type"], &format["json_schema"]["name"]), (&json!("json_schema"), &json!("A_plan_")));
        assert_eq!(format["json_schema"]["strict"], true);
        call.response_format = Some(json!({"type": "json_object"}));
        assert_eq!(sent(&call, false, false)["response_format"], json!({"type": "json_object"}));
    }
}
