//! Requests of OpenAI's Responses API. Nothing is kept at OpenAI (`store: false`): every item goes back, encrypted
//! reasoning too. All fields are borrowed, so a conversation is not copied to be sent.

use std::borrow::Cow;

use agentry_core::chat::{Message, NativePart, ToolCall, ToolDefinition};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::schema::named_schema;
use crate::Call;
use crate::wire::{Fields, Form, OwnParts, form, offered, shown, wire_id};

/// Longest id of a call that the API accepts, in bytes.
const MAX_CALL_ID_BYTES: usize = 64;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    instructions: String,
    input: Vec<Item<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Text::is_empty")]
    text: Text<'a>,
    store: bool,
    #[serde(flatten)]
    params: Fields<10>,
}

#[derive(Serialize)]
struct Text<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Cow<'a, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbosity: Option<&'static str>,
}

impl Text<'_> {
    fn is_empty(&self) -> bool {
        self.format.is_none() && self.verbosity.is_none()
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Item<'a> {
    Message {
        role: &'static str,
        content: &'a str,
        #[serde(flatten, skip_serializing_if = "Option::is_none")]
        extra: Option<&'a Map<String, Value>>,
    },
    Call {
        r#type: &'static str,
        call_id: Cow<'a, str>,
        name: &'a str,
        arguments: &'a str,
        #[serde(flatten, skip_serializing_if = "Option::is_none")]
        extra: Option<&'a Map<String, Value>>,
    },
    Output {
        r#type: &'static str,
        call_id: Cow<'a, str>,
        output: &'a str,
    },
    Opaque(&'a Value),
}

#[derive(Serialize)]
struct Tool<'a> {
    r#type: &'static str,
    name: &'a str,
    description: &'a str,
    parameters: &'a Value,
    // Otherwise the API makes every parameter required.
    strict: bool,
}

/// Builds the request body.
pub(super) fn body(call: &Call, stream: bool) -> Result<Vec<u8>, serde_json::Error> {
    let own = OwnParts::of(call);
    let (mut system, mut input) = (Vec::new(), Vec::new());
    for message in &call.request.messages {
        match message {
            Message::System { content } => system.push(content.as_str()),
            other => items(&own, other, &mut input),
        }
    }
    let offered = offered(call);
    let params = &call.params;
    let reasons = !call.traits.efforts.is_empty();
    let request = Request {
        model: &call.target.model,
        instructions: system.join("\n\n"),
        input,
        tools: offered.iter().map(|one| tool(one)).collect(),
        text: Text { format: format(call), verbosity: params.verbosity.map(|verbosity| verbosity.as_str()) },
        store: false,
        params: Fields([
            ("temperature", params.temperature.into()),
            ("top_p", params.top_p.into()),
            ("max_output_tokens", params.max_tokens.into()),
            ("reasoning", params.reasoning.map_or(Value::Null, |effort| json!({"effort": effort}))),
            ("include", if reasons { json!(["reasoning.encrypted_content"]) } else { Value::Null }),
            ("tool_choice", params.tool_choice.map(|choice| choice.as_str()).into()),
            ("parallel_tool_calls", params.parallel_tool_calls.into()),
            ("service_tier", params.service_tier.as_deref().into()),
            ("prompt_cache_key", call.agent.as_str().into()),
            ("stream", stream.then_some(true).into()),
        ]),
    };
    serde_json::to_vec(&request)
}

fn items<'a>(own: &OwnParts<'_>, message: &'a Message, input: &mut Vec<Item<'a>>) {
    match message {
        Message::System { .. } => {}
        Message::User { content } => input.push(said("user", shown(content), None)),
        Message::Tool { call_id, content, .. } => input.push(Item::Output {
            r#type: "function_call_output",
            call_id: wire_id(call_id, MAX_CALL_ID_BYTES),
            output: shown(content),
        }),
        Message::Assistant { content, tool_calls, native } => match own.parts(native.as_deref()) {
            Some(parts) => input.extend(parts.iter().filter_map(|part| match part {
                NativePart::Opaque { block } => Some(Item::Opaque(block)),
                NativePart::Text { text, extra } if !text.trim().is_empty() => {
                    Some(said("assistant", text, Some(extra)))
                }
                NativePart::Text { .. } => None,
                NativePart::Call { index, extra } => tool_calls.get(*index).map(|one| request_of(one, Some(extra))),
            })),
            None => {
                if !content.trim().is_empty() {
                    input.push(said("assistant", content, None));
                }
                input.extend(tool_calls.iter().map(|one| request_of(one, None)));
            }
        },
    }
}

fn said<'a>(role: &'static str, content: &'a str, extra: Option<&'a Map<String, Value>>) -> Item<'a> {
    Item::Message { role, content, extra }
}

fn request_of<'a>(call: &'a ToolCall, extra: Option<&'a Map<String, Value>>) -> Item<'a> {
    Item::Call {
        r#type: "function_call",
        call_id: wire_id(&call.id, MAX_CALL_ID_BYTES),
        name: &call.name,
        arguments: &call.arguments,
        extra,
    }
}

fn tool(tool: &ToolDefinition) -> Tool<'_> {
    Tool {
        r#type: "function",
        name: &tool.name,
        description: &tool.description,
        parameters: &tool.parameters,
        strict: false,
    }
}

/// Returns the form of the answer. Here the fields of `json_schema` stand beside its `type`.
fn format(call: &Call) -> Option<Cow<'_, Value>> {
    match &call.response_format {
        Some(given) => {
            let Some(inner) = given.get("json_schema").and_then(Value::as_object) else {
                return Some(Cow::Borrowed(given));
            };
            let mut flat = inner.clone();
            flat.insert("type".to_owned(), "json_schema".into());
            Some(Cow::Owned(Value::Object(flat)))
        }
        None => match form(call) {
            Form::Text => None,
            Form::Schema(schema) => {
                let mut named = named_schema(schema);
                named.insert("type".to_owned(), "json_schema".into());
                Some(Cow::Owned(Value::Object(named)))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use agentry_core::agent::{Effort, ProviderKind};
    use agentry_core::chat::NativeReply;

    use super::*;
    use crate::test_call::{call, modern};

    fn sent(call: &Call) -> Value {
        serde_json::from_slice(&body(call, true).unwrap()).unwrap()
    }

    #[test]
    fn every_item_goes_back_as_it_came() {
        let mut call = modern(call(""), "gpt-6-luna");
        let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "opaque"});
        let native = NativeReply {
            provider: ProviderKind::Openai,
            model: "gpt-6-luna".into(),
            prefix: 0,
            parts: vec![
                NativePart::Opaque { block: reasoning.clone() },
                NativePart::Text {
                    text: "Looking.".into(),
                    extra: Map::from_iter([("phase".to_owned(), json!("commentary"))]),
                },
                NativePart::Call { index: 0, extra: Map::new() },
            ],
        };
        let asked = Message::Assistant {
            content: "Looking.".into(),
            tool_calls: vec![ToolCall { id: "c1".into(), name: "find".into(), arguments: r#"{"q":1}"#.into() }],
            native: Some(Box::new(native)),
        };
        call.request.messages = vec![
            Message::System { content: "s".into() },
            Message::User { content: "u".into() },
            asked,
            Message::Tool { call_id: "c1".into(), content: " ".into(), is_error: false },
        ];
        call.params.reasoning = Some(Effort::Low);
        call.params.max_tokens = Some(9);
        let plain = json!({"type": "function_call", "call_id": "c1", "name": "find", "arguments": "{\"q\":1}"});
        let expected = json!({
            "model": "gpt-6-luna", "instructions": "s", "store": false, "stream": true,
            "input": [
                {"role": "user", "content": "u"},
                reasoning,
                {"role": "assistant", "content": "Looking.", "phase": "commentary"},
                plain,
                {"type": "function_call_output", "call_id": "c1", "output": "(no text)"}
            ],
            "tools": sent(&call)["tools"],
            "reasoning": {"effort": "low"}, "include": ["reasoning.encrypted_content"], "max_output_tokens": 9,
            "prompt_cache_key": "tester"
        });
        assert_eq!(sent(&call), expected);
        call.target.model = "gpt-6.2-sol".into();
        assert_eq!(sent(&call)["input"][1], json!({"role": "assistant", "content": "Looking."}));
    }

    #[test]
    fn a_form_stands_in_text() {
        let mut call = modern(call(""), "gpt-6-luna");
        call.request.output_schema = Some(json!({"type": "object", "title": "t"}));
        let format = &sent(&call)["text"]["format"];
        assert_eq!(
            (&format["type"], &format["name"], &format["strict"]),
            (&json!("json_schema"), &json!("t"), &json!(false))
        );
    }
}
