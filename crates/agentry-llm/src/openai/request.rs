//! Requests of OpenAI's chat completions. All fields are borrowed, so a conversation is not copied to be sent.

use agentry_core::agent::SamplingParams;
use agentry_core::chat::{Message, ToolCall, ToolDefinition};
use serde::Serialize;
use serde_json::{Value, json};

use crate::Call;
use crate::wire::Fields;

/// Longest schema name that the API accepts, in bytes.
const MAX_SCHEMA_NAME_BYTES: usize = 64;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Function<'a, WireTool<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(flatten)]
    params: Fields<8>,
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
    },
    Tool {
        tool_call_id: &'a str,
        content: &'a str,
    },
}

/// `{"type": "function", "function": …}`; calls also have an id.
#[derive(Serialize)]
struct Function<'a, T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    r#type: &'static str,
    function: T,
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
    Schema { r#type: &'static str, json_schema: NamedSchema<'a> },
}

#[derive(Serialize)]
struct NamedSchema<'a> {
    name: String,
    schema: &'a Value,
    strict: bool,
}

/// Builds the request body. OpenAI's newer models refuse `max_tokens`, while most compatible servers know only that
/// name.
pub(super) fn body(call: &Call, stream: bool, own_host: bool) -> Result<Vec<u8>, serde_json::Error> {
    let request = Request {
        model: &call.target.model,
        messages: call.request.messages.iter().map(message).collect(),
        tools: call.request.tools.iter().map(tool).collect(),
        response_format: response_format(call),
        params: params(&call.params, own_host),
        stream: stream.then_some(true),
        stream_options: stream.then_some(StreamOptions { include_usage: true }),
    };
    serde_json::to_vec(&request)
}

fn message(message: &Message) -> WireMessage<'_> {
    match message {
        Message::System { content } => WireMessage::System { content },
        Message::User { content } => WireMessage::User { content },
        Message::Assistant { content, tool_calls } => WireMessage::Assistant {
            content: (!content.is_empty() || tool_calls.is_empty()).then_some(content),
            tool_calls: tool_calls.iter().map(tool_call).collect(),
        },
        Message::Tool { call_id, content } => WireMessage::Tool { tool_call_id: call_id, content },
    }
}

fn tool_call(call: &ToolCall) -> Function<'_, WireCall<'_>> {
    let function = WireCall { name: &call.name, arguments: &call.arguments };
    Function { id: Some(&call.id), r#type: "function", function }
}

fn tool(tool: &ToolDefinition) -> Function<'_, WireTool<'_>> {
    let function = WireTool { name: &tool.name, description: &tool.description, parameters: &tool.parameters };
    Function { id: None, r#type: "function", function }
}

fn response_format(call: &Call) -> Option<ResponseFormat<'_>> {
    if let Some(given) = &call.response_format {
        return Some(ResponseFormat::Given(given));
    }
    let schema = call.request.output_schema.as_ref()?;
    let json_schema = NamedSchema { name: schema_name(schema), schema, strict: is_strict(schema) };
    Some(ResponseFormat::Schema { r#type: "json_schema", json_schema })
}

/// Returns the schema's title with the characters that the API accepts.
fn schema_name(schema: &Value) -> String {
    let title = schema.get("title").and_then(Value::as_str).unwrap_or_default();
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = title.chars().map(fits).take(MAX_SCHEMA_NAME_BYTES).collect();
    if name.is_empty() { "answer".to_owned() } else { name }
}

/// Returns true when the API accepts the schema as `strict`: every object is closed and all its properties are required
/// (OpenAI, "Structured outputs", supported schemas).
fn is_strict(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            let closed = match fields.get("properties").and_then(Value::as_object) {
                None => fields.get("type").and_then(Value::as_str) != Some("object"),
                Some(properties) => {
                    let required = fields.get("required").and_then(Value::as_array);
                    let is_required = |name: &String| required.is_some_and(|all| all.iter().any(|one| one == name));
                    fields.get("additionalProperties") == Some(&Value::Bool(false))
                        && properties.keys().all(is_required)
                }
            };
            closed && fields.values().all(is_strict)
        }
        Value::Array(items) => items.iter().all(is_strict),
        _ => true,
    }
}

/// Returns the sampling parameters. `top_k` is an extension of compatible servers, and is sent only when an agent file
/// sets it.
fn params(params: &SamplingParams, own_host: bool) -> Fields<8> {
    Fields([
        ("temperature", params.temperature.into()),
        (if own_host { "max_completion_tokens" } else { "max_tokens" }, params.max_tokens.into()),
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
            },
            Message::Tool { call_id: "c1".into(), content: "found".into() },
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

    #[test]
    fn only_closed_schemas_are_strict() {
        assert!(!is_strict(&json!({"type": "object"})));
        assert!(!is_strict(&json!({"type": "object", "properties": {"a": {}}, "additionalProperties": false})));
        let open_inside = json!({"type": "array", "items": {"type": "object", "properties": {"a": {}}}});
        assert!(!is_strict(&open_inside));
    }
}
