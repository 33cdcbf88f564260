//! Answers of OpenAI's Responses: whole ones and the events of a stream.

use serde_json::{Value, json};

use super::super::answer::{Answer, Block, Stop, ToolCall, count, tokens};
use super::responses_items::encrypt;
use super::{Piece, Reply, sse};

pub(super) fn whole(reply: &Reply<'_>) -> Value {
    let output: Vec<Value> = reply.answer.blocks().map(|block| item(reply, &block)).collect();
    response(reply, status(reply.answer), output)
}

fn status(answer: &Answer) -> &'static str {
    if answer.stop == Stop::Length { "incomplete" } else { "completed" }
}

/// Returns a response in this state; its usage is known once it has ended.
fn response(reply: &Reply<'_>, status: &str, output: Vec<Value>) -> Value {
    let has_ended = status != "in_progress";
    let details = (status == "incomplete").then(|| json!({"reason": "max_output_tokens"}));
    let usage = (reply.has_usage && has_ended).then(|| usage(reply));
    json!({
        "id": reply.ids.named("resp_"),
        "object": "response",
        "created_at": reply.asked_at.as_secs(),
        "status": status,
        "background": false,
        "error": null,
        "incomplete_details": details,
        "instructions": null,
        "max_output_tokens": reply.prompt.max_tokens,
        "model": reply.prompt.model,
        "output": output,
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "prompt_cache_key": reply.prompt.cache_key,
        "reasoning": {"effort": null, "summary": null},
        "service_tier": reply.prompt.served_tier(),
        "store": false,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage,
        "metadata": {},
    })
}

fn usage(reply: &Reply<'_>) -> Value {
    let counts = &reply.counts;
    json!({
        "input_tokens": counts.input,
        "input_tokens_details": {"cached_tokens": counts.cached, "cache_write_tokens": counts.written},
        "output_tokens": counts.output,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.input + counts.output,
    })
}

fn item(reply: &Reply<'_>, block: &Block<'_>) -> Value {
    let status = status(reply.answer);
    match block {
        Block::Thinking(text) => {
            let summary: &[Value] =
                if reply.prompt.summarizes { &[json!({"type": "summary_text", "text": text})] } else { &[] };
            let mut item = json!({"type": "reasoning", "id": reply.ids.named("rs_"), "summary": summary});
            if reply.prompt.encrypts {
                item["encrypted_content"] = encrypt(&reply.prompt.model, &reply.ids.digits(), text).into();
            }
            item
        }
        Block::Text(text) => message(reply, status, vec![part(reply.answer, text)]),
        Block::Call(at, call) => function_call(reply, *at, call, status, &call.arguments),
    }
}

fn message(reply: &Reply<'_>, status: &str, content: Vec<Value>) -> Value {
    json!({"type": "message", "id": reply.ids.named("msg_"), "status": status, "role": "assistant", "content": content})
}

fn part(answer: &Answer, text: &str) -> Value {
    if answer.stop == Stop::Refusal {
        json!({"type": "refusal", "refusal": text})
    } else {
        json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
    }
}

fn function_call(reply: &Reply<'_>, at: usize, call: &ToolCall, status: &str, arguments: &str) -> Value {
    json!({
        "type": "function_call",
        "id": reply.ids.call("fc_", at, None),
        "call_id": reply.call_id("call_", at),
        "name": call.name,
        "arguments": arguments,
        "status": status,
    })
}

/// The events of a stream with their numbers.
struct Events {
    pieces: Vec<Piece>,
    number: u64,
}

impl Events {
    /// Adds an event that carries so many tokens, of which so many are reasoning.
    fn add(&mut self, kind: &str, mut event: Value, tokens: u64, reasoning: u64) -> Result<(), serde_json::Error> {
        event["type"] = kind.into();
        event["sequence_number"] = self.number.into();
        self.number += 1;
        self.pieces.push(Piece { bytes: sse(Some(kind), &event)?, tokens, reasoning });
        Ok(())
    }

    fn frame(&mut self, kind: &str, event: Value) -> Result<(), serde_json::Error> {
        self.add(kind, event, 0, 0)
    }
}

pub(super) fn pieces(reply: &Reply<'_>) -> Result<Vec<Piece>, serde_json::Error> {
    let mut events = Events { pieces: Vec::new(), number: 0 };
    for kind in ["response.created", "response.in_progress"] {
        events.frame(kind, json!({"response": response(reply, "in_progress", Vec::new())}))?;
    }
    for (index, block) in reply.answer.blocks().enumerate() {
        match block {
            Block::Thinking(text) => reasoning(reply, &mut events, index, text)?,
            Block::Text(text) => text_events(reply, &mut events, index, text)?,
            Block::Call(at, call) => call_events(reply, &mut events, index, at, call)?,
        }
        events.frame("response.output_item.done", json!({"output_index": index, "item": item(reply, &block)}))?;
    }
    let kind = if status(reply.answer) == "incomplete" { "response.incomplete" } else { "response.completed" };
    events.frame(kind, json!({"response": whole(reply)}))?;
    Ok(events.pieces)
}

fn reasoning(reply: &Reply<'_>, events: &mut Events, index: usize, text: &str) -> Result<(), serde_json::Error> {
    let id = reply.ids.named("rs_");
    let item = json!({"type": "reasoning", "id": id, "summary": []});
    // Reasoning that is not shown is counted before any content.
    let hidden = if reply.prompt.summarizes { 0 } else { count(text) };
    events.add("response.output_item.added", json!({"output_index": index, "item": item}), hidden, hidden)?;
    if !reply.prompt.summarizes {
        return Ok(());
    }
    let place = json!({"item_id": id, "output_index": index, "summary_index": 0});
    let with = |key: &str, value: Value| {
        let mut event = place.clone();
        event[key] = value;
        event
    };
    let part = |text: &str| json!({"type": "summary_text", "text": text});
    events.frame("response.reasoning_summary_part.added", with("part", part("")))?;
    for token in tokens(text) {
        events.add("response.reasoning_summary_text.delta", with("delta", token.into()), 1, 1)?;
    }
    events.frame("response.reasoning_summary_text.done", with("text", text.into()))?;
    events.frame("response.reasoning_summary_part.done", with("part", part(text)))
}

fn text_events(reply: &Reply<'_>, events: &mut Events, index: usize, text: &str) -> Result<(), serde_json::Error> {
    let id = reply.ids.named("msg_");
    let added = json!({"output_index": index, "item": message(reply, "in_progress", Vec::new())});
    events.frame("response.output_item.added", added)?;
    let place = json!({"item_id": id, "output_index": index, "content_index": 0});
    let with = |key: &str, value: Value| {
        let mut event = place.clone();
        event[key] = value;
        event
    };
    events.frame("response.content_part.added", with("part", part(reply.answer, "")))?;
    let is_refusal = reply.answer.stop == Stop::Refusal;
    let (delta, done, key) = if is_refusal {
        ("response.refusal.delta", "response.refusal.done", "refusal")
    } else {
        ("response.output_text.delta", "response.output_text.done", "text")
    };
    let complete = |mut event: Value| {
        if !is_refusal {
            event["logprobs"] = json!([]);
        }
        event
    };
    for token in tokens(text) {
        events.add(delta, complete(with("delta", token.into())), 1, 0)?;
    }
    events.frame(done, complete(with(key, text.into())))?;
    events.frame("response.content_part.done", with("part", part(reply.answer, text)))
}

fn call_events(
    reply: &Reply<'_>,
    events: &mut Events,
    index: usize,
    at: usize,
    call: &ToolCall,
) -> Result<(), serde_json::Error> {
    let item = function_call(reply, at, call, "in_progress", "");
    let id = item["id"].clone();
    events.add("response.output_item.added", json!({"output_index": index, "item": item}), count(&call.name), 0)?;
    for token in tokens(&call.arguments) {
        let delta = json!({"item_id": id, "output_index": index, "delta": token});
        events.add("response.function_call_arguments.delta", delta, 1, 0)?;
    }
    let done = json!({"item_id": id, "output_index": index, "name": call.name, "arguments": call.arguments});
    events.frame("response.function_call_arguments.done", done)
}
