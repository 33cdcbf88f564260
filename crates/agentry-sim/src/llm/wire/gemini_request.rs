//! Requests of Gemini's `generateContent` and Google's validation of them.

use std::borrow::Cow;

use serde_json::Value;

use super::super::prefix::chars;
use super::super::prompt::{AnswerForm, Message, Prompt, Role, ToolDemand, ToolOffer};
use super::Refusal;

const FIELDS: [&str; 9] = [
    "contents",
    "systemInstruction",
    "tools",
    "toolConfig",
    "generationConfig",
    "safetySettings",
    "cachedContent",
    "labels",
    "serviceTier",
];
const CONFIG_FIELDS: [&str; 20] = [
    "temperature",
    "topP",
    "topK",
    "candidateCount",
    "maxOutputTokens",
    "stopSequences",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "responseFormat",
    "responseModalities",
    "presencePenalty",
    "frequencyPenalty",
    "responseLogprobs",
    "logprobs",
    "seed",
    "thinkingConfig",
    "speechConfig",
    "mediaResolution",
    "imageConfig",
];
/// Longest name of a function.
const MAX_NAME_CHARS: usize = 64;
const UNEQUAL: &str = "Please ensure that the number of function response parts is equal to the number of function call parts of \
                       the function call turn.";

/// Returns a field, which Google's JSON lets be written in camel case and in snake case.
pub(super) fn field<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    let found = value.get(name).or_else(|| value.get(snake(name)));
    found.filter(|value| !value.is_null())
}

fn snake(name: &str) -> String {
    name.chars().fold(String::new(), |mut text, letter| {
        if letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
        text
    })
}

pub(super) fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    field(value, name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn word<'v>(value: &'v Value, name: &str) -> &'v str {
    field(value, name).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn read<'a>(body: &Value, model: &str, stream: bool) -> Result<Prompt<'a>, Refusal> {
    known_fields(body)?;
    let config = field(body, "generationConfig").cloned().unwrap_or_default();
    let contents = list(body, "contents");
    check_contents(contents)?;
    let tools = tools(body)?;
    let mut messages = Vec::new();
    if let Some(system) = field(body, "systemInstruction") {
        messages.push(Message { role: Role::System, text: Cow::Owned(joined(list(system, "parts"))) });
    }
    for content in contents {
        add(content, &mut messages);
    }
    let stop = list(&config, "stopSequences").iter().filter_map(Value::as_str).map(|text| Cow::Owned(text.to_owned()));
    Ok(Prompt {
        model: Cow::Owned(model.to_owned()),
        messages,
        choice: choice(body)?,
        tools,
        form: form(&config)?,
        stream,
        include_usage: true,
        max_tokens: field(&config, "maxOutputTokens").and_then(Value::as_u64),
        stop: stop.collect(),
        thinks: true,
        ..Prompt::default()
    })
}

fn known_fields(body: &Value) -> Result<(), Refusal> {
    let unknown = |value: &Value, known: &[&str]| {
        let keys = value.as_object().into_iter().flat_map(|fields| fields.keys().cloned());
        keys.into_iter().find(|key| !known.iter().any(|name| key == name || *key == snake(name)))
    };
    if let Some(key) = unknown(body, &FIELDS) {
        return bad!("Invalid JSON payload received. Unknown name \"{key}\": Cannot find field.");
    }
    match field(body, "generationConfig").and_then(|config| unknown(config, &CONFIG_FIELDS)) {
        Some(key) => {
            bad!("Invalid JSON payload received. Unknown name \"{key}\" at 'generation_config': Cannot find field.")
        }
        None => Ok(()),
    }
}

fn check_contents(contents: &[Value]) -> Result<(), Refusal> {
    if contents.is_empty() {
        return bad!("* GenerateContentRequest.contents: contents is not specified\n");
    }
    let mut open = 0;
    for (index, content) in contents.iter().enumerate() {
        let (role, parts) = (word(content, "role"), list(content, "parts"));
        if !matches!(role, "" | "user" | "model" | "function") {
            return bad!("Please use a valid role: user, model.");
        }
        if parts.is_empty() {
            return bad!("* GenerateContentRequest.contents[{index}].parts: contents.parts must not be empty.\n");
        }
        check_parts(index, parts)?;
        let count = |name: &str| parts.iter().filter(|part| field(part, name).is_some()).count();
        let (calls, results) = (count("functionCall"), count("functionResponse"));
        if results > 0 && open == 0 {
            return bad!("Please ensure that function response turn comes immediately after a function call turn.");
        }
        if results != open {
            return bad!("{UNEQUAL}");
        }
        if calls > 0 && (index == 0 || word(&contents[index - 1], "role") == "model") {
            return bad!(
                "Please ensure that function call turn comes immediately after a user turn or after a function response turn."
            );
        }
        open = calls;
    }
    if open == 0 { Ok(()) } else { bad!("{UNEQUAL}") }
}

fn check_parts(index: usize, parts: &[Value]) -> Result<(), Refusal> {
    const DATA: [&str; 7] =
        ["text", "functionCall", "functionResponse", "inlineData", "fileData", "executableCode", "codeExecutionResult"];
    for (at, part) in parts.iter().enumerate() {
        if !DATA.iter().any(|name| field(part, name).is_some()) {
            return bad!(
                "* GenerateContentRequest.contents[{index}].parts[{at}].data: required oneof field 'data' must have one \
                 initialized field\n"
            );
        }
        if field(part, "text").is_some() && word(part, "text").is_empty() {
            return bad!(
                "Unable to submit request because it has an empty text parameter. Add a value to the parameter and try again."
            );
        }
    }
    Ok(())
}

fn tools<'a>(body: &Value) -> Result<Vec<ToolOffer<'a>>, Refusal> {
    let mut offers: Vec<ToolOffer<'a>> = Vec::new();
    for (index, tool) in list(body, "tools").iter().enumerate() {
        for (at, function) in list(tool, "functionDeclarations").iter().enumerate() {
            let place = format!("GenerateContentRequest.tools[{index}].function_declarations[{at}]");
            let name = word(function, "name");
            if !is_name(name) {
                return bad!(
                    "* {place}.name: Invalid function name. Must start with a letter or an underscore. Must be alphanumeric \
                     (a-z, A-Z, 0-9), underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of 64.\n"
                );
            }
            if offers.iter().any(|offer| offer.name == name) {
                return bad!("Duplicate function declaration found: {name}");
            }
            let schema = field(function, "parametersJsonSchema").or_else(|| field(function, "parameters"));
            if schema.is_some_and(|schema| !word(schema, "type").eq_ignore_ascii_case("object")) {
                return bad!("* {place}.parameters: functionDeclaration parameters schema should be of type OBJECT.\n");
            }
            let schema = schema.map(|schema| Cow::Owned(lowered(schema).to_string()));
            offers.push(ToolOffer { name: Cow::Owned(name.to_owned()), schema });
        }
    }
    Ok(offers)
}

fn is_name(name: &str) -> bool {
    let starts = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    starts && name.len() <= MAX_NAME_CHARS && name.bytes().all(inner)
}

/// Returns a schema with types in lower case, which Google's own dialect writes in upper case.
fn lowered(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let lower = |(key, value): (&String, &Value)| match (key.as_str(), value) {
                ("type", Value::String(kind)) => (key.clone(), Value::String(kind.to_ascii_lowercase())),
                _ => (key.clone(), lowered(value)),
            };
            Value::Object(fields.iter().map(lower).collect())
        }
        Value::Array(items) => items.iter().map(lowered).collect(),
        other => other.clone(),
    }
}

fn choice<'a>(body: &Value) -> Result<ToolDemand<'a>, Refusal> {
    let config = field(body, "toolConfig").and_then(|config| field(config, "functionCallingConfig"));
    let Some(config) = config else { return Ok(ToolDemand::Auto) };
    let names = list(config, "allowedFunctionNames");
    match (word(config, "mode").to_ascii_uppercase().as_str(), names) {
        ("ANY", [name]) => Ok(ToolDemand::Tool(Cow::Owned(name.as_str().unwrap_or_default().to_owned()))),
        ("ANY", _) => Ok(ToolDemand::Any),
        (_, [_, ..]) => bad!("Allowed function names should only be set when function calling mode is ANY."),
        ("NONE", _) => Ok(ToolDemand::Never),
        _ => Ok(ToolDemand::Auto),
    }
}

fn form(config: &Value) -> Result<AnswerForm, Refusal> {
    let schema = field(config, "responseJsonSchema").or_else(|| field(config, "responseSchema"));
    match (word(config, "responseMimeType"), schema) {
        ("application/json", Some(schema)) => Ok(AnswerForm::Schema(lowered(schema))),
        ("application/json", None) => Ok(AnswerForm::Object),
        (_, Some(_)) => bad!(
            "* GenerateContentRequest.generation_config.response_schema: only allowed when response_mime_type is \
             `application/json`.\n"
        ),
        _ => Ok(AnswerForm::Text),
    }
}

/// Appends the messages of a turn: each result is one, and so is the text beside them.
fn add(content: &Value, messages: &mut Vec<Message<'_>>) {
    let parts = list(content, "parts");
    for result in parts.iter().filter_map(|part| field(part, "functionResponse")) {
        messages.push(Message { role: Role::Tool, text: Cow::Owned(result_text(result)) });
    }
    let role = if word(content, "role") == "model" { Role::Assistant } else { Role::User };
    let has_results = parts.iter().any(|part| field(part, "functionResponse").is_some());
    let text = joined(parts);
    if !has_results || !text.is_empty() {
        messages.push(Message { role, text: Cow::Owned(text) });
    }
}

fn joined(parts: &[Value]) -> String {
    let is_shown = |part: &&Value| field(part, "thought") != Some(&Value::Bool(true));
    parts.iter().filter(is_shown).map(|part| word(part, "text")).collect()
}

/// Returns the text of a result: its only text, or its JSON.
fn result_text(result: &Value) -> String {
    let response = field(result, "response");
    let only = response.and_then(Value::as_object).filter(|fields| fields.len() == 1);
    let text = only.and_then(|fields| fields.values().next()?.as_str());
    text.map_or_else(|| response.map(Value::to_string).unwrap_or_default(), str::to_owned)
}

/// Counts the characters of a part that are counted as input.
pub(super) fn text_chars(part: &Value) -> u64 {
    match field(part, "functionResponse") {
        Some(result) => chars(&result_text(result)),
        None => chars(&joined(std::slice::from_ref(part))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn user(parts: Value) -> Value {
        json!({"role": "user", "parts": parts})
    }

    #[test]
    fn what_google_refuses_is_refused() {
        let (asks, calls) = (
            user(json!([{"text": "x"}])),
            json!({"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]}),
        );
        let result = json!({"functionResponse": {"name": "f", "response": {"result": "r"}}});
        let declared = |function: Value| json!({"contents": [asks], "tools": [{"functionDeclarations": [function]}]});
        for (body, expected) in [
            (json!({}), "contents is not specified"),
            (json!({"contents": [asks], "max_tokens": 5}), "Unknown name \"max_tokens\": Cannot find field."),
            (json!({"contents": [asks], "generationConfig": {"max_tokens": 5}}), "at 'generation_config'"),
            (json!({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}), "valid role"),
            (json!({"contents": [user(json!([]))]}), "must not be empty"),
            (json!({"contents": [user(json!([{}]))]}), "oneof field 'data'"),
            (json!({"contents": [user(json!([{"text": ""}]))]}), "empty text parameter"),
            (json!({"contents": [user(json!([result]))]}), "immediately after a function call turn"),
            (json!({"contents": [asks, calls, asks]}), "is equal to the number"),
            (json!({"contents": [asks, calls]}), "is equal to the number"),
            (json!({"contents": [asks, calls, user(json!([result, result]))]}), "is equal to the number"),
            (json!({"contents": [calls, user(json!([result]))]}), "immediately after a user turn"),
            (declared(json!({"name": "1f"})), "Invalid function name"),
            (declared(json!({"name": "f", "parameters": {"type": "STRING"}})), "type OBJECT"),
            (json!({"contents": [asks], "generationConfig": {"responseJsonSchema": {}}}), "response_mime_type"),
        ] {
            let message = read(&body, "m", false).expect_err(&body.to_string()).message;
            assert!(message.contains(expected), "{body}: {message}");
        }
    }

    #[test]
    fn both_spellings_are_read() {
        let body = json!({
            "system_instruction": {"parts": [{"text": "S"}]},
            "contents": [user(json!([{"text": "q"}])), {"role": "model", "parts": [{"text": "so", "thought": true}, {"functionCall": {"name": "f"}}]},
                user(json!([{"functionResponse": {"name": "f", "response": {"result": "r"}}}]))],
            "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}}]}],
            "generationConfig": {"maxOutputTokens": 9, "stop_sequences": ["x"]},
        });
        let prompt = read(&body, "m", true).unwrap();
        let seen: Vec<_> = prompt.messages.iter().map(|message| (message.role.word(), message.text.as_ref())).collect();
        assert_eq!(seen, [("system", "S"), ("user", "q"), ("assistant", ""), ("tool", "r")]);
        assert!(prompt.tools[0].schema.as_deref().unwrap().contains("\"string\""));
        assert_eq!((prompt.max_tokens, prompt.stop.len(), prompt.stream), (Some(9), 1, true));
    }
}
