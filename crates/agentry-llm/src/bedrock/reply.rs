//! Converse's answers, whole and as events, and their conversion to a [`Draft`].

use agentry_core::chat::{StopReason, Usage};
use serde::Deserialize;
use serde_json::Value;

use crate::Call;
use crate::wire::Draft;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireReply {
    output: Output,
    stop_reason: String,
    #[serde(default)]
    usage: WireUsage,
}

#[derive(Deserialize)]
struct Output {
    message: WireMessage,
}

#[derive(Deserialize)]
struct WireMessage {
    content: Vec<Block>,
}

/// A content block. Reasoning and blocks of later versions are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    text: Option<String>,
    tool_use: Option<ToolUse>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolUse {
    tool_use_id: String,
    name: String,
    #[serde(default)]
    input: Value,
}

/// `contentBlockStart`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BlockStart {
    start: Block,
    content_block_index: u64,
}

/// `contentBlockDelta`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeltaEvent {
    delta: Delta,
    content_block_index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delta {
    text: Option<String>,
    tool_use: Option<ToolDelta>,
    reasoning_content: Option<Value>,
}

#[derive(Deserialize)]
struct ToolDelta {
    #[serde(default)]
    input: String,
}

/// `messageStop`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MessageStop {
    stop_reason: String,
}

/// `metadata`, the last event.
#[derive(Deserialize)]
pub(super) struct MetadataEvent {
    #[serde(default)]
    usage: WireUsage,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireUsage {
    input_tokens: u64,
    output_tokens: u64,
    cache_read_input_tokens: Option<u64>,
    cache_write_input_tokens: Option<u64>,
    cache_details: Option<Vec<CacheDetail>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct CacheDetail {
    ttl: String,
    input_tokens: u64,
}

impl From<&WireUsage> for Usage {
    /// Converts the counts. Cached tokens are counted apart from the rest of the input.
    fn from(wire: &WireUsage) -> Self {
        let cached = wire.cache_read_input_tokens.unwrap_or(0);
        let written = wire.cache_write_input_tokens.unwrap_or(0);
        let of_an_hour = wire.cache_details.iter().flatten().filter(|detail| detail.ttl == "1h");
        let hour = of_an_hour.map(|detail| detail.input_tokens).sum::<u64>().min(written);
        Self {
            input_tokens: wire.input_tokens.saturating_add(cached).saturating_add(written),
            output_tokens: wire.output_tokens,
            cached_tokens: cached,
            cache_write_tokens: written - hour,
            cache_write_1h_tokens: hour,
            ..Self::default()
        }
    }
}

pub(super) fn whole(call: &Call, reply: WireReply) -> Draft {
    let mut draft = Draft::of(call);
    (draft.stop, draft.usage) = (Some(stop(&reply.stop_reason)), (&reply.usage).into());
    for block in reply.output.message.content {
        draft.text(block.text.as_deref().unwrap_or_default());
        if let Some(ToolUse { tool_use_id, name, input }) = block.tool_use {
            draft.tool(&tool_use_id, &name, &input.to_string());
        }
    }
    draft
}

pub(super) fn block_start(draft: &mut Draft, event: BlockStart) {
    if let Some(tool) = event.start.tool_use {
        draft.tool_begins(event.content_block_index, &tool.tool_use_id, &tool.name);
    }
}

pub(super) fn delta(draft: &mut Draft, event: DeltaEvent) {
    draft.has_begun |= event.delta.reasoning_content.is_some();
    draft.text(event.delta.text.as_deref().unwrap_or_default());
    if let Some(tool) = event.delta.tool_use {
        draft.tool_arguments(event.content_block_index, &tool.input);
    }
}

pub(super) fn message_stop(draft: &mut Draft, event: &MessageStop) {
    draft.stop = Some(stop(&event.stop_reason));
}

pub(super) fn metadata(draft: &mut Draft, event: &MetadataEvent) {
    draft.usage = (&event.usage).into();
}

fn stop(reason: &str) -> StopReason {
    match reason {
        "end_turn" | "stop_sequence" => StopReason::End,
        "tool_use" => StopReason::ToolCalls,
        "max_tokens" | "model_context_window_exceeded" => StopReason::Length,
        "guardrail_intervened" | "content_filtered" => StopReason::ContentFilter,
        _ => StopReason::Other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_cache_read_and_took_is_part_of_the_input() {
        let usage = json!({"inputTokens": 10, "outputTokens": 3, "totalTokens": 1113, "cacheReadInputTokens": 100,
            "cacheWriteInputTokens": 1000, "cacheDetails": [{"ttl": "5m", "inputTokens": 400}, {"ttl": "1h", "inputTokens": 600}]});
        let usage: WireUsage = serde_json::from_value(usage).unwrap();
        let expected = Usage {
            input_tokens: 1_110,
            output_tokens: 3,
            cached_tokens: 100,
            cache_write_tokens: 400,
            cache_write_1h_tokens: 600,
            ..Usage::default()
        };
        assert_eq!(Usage::from(&usage), expected);
    }
}
