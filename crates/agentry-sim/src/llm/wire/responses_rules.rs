//! What OpenAI refuses of Responses by model, and the reasoning that comes back.

use serde_json::Value;

use super::super::cache::CacheRules;
use super::super::prefix::{Chain, content_chars};
use super::super::prompt::Prompt;
use super::super::rules::fields;
use super::super::rules::gpt::Gpt;
use super::super::rules::model::Model;
use super::Refusal;
use super::openai_schemas::{form, function, unknown_parameter};
use super::responses_items::{reasoning, unpaired};
use super::responses_request::{item_chars, list, word};

/// Smallest cached prefix, in tokens.
const CACHE_MINIMUM: u64 = 1_024;
/// Smallest `max_output_tokens`.
const MIN_OUTPUT_TOKENS: u64 = 16;

/// Checks a request that is well formed, and notes what caches need.
pub(super) fn apply(prompt: &mut Prompt<'_>, body: &Value) {
    let gpt = if let Model::Gpt(gpt) = Model::of(&prompt.model) { Some(gpt) } else { None };
    if let Some(gpt) = gpt {
        of_model(prompt, gpt, body);
    }
    let items = list(body, "input");
    prompt.refuse(unpaired(items));
    let (returned, refusal) = reasoning(&prompt.model, items, body.get("store") != Some(&Value::Bool(false)));
    prompt.refuse(refusal);
    prompt.returned = returned;
    prompt.chain = chain(body);
    prompt.caching =
        CacheRules::Automatic { minimum_tokens: CACHE_MINIMUM, bills_writes: gpt.is_some_and(Gpt::bills_cache_writes) };
}

fn of_model(prompt: &mut Prompt<'_>, gpt: Gpt, body: &Value) {
    prompt.refuse(fields::unknown_of_response(body).map(moved));
    prompt.refuse(gpt.refuses_response(body));
    if let Some(most) = body.get("max_output_tokens").and_then(Value::as_u64).filter(|most| *most < MIN_OUTPUT_TOKENS) {
        let text = format!(
            "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= {MIN_OUTPUT_TOKENS}, but got {most} \
             instead."
        );
        prompt.refuse(Refusal::bad(text).at("max_output_tokens").with_code("integer_below_min_value"));
    }
    let functions = list(body, "tools").iter().enumerate().filter(|(_, tool)| word(tool, "type") == "function");
    prompt.refuse(functions.into_iter().find_map(|(index, tool)| function(tool, &format!("tools[{index}]"))));
    let schema = body.pointer("/text/format").filter(|format| word(format, "type") == "json_schema");
    prompt.refuse(schema.and_then(|schema| form(schema, "text.format.schema")));
    let effort = body.pointer("/reasoning/effort").and_then(Value::as_str);
    prompt.thinks = gpt.thinks(effort);
    prompt.reasons = gpt.thinks(effort) && prompt.may_call();
}

/// Returns the refusal of a field that Responses does not have, with its new name when it has one.
fn moved(field: &str) -> Refusal {
    let text = match field {
        "messages" => {
            "Unsupported parameter: 'messages'. In the Responses API, this parameter has moved to 'input'. Try again with the new \
             parameter."
        }
        "response_format" => {
            "Unsupported parameter: 'response_format'. In the Responses API, this parameter has moved to 'text.format'. Try again \
             with the new parameter."
        }
        "max_tokens" | "max_completion_tokens" => {
            let text = format!(
                "Unsupported parameter: '{field}' is not supported with this model. Use 'max_output_tokens' instead."
            );
            return Refusal::bad(text).at(field).with_code("unsupported_parameter");
        }
        _ => return unknown_parameter(field),
    };
    Refusal::bad(text).at(field).with_code("unsupported_parameter")
}

fn chain(body: &Value) -> Chain {
    let mut chain = Chain::default();
    for tool in list(body, "tools") {
        chain.tool(tool, None);
    }
    if let Some(instructions) = body.get("instructions").filter(|text| text.is_string()) {
        chain.system(instructions, content_chars(instructions), None);
    }
    match body.get("input") {
        Some(Value::Array(items)) => {
            for item in items {
                chain.message(word(item, "role"), item, item_chars(item), None);
            }
        }
        Some(input) => chain.message("user", input, content_chars(input), None),
        None => {}
    }
    chain
}
