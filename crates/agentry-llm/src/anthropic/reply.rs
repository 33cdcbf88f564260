//! Anthropic's answers, whole and as events, and their conversion to a [`Draft`]. Thinking and blocks of later versions
//! are kept as they came: they must go back unchanged.

use agentry_core::chat::{ServiceTier, StopReason};
use serde::Deserialize;
use serde_json::Value;

use crate::Call;
use crate::wire::{Draft, Progress, lenient};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct WireReply {
    #[serde(deserialize_with = "lenient::id")]
    id: Option<String>,
    #[serde(deserialize_with = "lenient::id")]
    model: Option<String>,
    #[serde(deserialize_with = "lenient::or_default")]
    content: Vec<Value>,
    #[serde(flatten)]
    end: ReplyDelta,
    #[serde(deserialize_with = "lenient::or_default")]
    usage: WireUsage,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Event {
    MessageStart {
        message: WireReply,
    },
    ContentBlockStart {
        index: u64,
        content_block: Value,
    },
    ContentBlockDelta {
        index: u64,
        delta: BlockDelta,
    },
    MessageDelta {
        delta: ReplyDelta,
        #[serde(default, deserialize_with = "lenient::or_default")]
        usage: WireUsage,
    },
    MessageStop,
    Error {
        error: Value,
    },
    /// Pings, the ends of blocks, and events of later versions.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum BlockDelta {
    TextDelta {
        text: String,
    },
    InputJsonDelta {
        partial_json: String,
    },
    ThinkingDelta {
        thinking: String,
    },
    SignatureDelta {
        signature: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ReplyDelta {
    #[serde(deserialize_with = "lenient::id")]
    stop_reason: Option<String>,
    #[serde(deserialize_with = "lenient::or_default")]
    stop_details: StopDetails,
}

/// The reason of a refusal.
#[derive(Deserialize, Default)]
#[serde(default)]
struct StopDetails {
    #[serde(deserialize_with = "lenient::id")]
    category: Option<String>,
    #[serde(deserialize_with = "lenient::text")]
    explanation: Option<String>,
}

/// Cumulative counts; an absent field has not changed.
#[derive(Deserialize, Default, Clone)]
#[serde(default)]
pub(super) struct WireUsage {
    #[serde(deserialize_with = "lenient::count")]
    input_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::count")]
    output_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::count")]
    cache_read_input_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient::count")]
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
    #[serde(deserialize_with = "lenient::or_default")]
    output_tokens_details: OutputDetails,
    #[serde(deserialize_with = "lenient::or_default")]
    server_tool_use: ServerTools,
    #[serde(deserialize_with = "lenient::id")]
    service_tier: Option<String>,
    #[serde(deserialize_with = "lenient::id")]
    speed: Option<String>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(default)]
pub(super) struct CacheCreation {
    #[serde(deserialize_with = "lenient::count")]
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(default)]
struct OutputDetails {
    #[serde(deserialize_with = "lenient::count")]
    thinking_tokens: Option<u64>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(default)]
struct ServerTools {
    #[serde(deserialize_with = "lenient::count")]
    web_search_requests: Option<u64>,
}

impl WireUsage {
    /// Merges the counts into the draft's. Anthropic counts cached tokens apart from the rest of the input.
    fn merge_into(&self, draft: &mut Draft) {
        draft.is_counted |= self.output_tokens.is_some();
        let usage = &mut draft.usage;
        let before_cached = usage.cached_tokens;
        let before_written = usage.cache_write_tokens + usage.cache_write_1h_tokens;
        let fresh = usage.input_tokens.saturating_sub(before_cached).saturating_sub(before_written);
        let fresh = self.input_tokens.unwrap_or(fresh);
        usage.cached_tokens = self.cache_read_input_tokens.unwrap_or(before_cached);
        if let Some(written) = self.cache_creation_input_tokens {
            let hour = self.cache_creation.unwrap_or_default().ephemeral_1h_input_tokens.unwrap_or(0).min(written);
            // A later event repeats the total without its parts.
            if self.cache_creation.is_some() || written != before_written {
                (usage.cache_write_tokens, usage.cache_write_1h_tokens) = (written - hour, hour);
            }
        }
        let written = usage.cache_write_tokens + usage.cache_write_1h_tokens;
        usage.input_tokens = fresh.saturating_add(usage.cached_tokens).saturating_add(written);
        usage.output_tokens = self.output_tokens.unwrap_or(usage.output_tokens);
        usage.reasoning_tokens = self.output_tokens_details.thinking_tokens.unwrap_or(usage.reasoning_tokens);
        usage.web_searches = self.server_tool_use.web_search_requests.unwrap_or(usage.web_searches);
        if self.speed.as_deref() == Some("fast") {
            usage.tier = Some(ServiceTier::Fast);
        } else if let Some(tier) = self.service_tier.as_deref().and_then(|tier| tier.parse().ok()) {
            usage.tier = Some(tier);
        }
    }
}

pub(super) fn whole(call: &Call, reply: WireReply) -> Draft {
    let mut draft = Draft::of(call);
    (draft.id, draft.model) = (reply.id, reply.model);
    reply.usage.merge_into(&mut draft);
    for (at, block) in (0..).zip(reply.content) {
        begin(&mut draft, at, block);
    }
    end(&mut draft, reply.end);
    draft
}

pub(super) fn event(draft: &mut Draft, event: Event) -> Progress {
    match event {
        Event::MessageStart { message } => {
            (draft.id, draft.model) = (message.id.or(draft.id.take()), message.model);
            message.usage.merge_into(draft);
            // The answer is counted at its end.
            draft.is_counted = false;
        }
        Event::ContentBlockStart { index, content_block } => begin(draft, index, content_block),
        Event::ContentBlockDelta { index, delta } => match delta {
            BlockDelta::TextDelta { text } => draft.text_at(index, &text),
            BlockDelta::InputJsonDelta { partial_json } => draft.tool_arguments(index, &partial_json),
            BlockDelta::ThinkingDelta { thinking } => append(draft, index, "thinking", &thinking),
            BlockDelta::SignatureDelta { signature } => append(draft, index, "signature", &signature),
            BlockDelta::Other => {}
        },
        Event::MessageDelta { delta, usage } => {
            usage.merge_into(draft);
            end(draft, delta);
        }
        Event::MessageStop => return Progress::Done,
        Event::Error { .. } | Event::Other => {}
    }
    Progress::More
}

/// Adds a block, whole or at its start. Arguments of a call follow in deltas, but some servers put them here.
fn begin(draft: &mut Draft, at: u64, block: Value) {
    let field = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default();
    match field("type") {
        "text" => draft.text_at(at, field("text")),
        "tool_use" => {
            draft.tool_begins(at, field("id"), field("name"));
            draft.tool_input(at, block.get("input").unwrap_or(&Value::Null));
        }
        "" => {}
        _ => draft.opaque(at, block),
    }
}

fn append(draft: &mut Draft, at: u64, field: &str, more: &str) {
    let Value::Object(block) = draft.opaque_mut(at) else { return };
    match block.get_mut(field) {
        Some(Value::String(so_far)) => so_far.push_str(more),
        _ => {
            block.insert(field.to_owned(), more.into());
        }
    }
}

fn end(draft: &mut Draft, end: ReplyDelta) {
    let Some(reason) = end.stop_reason else { return };
    draft.stop = Some(stop(&reason));
    let StopDetails { category, explanation } = end.stop_details;
    if let Some(category) = category {
        draft.refusal = format!("{category}: {}", explanation.unwrap_or_default());
    }
}

fn stop(reason: &str) -> StopReason {
    match reason {
        "end_turn" | "stop_sequence" => StopReason::End,
        "tool_use" => StopReason::ToolCalls,
        "max_tokens" => StopReason::Length,
        "refusal" => StopReason::ContentFilter,
        "pause_turn" => StopReason::Paused,
        "model_context_window_exceeded" => StopReason::ContextExceeded,
        _ => StopReason::Other,
    }
}

#[cfg(test)]
mod tests {
    use agentry_core::chat::Usage;
    use serde_json::json;

    use super::*;

    fn usage(events: &[Value]) -> Usage {
        let mut draft = Draft::default();
        for next in events {
            event(&mut draft, serde_json::from_value(next.clone()).unwrap());
        }
        draft.usage
    }

    #[test]
    fn cached_and_written_tokens_are_part_of_the_input_and_the_last_count_wins() {
        let start = json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude", "content": [],
            "stop_reason": null, "usage": {"input_tokens": 10, "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 1000, "output_tokens": 1,
                "cache_creation": {"ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 600}}}});
        let delta = |tokens: u64| {
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": tokens}})
        };
        let all = json!({"type": "message_delta", "delta": {}, "usage": {"input_tokens": 10,
            "cache_read_input_tokens": 100, "cache_creation_input_tokens": 1000, "output_tokens": 30}});
        for events in [vec![start.clone(), delta(7), delta(30)], vec![start, delta(7), all]] {
            let expected = Usage {
                input_tokens: 1_110,
                output_tokens: 30,
                cached_tokens: 100,
                cache_write_tokens: 400,
                cache_write_1h_tokens: 600,
                ..Usage::default()
            };
            assert_eq!(usage(&events), expected);
        }
    }

    #[test]
    fn what_later_versions_add_is_no_error() {
        let mut draft = Draft::default();
        for next in [
            json!({"type": "ping"}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "sig"}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {}}}),
            json!({"type": "something_new", "x": 1}),
        ] {
            assert_eq!(event(&mut draft, serde_json::from_value(next).unwrap()), Progress::More);
        }
        assert!(draft.has_begun && draft.content.is_empty());
    }

    #[test]
    fn thinking_is_kept_in_order() {
        let blocks = json!([
            {"type": "thinking", "thinking": "hm", "signature": "sig"},
            {"type": "redacted_thinking", "data": "xyz"},
            {"type": "text", "text": "Looking."},
            {"type": "tool_use", "id": "t1", "name": "find", "input": {"q": 1}}
        ]);
        let whole = whole(
            &crate::test_call::call(""),
            serde_json::from_value(json!({"content": blocks,
            "stop_reason": "tool_use", "usage": {"input_tokens": 1, "output_tokens": 2}}))
            .unwrap(),
        );
        let mut streamed = Draft::default();
        let start =
            |index: u64, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
        let delta = |index: u64, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
        for next in [
            start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
            delta(0, json!({"type": "thinking_delta", "thinking": "h"})),
            delta(0, json!({"type": "thinking_delta", "thinking": "m"})),
            delta(0, json!({"type": "signature_delta", "signature": "sig"})),
            start(1, blocks[1].clone()),
            start(2, json!({"type": "text", "text": ""})),
            delta(2, json!({"type": "text_delta", "text": "Looking."})),
            start(3, json!({"type": "tool_use", "id": "t1", "name": "find", "input": {}})),
            delta(3, json!({"type": "input_json_delta", "partial_json": "{\"q\":1}"})),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"input_tokens": 1, "output_tokens": 2}}),
        ] {
            event(&mut streamed, serde_json::from_value(next).unwrap());
        }
        let call = crate::test_call::call("");
        let (whole, streamed) = (whole.finish(&call).unwrap().0, streamed.finish(&call).unwrap().0);
        assert_eq!(whole, streamed);
        let parts = serde_json::to_value(&whole.native.unwrap().parts).unwrap();
        assert_eq!(parts[0], json!({"part": "opaque", "block": blocks[0]}));
        assert_eq!(parts[2], json!({"part": "text", "text": "Looking."}));
        assert_eq!(parts[3], json!({"part": "call", "index": 0}));
    }

    #[test]
    fn a_whole_input_at_the_start_is_used_unless_deltas_follow() {
        let start = json!({"type": "content_block_start", "index": 0,
            "content_block": {"type": "tool_use", "id": "t1", "name": "add", "input": {"n": 7}}});
        let delta = json!({"type": "content_block_delta", "index": 0,
            "delta": {"type": "input_json_delta", "partial_json": "{\"n\":8}"}});
        for (events, expected) in [(vec![start.clone()], r#"{"n":7}"#), (vec![start, delta], r#"{"n":8}"#)] {
            let mut draft = Draft::default();
            for next in events {
                event(&mut draft, serde_json::from_value(next).unwrap());
            }
            assert_eq!(draft.finish(&crate::test_call::call("")).unwrap().0.tool_calls[0].arguments, expected);
        }
    }

    #[test]
    fn a_refusal_says_why() {
        let body = json!({"content": [{"type": "text", "text": "Partial"}], "stop_reason": "refusal",
            "stop_details": {"category": "bio", "explanation": "words"}, "usage": null});
        let error = whole(&crate::test_call::call(""), serde_json::from_value(body).unwrap())
            .finish(&crate::test_call::call(""))
            .unwrap_err();
        assert!(error.to_string().contains("bio: words"), "{error}");
    }
}
