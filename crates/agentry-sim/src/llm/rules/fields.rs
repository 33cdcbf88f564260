//! Fields that requests may have, of the providers that refuse all others.

use serde_json::Value;

/// Fields of chat completions (OpenAI's specification of 2026-08-21), also those that have been replaced.
const CHAT: &str = "messages model audio frequency_penalty function_call functions logit_bias logprobs \
     max_completion_tokens max_tokens metadata modalities moderation n parallel_tool_calls prediction presence_penalty \
     prompt_cache_key prompt_cache_options prompt_cache_retention reasoning_effort response_format safety_identifier seed \
     service_tier stop store stream stream_options temperature tool_choice tools top_logprobs top_p user verbosity \
     web_search_options";
/// Fields of Responses (OpenAI's specification of 2026-08-21).
const RESPONSES: &str = "background context_management conversation include input instructions max_output_tokens \
     max_tool_calls metadata model moderation parallel_tool_calls previous_response_id prompt prompt_cache_key \
     prompt_cache_options prompt_cache_retention reasoning safety_identifier service_tier store stream stream_options \
     temperature text tool_choice tools top_logprobs top_p truncation user";

/// Fields of Anthropic's content blocks by type; blocks that are not listed are not checked.
const BLOCKS: [(&str, &str); 8] = [
    ("text", "type text cache_control citations"),
    ("thinking", "type thinking signature"),
    ("redacted_thinking", "type data"),
    ("tool_use", "type id name input cache_control caller"),
    ("tool_result", "type tool_use_id content is_error cache_control"),
    ("image", "type source cache_control"),
    ("document", "type source title context citations cache_control"),
    ("search_result", "type source title content citations cache_control"),
];
/// Fields of a tool of the client at Anthropic.
const TOOL: &str = "type name description input_schema cache_control strict eager_input_streaming defer_loading \
     allowed_callers input_examples";

/// Returns the first field of a chat completion that OpenAI does not know.
pub(in crate::llm) fn unknown_of_chat(body: &Value) -> Option<&str> {
    unknown(body, CHAT)
}

/// Returns the first field of a response that OpenAI does not know.
pub(in crate::llm) fn unknown_of_response(body: &Value) -> Option<&str> {
    unknown(body, RESPONSES)
}

/// Returns the first field of a content block that Anthropic does not know.
pub(in crate::llm) fn unknown_of_block(block: &Value) -> Option<&str> {
    let kind = block.get("type").and_then(Value::as_str)?;
    BLOCKS.iter().find(|(name, _)| *name == kind).and_then(|(_, fields)| unknown(block, fields))
}

/// Returns the first field of a tool of the client that Anthropic does not know.
pub(in crate::llm) fn unknown_of_tool(tool: &Value) -> Option<&str> {
    let own = tool.get("type").and_then(Value::as_str).is_none_or(|kind| kind == "custom");
    if own { unknown(tool, TOOL) } else { None }
}

fn unknown<'v>(value: &'v Value, known: &str) -> Option<&'v str> {
    let fields = value.as_object()?;
    fields.keys().map(String::as_str).find(|field| !known.split_whitespace().any(|name| name == *field))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_fields_are_named() {
        assert_eq!(unknown_of_chat(&json!({"model": "m", "top_k": 5})), Some("top_k"));
        assert_eq!(unknown_of_chat(&json!({"model": "m", "seed": 5})), None);
        assert_eq!(unknown_of_response(&json!({"input": "x", "stop": []})), Some("stop"));
        assert_eq!(
            unknown_of_block(&json!({"type": "thinking", "thinking": "", "cache_control": {}})),
            Some("cache_control")
        );
        assert_eq!(unknown_of_block(&json!({"type": "server_tool_use", "anything": 1})), None);
        assert_eq!(unknown_of_tool(&json!({"name": "f", "input_schema": {}, "parameters": {}})), Some("parameters"));
    }
}
