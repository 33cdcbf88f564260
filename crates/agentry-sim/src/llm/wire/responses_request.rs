//! Requests of OpenAI's Responses, and OpenAI's validation of their form.

use std::borrow::Cow;

use serde_json::Value;

use super::super::prefix::content_chars;
use super::super::prompt::{AnswerForm, Message, Prompt, Role, ToolDemand, ToolOffer};
use super::Refusal;

/// Value of `include` that asks for encrypted reasoning.
const ENCRYPTED: &str = "reasoning.encrypted_content";

pub(super) fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn word<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn missing(param: &str) -> Refusal {
    let text = format!("Missing required parameter: '{param}'.");
    Refusal::bad(text).at(param).with_code("missing_required_parameter")
}

fn invalid(value: &str, supported: &str, param: String) -> Refusal {
    let text = format!("Invalid value: '{value}'. Supported values are: {supported}.");
    Refusal::bad(text).at(param).with_code("invalid_value")
}

pub(super) fn read<'a>(body: &Value) -> Result<Prompt<'a>, Refusal> {
    let model = word(body, "model");
    if model.is_empty() {
        return Err(missing("model"));
    }
    if let Some(id) = body.get("previous_response_id").and_then(Value::as_str) {
        let text = format!("Previous response with id '{id}' not found.");
        return Err(Refusal::bad(text).at("previous_response_id").with_code("previous_response_not_found"));
    }
    let mut messages = Vec::new();
    if let Some(text) = body.get("instructions").and_then(Value::as_str) {
        messages.push(Message { role: Role::System, text: Cow::Owned(text.to_owned()) });
    }
    match body.get("input") {
        Some(Value::String(text)) => messages.push(Message { role: Role::User, text: Cow::Owned(text.clone()) }),
        Some(Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                let message = message(index, item)?;
                // Calls belong to the message of the assistant that they follow, as in the other protocols.
                let is_part = word(item, "type") == "function_call"
                    && messages.last().is_some_and(|last: &Message<'_>| last.role == Role::Assistant);
                messages.extend(message.filter(|_| !is_part));
            }
        }
        _ => return Err(missing("input")),
    }
    let tools = tools(list(body, "tools"))?;
    Ok(Prompt {
        model: Cow::Owned(model.to_owned()),
        messages,
        choice: choice(body.get("tool_choice"), &tools)?,
        tools,
        form: form(body.pointer("/text/format"))?,
        stream: body.get("stream") == Some(&Value::Bool(true)),
        include_usage: true,
        max_tokens: body.get("max_output_tokens").and_then(Value::as_u64),
        thinks: true,
        encrypts: list(body, "include").iter().any(|value| value == ENCRYPTED),
        summarizes: body.pointer("/reasoning/summary").is_some_and(|summary| !summary.is_null()),
        cache_key: body.get("prompt_cache_key").and_then(Value::as_str).map(str::to_owned),
        tier: body.get("service_tier").and_then(Value::as_str).map(str::to_owned),
        ..Prompt::default()
    })
}

/// Returns the message of an item; calls and reasoning are none.
fn message<'a>(index: usize, item: &Value) -> Result<Option<Message<'a>>, Refusal> {
    match word(item, "type") {
        "" | "message" => {
            let role = match word(item, "role") {
                "system" | "developer" => Role::System,
                "user" => Role::User,
                "assistant" => Role::Assistant,
                other => {
                    let supported = "'assistant', 'system', 'developer', and 'user'";
                    return Err(invalid(other, supported, format!("input[{index}].role")));
                }
            };
            parts(index, role, list(item, "content"))?;
            let content = item.get("content").ok_or_else(|| missing(&format!("input[{index}].content")))?;
            Ok(Some(Message { role, text: Cow::Owned(text(content)) }))
        }
        "function_call" => {
            for field in ["call_id", "name", "arguments"] {
                if !item.get(field).is_some_and(Value::is_string) {
                    return Err(missing(&format!("input[{index}].{field}")));
                }
            }
            // A call counts as a message of the assistant without a text, as in the other protocols.
            Ok(Some(Message { role: Role::Assistant, text: Cow::Borrowed("") }))
        }
        "function_call_output" => {
            let output = item.get("output").filter(|output| !output.is_null());
            let output = output.ok_or_else(|| missing(&format!("input[{index}].output")))?;
            Ok(Some(Message { role: Role::Tool, text: Cow::Owned(text(output)) }))
        }
        "item_reference" => {
            let text = format!("Item with id '{}' not found.", word(item, "id"));
            Err(Refusal::new(404, text).at("input"))
        }
        _ => Ok(None),
    }
}

fn parts(index: usize, role: Role, parts: &[Value]) -> Result<(), Refusal> {
    for (at, part) in parts.iter().enumerate() {
        let kind = word(part, "type");
        let (is_known, supported) = if role == Role::Assistant {
            (matches!(kind, "output_text" | "refusal"), "'output_text' and 'refusal'")
        } else {
            let known = matches!(kind, "input_text" | "input_image" | "input_file" | "input_audio");
            (known, "'input_text', 'input_image', 'input_file', and 'input_audio'")
        };
        if !is_known {
            return Err(invalid(kind, supported, format!("input[{index}].content[{at}]")));
        }
    }
    Ok(())
}

fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        content => content.as_array().into_iter().flatten().map(|part| word(part, "text")).collect(),
    }
}

/// Counts the characters of an item that are counted as input.
pub(super) fn item_chars(item: &Value) -> u64 {
    item.get("content").or_else(|| item.get("output")).map_or(0, content_chars)
}

fn tools<'a>(tools: &[Value]) -> Result<Vec<ToolOffer<'a>>, Refusal> {
    let mut offers = Vec::new();
    for (index, tool) in tools.iter().enumerate() {
        match word(tool, "type") {
            "" => return Err(missing(&format!("tools[{index}].type"))),
            "function" if word(tool, "name").is_empty() => return Err(missing(&format!("tools[{index}].name"))),
            "function" => {
                let schema = tool.get("parameters").filter(|schema| !schema.is_null());
                let schema = schema.map(|schema| Cow::Owned(schema.to_string()));
                offers.push(ToolOffer { name: Cow::Owned(word(tool, "name").to_owned()), schema });
            }
            // The provider's own tools are never called here.
            _ => {}
        }
    }
    Ok(offers)
}

fn choice<'a>(choice: Option<&Value>, tools: &[ToolOffer<'_>]) -> Result<ToolDemand<'a>, Refusal> {
    match choice {
        None | Some(Value::Null) => Ok(ToolDemand::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Ok(ToolDemand::Auto),
            "none" => Ok(ToolDemand::Never),
            "required" if tools.is_empty() => {
                Err(Refusal::bad("Tool choice 'required' must be specified with 'tools' parameter.").at("tool_choice"))
            }
            "required" => Ok(ToolDemand::Any),
            other => Err(invalid(other, "'none', 'auto', and 'required'", "tool_choice".to_owned())),
        },
        Some(named) => {
            let name = word(named, "name");
            if tools.iter().any(|tool| tool.name == name) {
                Ok(ToolDemand::Tool(Cow::Owned(name.to_owned())))
            } else {
                Err(Refusal::bad(format!("Tool choice '{name}' not found in 'tools' parameter.")).at("tool_choice"))
            }
        }
    }
}

fn form(format: Option<&Value>) -> Result<AnswerForm, Refusal> {
    let Some(format) = format.filter(|format| !format.is_null()) else { return Ok(AnswerForm::Text) };
    match word(format, "type") {
        "text" => Ok(AnswerForm::Text),
        "json_object" => Ok(AnswerForm::Object),
        "json_schema" if word(format, "name").is_empty() => Err(missing("text.format.name")),
        "json_schema" => {
            format.get("schema").cloned().map(AnswerForm::Schema).ok_or_else(|| missing("text.format.schema"))
        }
        other => Err(invalid(other, "'text', 'json_object', and 'json_schema'", "text.format.type".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_openai_refuses_is_refused() {
        for (body, expected) in [
            (json!({"input": "x"}), "'model'"),
            (json!({"model": "m"}), "'input'"),
            (json!({"model": "m", "input": [{"role": "robot", "content": "x"}]}), "'robot'"),
            (json!({"model": "m", "input": [{"role": "user"}]}), "input[0].content"),
            (
                json!({"model": "m", "input": [{"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}]}),
                "'output_text' and 'refusal'",
            ),
            (
                json!({"model": "m", "input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}),
                "'input_text'",
            ),
            (
                json!({"model": "m", "input": [{"type": "function_call", "call_id": "c", "name": "f"}]}),
                "input[0].arguments",
            ),
            (
                json!({"model": "m", "input": "x", "tools": [{"type": "function", "function": {"name": "f"}}]}),
                "tools[0].name",
            ),
            (json!({"model": "m", "input": "x", "tool_choice": "required"}), "'tools' parameter"),
            (
                json!({"model": "m", "input": "x", "tool_choice": {"type": "function", "name": "f"}}),
                "not found in 'tools'",
            ),
            (
                json!({"model": "m", "input": "x", "text": {"format": {"type": "json_schema", "name": "n"}}}),
                "text.format.schema",
            ),
            (json!({"model": "m", "input": "x", "previous_response_id": "resp_1"}), "'resp_1' not found"),
        ] {
            let message = read(&body).expect_err(&body.to_string()).message;
            assert!(message.contains(expected), "{body}: {message}");
        }
    }

    #[test]
    fn items_become_messages() {
        let body = json!({"model": "m", "instructions": "S", "stream": true, "include": ["reasoning.encrypted_content"], "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "q"}]},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "r"}]});
        let prompt = read(&body).unwrap();
        let seen: Vec<_> = prompt.messages.iter().map(|message| (message.role.word(), message.text.as_ref())).collect();
        assert_eq!(seen, [("system", "S"), ("user", "q"), ("assistant", ""), ("tool", "r")]);
        assert!(prompt.stream && prompt.encrypts && !prompt.summarizes);
    }
}
