//! A call as OpenAI's chat completions endpoint takes it. Everything is borrowed: a history is not copied to be sent.

use agentry_core::agent::SamplingParams;
use agentry_core::chat::{Message, ToolCall, ToolDefinition};
use serde::Serialize;
use serde_json::Value;

use crate::Call;

/// Longest name of a schema that the API takes, in bytes.
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
    params: WireParams<'a>,
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

/// `{"type": "function", "function": …}`, with an id where it is a call.
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

/// `top_k` is not OpenAI's own; compatible servers take it, and it is sent only when an agent's file sets it.
#[derive(Serialize)]
struct WireParams<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
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

/// The body of a request. OpenAI's newer models refuse `max_tokens`, most compatible servers know nothing else:
/// `own_host` says which name the limit gets.
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

/// The schema's title, as far as the API takes its characters.
fn schema_name(schema: &Value) -> String {
    let title = schema.get("title").and_then(Value::as_str).unwrap_or_default();
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = title.chars().map(fits).take(MAX_SCHEMA_NAME_BYTES).collect();
    if name.is_empty() { "answer".to_owned() } else { name }
}

/// Whether the API accepts the schema as `strict`: every object closed, and every property of it required
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

fn params(params: &SamplingParams, own_host: bool) -> WireParams<'_> {
    WireParams {
        temperature: params.temperature,
        max_tokens: params.max_tokens.filter(|_| !own_host),
        max_completion_tokens: params.max_tokens.filter(|_| own_host),
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
    use serde_json::json;

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
