//! What the providers behind chat completions refuse by model, and the reasoning that some of them want back.

use serde_json::Value;

use super::super::cache::CacheRules;
use super::super::ids::Thought;
use super::super::prefix::{Chain, Prefix, content_chars};
use super::super::prompt::{Prompt, Returned};
use super::super::rules::fields;
use super::super::rules::gpt::Gpt;
use super::super::rules::model::Model;
use super::super::signature::{SignatureCheck, verify};
use super::Refusal;
use super::gemini_rules::{ALTERED_SIGNATURE, UNCHECKED_SIGNATURES, missing_signature, signed_call};
use super::openai_schemas::{form, function, unknown_parameter};

/// Longest id of a call.
const MAX_CALL_CHARS: usize = 40;
/// Smallest cached prefix at OpenAI, in tokens.
const OPENAI_MINIMUM: u64 = 1_024;
/// Smallest cached prefix at DeepSeek, in tokens.
const DEEPSEEK_MINIMUM: u64 = 64;
const NO_REASONING: &str = "The `reasoning_content` in the thinking mode must be passed back to the API.";

/// Checks a request to a real model; for all others it does nothing.
pub(super) fn apply(prompt: &mut Prompt<'_>, body: &[u8]) {
    let model = Model::of(&prompt.model);
    if matches!(model, Model::Other | Model::Claude(_)) {
        return;
    }
    // What was read once can be read again.
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    prompt.chain = chain(&body);
    match model {
        Model::Gpt(gpt) => of_openai(prompt, gpt, &body),
        Model::DeepSeek => of_deepseek(prompt, &body),
        Model::Gemini(major) if major >= 3 => of_gemini(prompt, &body),
        _ => {}
    }
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn word<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn chain(body: &Value) -> Chain {
    let mut chain = Chain::default();
    for tool in list(body, "tools") {
        chain.tool(tool, None);
    }
    for message in list(body, "messages") {
        chain.message(word(message, "role"), message, message.get("content").map_or(0, content_chars), None);
    }
    chain
}

fn of_openai(prompt: &mut Prompt<'_>, gpt: Gpt, body: &Value) {
    prompt.refuse(fields::unknown_of_chat(body).map(unknown_parameter));
    prompt.refuse(gpt.refuses_chat(&prompt.model, body));
    let tools = list(body, "tools").iter().enumerate();
    prompt.refuse(
        tools.clone().find_map(|(index, tool)| function(&tool["function"], &format!("tools[{index}].function"))),
    );
    let schema = body.pointer("/response_format/json_schema");
    prompt.refuse(schema.and_then(|schema| form(schema, "response_format")));
    prompt.refuse(messages(list(body, "messages")));
    prompt.tier = body.get("service_tier").and_then(Value::as_str).map(str::to_owned);
    prompt.cache_key = body.get("prompt_cache_key").and_then(Value::as_str).map(str::to_owned);
    prompt.caching = CacheRules::Automatic { minimum_tokens: OPENAI_MINIMUM, bills_writes: gpt.bills_cache_writes() };
}

fn messages(messages: &[Value]) -> Option<Refusal> {
    messages.iter().enumerate().find_map(|(index, message)| {
        let calls = message.get("tool_calls").and_then(Value::as_array);
        let has_content = message.get("content").is_some_and(|content| !content.is_null());
        if calls.is_some_and(Vec::is_empty) {
            let place = format!("messages[{index}].tool_calls");
            let text = format!("Invalid '{place}': empty array. Expected an array with minimum length 1, but got an empty array instead.");
            return Some(Refusal::bad(text).at(place).with_code("empty_array"));
        }
        if !has_content && calls.is_none() {
            let text = "Invalid value for 'content': expected a string, got null.";
            return Some(Refusal::bad(text).at(format!("messages.[{index}].content")));
        }
        let (at, id) = calls?.iter().map(|call| word(call, "id")).enumerate().find(|(_, id)| id.len() > MAX_CALL_CHARS)?;
        let place = format!("messages[{index}].tool_calls[{at}].id");
        let text = format!(
            "Invalid '{place}': string too long. Expected a string with maximum length {MAX_CALL_CHARS}, but got a string with \
             length {} instead.",
            id.len()
        );
        Some(Refusal::bad(text).at(place).with_code("string_above_max_length"))
    })
}

/// DeepSeek wants the reasoning of all turns once tools were used.
fn of_deepseek(prompt: &mut Prompt<'_>, body: &Value) {
    prompt.caching = CacheRules::Automatic { minimum_tokens: DEEPSEEK_MINIMUM, bills_writes: false };
    if body.pointer("/thinking/type").and_then(Value::as_str) == Some("disabled") {
        prompt.thinks = false;
        return;
    }
    prompt.reasons = true;
    let messages = list(body, "messages");
    let used_tools = messages.iter().any(|message| word(message, "role") == "tool");
    let (mut returned, mut lacks) = (Returned::default(), false);
    for turn in messages.iter().filter(|message| word(message, "role") == "assistant") {
        let text = word(turn, "reasoning_content");
        let thought = list(turn, "tool_calls").iter().find_map(|call| Thought::before(word(call, "id"), &prompt.model));
        match thought {
            Some(_) if text.is_empty() => returned.missing += 1,
            Some(thought) if !thought.is(text) => returned.altered += 1,
            Some(_) => returned.equal += 1,
            None => {}
        }
        lacks |= text.is_empty();
    }
    prompt.returned = returned;
    if used_tools && lacks {
        prompt.refuse(Refusal::bad(NO_REASONING).with_code("invalid_request_error"));
    }
}

/// Gemini in OpenAI's form wants the signature of each step's first call of the current turn.
fn of_gemini(prompt: &mut Prompt<'_>, body: &Value) {
    prompt.reasons = prompt.may_call();
    let messages = list(body, "messages");
    let open_from = messages.iter().rposition(|message| word(message, "role") == "user").unwrap_or(0);
    let mut returned = Returned::default();
    for (index, turn) in messages.iter().enumerate() {
        let Some(first) = list(turn, "tool_calls").first() else { continue };
        let signature = first.pointer("/extra_content/google/thought_signature").and_then(Value::as_str);
        let name = first.pointer("/function/name").and_then(Value::as_str).unwrap_or_default();
        let arguments = first.pointer("/function/arguments").and_then(Value::as_str).unwrap_or_default();
        let input = serde_json::from_str(arguments).unwrap_or_else(|_| arguments.into());
        match signature {
            None => {
                returned.missing += u64::from(Thought::before(word(first, "id"), &prompt.model).is_some());
                if index > open_from {
                    prompt.refuse(missing_signature(name, index));
                }
            }
            Some(signature) if UNCHECKED_SIGNATURES.contains(&signature) => {}
            Some(signature) => match verify(signature, &prompt.model, &signed_call(name, &input), Prefix::default()) {
                SignatureCheck::Intact | SignatureCheck::Moved(_) => returned.equal += 1,
                SignatureCheck::Foreign => {}
                SignatureCheck::Altered => {
                    returned.altered += 1;
                    prompt.refuse(Refusal::bad(ALTERED_SIGNATURE));
                }
            },
        }
    }
    prompt.returned = returned;
}
