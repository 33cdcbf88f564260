//! Anthropic's answers, whole and as events, and their conversion to a [`Draft`].

use agentry_core::chat::{StopReason, Usage};
use serde::Deserialize;
use serde_json::Value;

use crate::Call;
use crate::wire::{Draft, Progress};

#[derive(Deserialize)]
pub(super) struct WireReply {
    id: Option<String>,
    model: Option<String>,
    content: Vec<Block>,
    stop_reason: Option<String>,
    #[serde(default)]
    usage: WireUsage,
}

/// A content block. Thinking and blocks of later versions are ignored.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block {
    Text {
        #[serde(default)]
        text: String,
    },
    ToolUse {
        id: String,
        name: String,
        #[serde(default)]
        input: Value,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Event {
    MessageStart {
        message: WireReply,
    },
    ContentBlockStart {
        index: u64,
        content_block: Block,
    },
    ContentBlockDelta {
        index: u64,
        delta: BlockDelta,
    },
    MessageDelta {
        delta: ReplyDelta,
        #[serde(default)]
        usage: WireUsage,
    },
    MessageStop,
    Error {
        error: ErrorDetail,
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
    ThinkingDelta {},
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
pub(super) struct ReplyDelta {
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct ErrorDetail {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub message: String,
}

/// Cumulative counts; an absent field has not changed.
#[derive(Deserialize, Default, Clone, Copy)]
pub(super) struct WireUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
}

#[derive(Deserialize, Default, Clone, Copy)]
pub(super) struct CacheCreation {
    #[serde(default)]
    ephemeral_1h_input_tokens: u64,
}

impl WireUsage {
    /// Merges the counts into `usage`. Anthropic counts cached tokens apart from the rest of the input.
    fn merge_into(&self, usage: &mut Usage) {
        let before_cached = usage.cached_tokens;
        let before_written = usage.cache_write_tokens + usage.cache_write_1h_tokens;
        let fresh = usage.input_tokens.saturating_sub(before_cached).saturating_sub(before_written);
        let fresh = self.input_tokens.unwrap_or(fresh);
        usage.cached_tokens = self.cache_read_input_tokens.unwrap_or(before_cached);
        if let Some(written) = self.cache_creation_input_tokens {
            let hour = self.cache_creation.unwrap_or_default().ephemeral_1h_input_tokens.min(written);
            // A later event repeats the total without its parts.
            if self.cache_creation.is_some() || written != before_written {
                (usage.cache_write_tokens, usage.cache_write_1h_tokens) = (written - hour, hour);
            }
        }
        let written = usage.cache_write_tokens + usage.cache_write_1h_tokens;
        usage.input_tokens = fresh.saturating_add(usage.cached_tokens).saturating_add(written);
        usage.output_tokens = self.output_tokens.unwrap_or(usage.output_tokens);
    }
}

pub(super) fn whole(call: &Call, reply: WireReply) -> Draft {
    let mut draft = Draft::of(call);
    (draft.id, draft.model) = (reply.id, reply.model);
    draft.stop = reply.stop_reason.as_deref().map(stop);
    reply.usage.merge_into(&mut draft.usage);
    for block in reply.content {
        match block {
            Block::Text { text } => draft.text(&text),
            Block::ToolUse { id, name, input } => {
                draft.tool(&id, &name, &input.to_string());
            }
            Block::Other => {}
        }
    }
    draft
}

pub(super) fn event(draft: &mut Draft, event: Event) -> Progress {
    match event {
        Event::MessageStart { message } => {
            (draft.id, draft.model) = (message.id.or(draft.id.take()), message.model);
            message.usage.merge_into(&mut draft.usage);
        }
        Event::ContentBlockStart { content_block: Block::Text { text }, .. } => draft.text(&text),
        // Arguments follow in deltas; here they are always empty.
        Event::ContentBlockStart { index, content_block: Block::ToolUse { id, name, .. } } => {
            draft.tool_begins(index, &id, &name);
        }
        Event::ContentBlockDelta { delta: BlockDelta::TextDelta { text }, .. } => draft.text(&text),
        Event::ContentBlockDelta { index, delta: BlockDelta::InputJsonDelta { partial_json } } => {
            draft.tool_arguments(index, &partial_json);
        }
        Event::ContentBlockDelta { delta: BlockDelta::ThinkingDelta {}, .. } => draft.has_begun = true,
        Event::MessageDelta { delta, usage } => {
            if let Some(reason) = delta.stop_reason {
                draft.stop = Some(stop(&reason));
            }
            usage.merge_into(&mut draft.usage);
        }
        Event::MessageStop => return Progress::Done,
        _ => {}
    }
    Progress::More
}

fn stop(reason: &str) -> StopReason {
    match reason {
        "end_turn" | "stop_sequence" => StopReason::End,
        "tool_use" => StopReason::ToolCalls,
        "max_tokens" | "model_context_window_exceeded" => StopReason::Length,
        "refusal" => StopReason::ContentFilter,
        _ => StopReason::Other,
    }
}

#[cfg(test)]
mod tests {
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
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {}}}),
            json!({"type": "something_new", "x": 1}),
        ] {
            assert_eq!(event(&mut draft, serde_json::from_value(next).unwrap()), Progress::More);
        }
        assert!(draft.has_begun && draft.content.is_empty());
    }
}
