//! Requests of OpenAI's chat completions, borrowed from the body wherever possible, and OpenAI's validation of them.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::super::prompt::{AnswerForm, Message, Prompt, Role, ToolDemand, ToolOffer};
use super::Refusal;
use super::functions::{StopSequences, WireTool};

/// Largest number of stop sequences.
const MAX_STOPS: usize = 4;

/// `POST /v1/chat/completions`. Unknown fields are ignored, as OpenAI's compatible servers do; `openai_rules` refuses
/// them for OpenAI's own models.
#[derive(Debug, Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    messages: Option<Vec<WireMessage<'a>>>,
    #[serde(borrow, default)]
    tools: Option<Vec<WireTool<'a>>>,
    #[serde(borrow)]
    tool_choice: Option<&'a RawValue>,
    #[serde(borrow)]
    response_format: Option<&'a RawValue>,
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    #[serde(borrow)]
    stop: Option<StopSequences<'a>>,
}

#[derive(Debug, Deserialize)]
struct WireMessage<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "content")]
    content: Cow<'a, str>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<WireToolCall<'a>>>,
    #[serde(borrow)]
    tool_call_id: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
struct WireToolCall<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

pub(super) fn read(body: &[u8]) -> Result<Prompt<'_>, Refusal> {
    let request: Request<'_> = serde_json::from_slice(body)
        .map_err(|problem| Refusal::bad(format!("the request is not a chat completion: {problem}")))?;
    let missing = |param: &str| Refusal::bad(format!("Missing required parameter: '{param}'.")).at(param);
    let Some(model) = request.model.filter(|model| !model.is_empty()) else {
        return Err(Refusal::bad("you must provide a model parameter"));
    };
    let wire = request.messages.ok_or_else(|| missing("messages"))?;
    let between = |name: &str, value: Option<f64>, most: f64| match value {
        Some(value) if !(0.0..=most).contains(&value) => {
            let text = format!(
                "Invalid '{name}': decimal out of range. Expected a value from 0 to {most}, but got {value} instead."
            );
            Err(Refusal::bad(text).at(name))
        }
        _ => Ok(()),
    };
    between("temperature", request.temperature, 2.0)?;
    between("top_p", request.top_p, 1.0)?;
    let stop = request.stop.map(StopSequences::into_vec).unwrap_or_default();
    if stop.len() > MAX_STOPS {
        let text = format!("Invalid 'stop': array too long. Expected an array with maximum length {MAX_STOPS}.");
        return Err(Refusal::bad(text).at("stop"));
    }
    let messages = messages(wire)?;
    let tools: Vec<ToolOffer<'_>> = request.tools.unwrap_or_default().into_iter().map(WireTool::offer).collect();
    Ok(Prompt {
        model,
        messages,
        choice: choice(request.tool_choice, &tools)?,
        tools,
        form: form(request.response_format)?,
        stream: request.stream == Some(true),
        include_usage: request.stream_options.is_some_and(|options| options.include_usage),
        max_tokens: request.max_completion_tokens.or(request.max_tokens),
        stop,
        thinks: true,
        ..Prompt::default()
    })
}

/// Checks that tool results follow the calls they belong to.
fn messages<'a>(wire: Vec<WireMessage<'a>>) -> Result<Vec<Message<'a>>, Refusal> {
    if wire.is_empty() {
        return Err(
            Refusal::bad("Invalid 'messages': empty array. Expected an array with minimum length 1.").at("messages")
        );
    }
    let mut open: Vec<Cow<'_, str>> = Vec::new();
    let mut messages = Vec::with_capacity(wire.len());
    for (index, message) in wire.into_iter().enumerate() {
        let at = |field: &str| format!("messages.[{index}].{field}");
        let role = match message.role.as_ref() {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            other => {
                let text = format!(
                    "Invalid value: '{other}'. Supported values are: 'system', 'assistant', 'user', 'tool', and 'developer'."
                );
                return Err(Refusal::bad(text).at(format!("messages[{index}].role")));
            }
        };
        if role == Role::Tool {
            let id = message.tool_call_id.ok_or_else(|| {
                Refusal::bad("Missing parameter 'tool_call_id': messages with role 'tool' must have a 'tool_call_id'.")
                    .at(at("tool_call_id"))
            })?;
            let Some(found) = open.iter().position(|open| *open == id) else {
                let text = "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.";
                return Err(Refusal::bad(text).at(at("role")));
            };
            open.swap_remove(found);
        } else if !open.is_empty() {
            return Err(unanswered(&open).at(at("role")));
        }
        for call in message.tool_calls.into_iter().flatten() {
            if open.contains(&call.id) {
                let text = format!(
                    "Invalid parameter: Duplicate value for 'tool_call_id' of '{}' in messages[{index}].",
                    call.id
                );
                return Err(Refusal::bad(text).at(format!("messages[{index}].tool_calls")));
            }
            open.push(call.id);
        }
        messages.push(Message { role, text: message.content });
    }
    if open.is_empty() { Ok(messages) } else { Err(unanswered(&open).at("messages")) }
}

fn unanswered(open: &[Cow<'_, str>]) -> Refusal {
    Refusal::bad(format!(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The \
         following tool_call_ids did not have response messages: {}",
        open.join(", ")
    ))
}

/// Reads `tool_choice`: a word, or a tool.
fn choice<'a>(raw: Option<&'a RawValue>, tools: &[ToolOffer<'a>]) -> Result<ToolDemand<'a>, Refusal> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else { return Ok(ToolDemand::Auto) };
    if tools.is_empty() {
        let text = "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.";
        return Err(Refusal::bad(text).at("tool_choice"));
    }
    match serde_json::from_str::<&str>(raw.get()) {
        Ok("auto") => return Ok(ToolDemand::Auto),
        Ok("none") => return Ok(ToolDemand::Never),
        Ok("required") => return Ok(ToolDemand::Any),
        _ => {}
    }
    let named = serde_json::from_str::<WireTool<'_>>(raw.get()).ok().map(|tool| tool.function.name);
    match named {
        Some(name) if tools.iter().any(|tool| tool.name == name) => Ok(ToolDemand::Tool(name)),
        Some(name) => {
            Err(Refusal::bad(format!("Tool choice '{name}' not found in 'tools' parameter.")).at("tool_choice"))
        }
        None => Err(Refusal::bad("Invalid value for 'tool_choice'.").at("tool_choice")),
    }
}

fn form(raw: Option<&RawValue>) -> Result<AnswerForm, Refusal> {
    #[derive(Deserialize)]
    struct Format {
        r#type: String,
        json_schema: Option<NamedSchema>,
    }
    #[derive(Deserialize)]
    struct NamedSchema {
        name: String,
        schema: Option<serde_json::Value>,
    }
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else { return Ok(AnswerForm::Text) };
    let format: Format = serde_json::from_str(raw.get())
        .map_err(|problem| Refusal::bad(format!("Invalid 'response_format': {problem}")).at("response_format"))?;
    match (format.r#type.as_str(), format.json_schema) {
        ("text", _) => Ok(AnswerForm::Text),
        ("json_object", _) => Ok(AnswerForm::Object),
        ("json_schema", Some(NamedSchema { name, schema })) if !name.is_empty() => {
            Ok(schema.map_or(AnswerForm::Object, AnswerForm::Schema))
        }
        ("json_schema", _) => {
            let param = "response_format.json_schema";
            Err(Refusal::bad(format!("Missing required parameter: '{param}'.")).at(param))
        }
        (other, _) => {
            let text =
                format!("Invalid value: '{other}'. Supported values are: 'json_object', 'json_schema', and 'text'.");
            Err(Refusal::bad(text).at("response_format.type"))
        }
    }
}

/// Reads content: a string, null, or a list of parts whose texts are joined.
fn content<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'de, str>, D::Error> {
    deserializer.deserialize_any(ContentVisitor)
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, null or a list of content parts")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
        #[derive(Deserialize)]
        struct Part {
            text: Option<String>,
            #[serde(rename = "image_url")]
            _image: Option<IgnoredAny>,
        }
        let mut text = String::new();
        while let Some(part) = parts.next_element::<Part>()? {
            text.push_str(part.text.as_deref().unwrap_or_default());
        }
        Ok(Cow::Owned(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_a_string_null_or_parts() {
        let body = r#"{"model":"m","temperature":1,"messages":[
            {"role":"user","content":"plain"},{"role":"user","content":"with \"escape\""},
            {"role":"assistant","content":null,"tool_calls":[]},{"role":"assistant"},
            {"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"x"}},{"type":"text","text":"b"}]}]}"#;
        let prompt = read(body.as_bytes()).unwrap();
        let texts: Vec<_> = prompt.messages.iter().map(|message| message.text.as_ref()).collect();
        assert_eq!(texts, ["plain", "with \"escape\"", "", "", "ab"]);
        assert!(matches!(prompt.messages[0].text, Cow::Borrowed(_)));
    }

    #[test]
    fn what_openai_refuses_is_refused() {
        let user = r#"{"role":"user","content":"x"}"#;
        let called = r#"{"role":"assistant","tool_calls":[{"id":"c1"},{"id":"c2"}]}"#;
        let result = |id: &str| format!(r#"{{"role":"tool","tool_call_id":"{id}","content":"r"}}"#);
        let of = |messages: &str, more: &str| format!(r#"{{"model":"m","messages":[{messages}]{more}}}"#);
        for (body, expected) in [
            ("{".to_owned(), "not a chat completion"),
            (r#"{"messages":[]}"#.to_owned(), "model parameter"),
            (r#"{"model":"m"}"#.to_owned(), "'messages'"),
            (of("", ""), "empty array"),
            (of(r#"{"role":"robot"}"#, ""), "'robot'"),
            (of(user, r#","temperature":3"#), "'temperature'"),
            (of(user, r#","tool_choice":"required""#), "'tools'"),
            (of(user, r#","response_format":{"type":"json_schema"}"#), "json_schema"),
            (of(&format!("{user},{}", result("c9")), ""), "preceeding"),
            (of(&format!("{user},{called},{}", result("c1")), ""), "c2"),
            (of(&format!("{user},{called},{user}"), ""), "c1, c2"),
            (of(&format!("{user},{}", called.replace("c2", "c1")), ""), "Duplicate value"),
        ] {
            let message = read(body.as_bytes()).unwrap_err().message;
            assert!(message.contains(expected), "{body}: {message}");
        }
        let good = of(&format!("{user},{called},{},{},{user}", result("c2"), result("c1")), "");
        assert_eq!(read(good.as_bytes()).unwrap().messages.len(), 5);
    }
}
