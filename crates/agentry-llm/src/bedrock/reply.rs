//! Converse's answers, whole and as events, and their conversion to a [`Draft`]. Reasoning and blocks of later versions
//! are kept as they came.

use agentry_core::chat::{ServiceTier, StopReason, Usage};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Call;
use crate::wire::{Draft, lenient};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireReply {
    #[serde(default, deserialize_with = "lenient::or_default")]
    output: Output,
    #[serde(flatten)]
    end: MessageStop,
    #[serde(flatten)]
    metadata: MetadataEvent,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Output {
    #[serde(deserialize_with = "lenient::or_default")]
    message: WireMessage,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireMessage {
    #[serde(deserialize_with = "lenient::or_default")]
    content: Vec<Value>,
}

/// `contentBlockStart`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BlockStart {
    start: Value,
    content_block_index: u64,
}

/// `contentBlockDelta`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeltaEvent {
    delta: Delta,
    content_block_index: u64,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Delta {
    text: Option<String>,
    tool_use: Option<ToolDelta>,
    reasoning_content: Option<ReasoningDelta>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ToolDelta {
    #[serde(deserialize_with = "lenient::arguments")]
    input: Option<String>,
}

/// A piece of a reasoning block: of its text, its signature, or its encrypted content.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ReasoningDelta {
    text: Option<String>,
    signature: Option<String>,
    redacted_content: Option<String>,
}

/// `messageStop`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MessageStop {
    stop_reason: String,
}

/// `metadata`, the last event.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct MetadataEvent {
    usage: Option<WireUsage>,
    #[serde(deserialize_with = "lenient::or_default")]
    service_tier: Tier,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Tier {
    #[serde(rename = "type", deserialize_with = "lenient::id")]
    kind: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireUsage {
    #[serde(deserialize_with = "lenient::count")]
    input_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::count")]
    output_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::count")]
    cache_read_input_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::count")]
    cache_write_input_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::or_default")]
    cache_details: Vec<CacheDetail>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct CacheDetail {
    #[serde(deserialize_with = "lenient::or_default")]
    ttl: String,
    #[serde(deserialize_with = "lenient::count")]
    input_tokens: Option<u64>,
}

impl WireUsage {
    /// Returns the counts; `None` when there are none. Cached tokens are counted apart from the rest of the input.
    fn read(&self) -> Option<Usage> {
        let cached = self.cache_read_input_tokens.unwrap_or(0);
        let written = self.cache_write_input_tokens.unwrap_or(0);
        let of_an_hour = self.cache_details.iter().filter(|detail| detail.ttl == "1h");
        let hour = of_an_hour.filter_map(|detail| detail.input_tokens).sum::<u64>().min(written);
        Some(Usage {
            input_tokens: self.input_tokens?.saturating_add(cached).saturating_add(written),
            output_tokens: self.output_tokens?,
            cached_tokens: cached,
            cache_write_tokens: written - hour,
            cache_write_1h_tokens: hour,
            ..Usage::default()
        })
    }
}

pub(super) fn whole(call: &Call, reply: WireReply) -> Draft {
    let mut draft = Draft::of(call);
    message_stop(&mut draft, &reply.end);
    metadata(&mut draft, &reply.metadata);
    for (at, block) in (0..).zip(reply.output.message.content) {
        begin(&mut draft, at, block);
    }
    draft
}

pub(super) fn block_start(draft: &mut Draft, event: BlockStart) {
    begin(draft, event.content_block_index, event.start);
}

/// Adds a block, whole or at its start. It is an object with one field, the name of its kind.
fn begin(draft: &mut Draft, at: u64, block: Value) {
    if let Some(text) = block.get("text").and_then(Value::as_str) {
        draft.text_at(at, text);
    } else if let Some(tool) = block.get("toolUse") {
        let field = |name: &str| tool.get(name).and_then(Value::as_str).unwrap_or_default();
        draft.tool_begins(at, field("toolUseId"), field("name"));
        draft.tool_input(at, tool.get("input").unwrap_or(&Value::Null));
    } else if block.as_object().is_some_and(|fields| !fields.is_empty()) {
        draft.opaque(at, block);
    }
}

pub(super) fn delta(draft: &mut Draft, event: DeltaEvent) {
    let (at, Delta { text, tool_use, reasoning_content }) = (event.content_block_index, event.delta);
    if let Some(text) = text {
        draft.text_at(at, &text);
    }
    if let Some(ToolDelta { input: Some(input) }) = tool_use {
        draft.tool_arguments(at, &input);
    }
    if let Some(piece) = reasoning_content {
        reasoning(draft.opaque_mut(at), piece);
    }
}

/// Adds a piece to a reasoning block.
fn reasoning(block: &mut Value, piece: ReasoningDelta) {
    let inside = &mut block["reasoningContent"];
    if let Some(data) = piece.redacted_content {
        *inside = json!({ "redactedContent": data });
        return;
    }
    for (field, more) in [("text", piece.text), ("signature", piece.signature)] {
        let Some(more) = more else { continue };
        let so_far = &mut inside["reasoningText"][field];
        *so_far = format!("{}{more}", so_far.as_str().unwrap_or_default()).into();
    }
}

pub(super) fn message_stop(draft: &mut Draft, event: &MessageStop) {
    draft.stop = Some(stop(&event.stop_reason));
}

pub(super) fn metadata(draft: &mut Draft, event: &MetadataEvent) {
    if let Some(usage) = event.usage.as_ref().and_then(WireUsage::read) {
        draft.counted(usage);
    }
    draft.usage.tier = event.service_tier.kind.as_deref().and_then(|tier| tier.parse::<ServiceTier>().ok());
}

fn stop(reason: &str) -> StopReason {
    match reason {
        "end_turn" | "stop_sequence" => StopReason::End,
        "tool_use" => StopReason::ToolCalls,
        "max_tokens" => StopReason::Length,
        "content_filtered" | "guardrail_intervened" | "refusal" => StopReason::ContentFilter,
        "model_context_window_exceeded" => StopReason::ContextExceeded,
        "pause_turn" => StopReason::Paused,
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
        assert_eq!(usage.read(), Some(expected));
    }

    #[test]
    fn reasoning_is_the_same_streamed_and_whole() {
        let reasoning = json!({"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}});
        let tool = json!({"toolUse": {"toolUseId": "t1", "name": "find", "input": {"q": 1}}});
        let call = crate::test_call::call("");
        let whole = whole(
            &call,
            serde_json::from_value(json!({"output": {"message": {"content": [reasoning, tool]}},
            "stopReason": "tool_use"}))
            .unwrap(),
        );
        let mut streamed = Draft::default();
        for piece in [json!({"text": "h"}), json!({"text": "m"}), json!({"signature": "sig"})] {
            let event = json!({"contentBlockIndex": 0, "delta": {"reasoningContent": piece}});
            delta(&mut streamed, serde_json::from_value(event).unwrap());
        }
        let start = json!({"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t1", "name": "find"}}});
        block_start(&mut streamed, serde_json::from_value(start).unwrap());
        let input = json!({"contentBlockIndex": 1, "delta": {"toolUse": {"input": "{\"q\":1}"}}});
        delta(&mut streamed, serde_json::from_value(input).unwrap());
        message_stop(&mut streamed, &serde_json::from_value(json!({"stopReason": "tool_use"})).unwrap());
        let (whole, streamed) = (whole.finish(&call).unwrap().0, streamed.finish(&call).unwrap().0);
        assert_eq!(whole, streamed);
        assert_eq!(whole.native.unwrap().parts[0], agentry_core::chat::NativePart::Opaque { block: reasoning });
    }
}
