//! OpenAI's answers: whole completions and the chunks of a stream.

use bytes::Bytes;
use serde::Serialize;

use super::super::answer::{Answer, Stop, count, tokens};
use super::super::ids::Ids;
use super::super::prompt::TokenCounts;
use super::{Piece, Reply, sse};

/// `system_fingerprint` of all answers.
const FINGERPRINT: &str = "fp_agentry_sim";

/// `usage`.
#[derive(Debug, Clone, Copy, Serialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
    audio_tokens: u64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
    audio_tokens: u64,
    accepted_prediction_tokens: u64,
    rejected_prediction_tokens: u64,
}

impl Usage {
    fn of(counts: &TokenCounts) -> Self {
        Self {
            prompt_tokens: counts.input,
            completion_tokens: counts.output,
            total_tokens: counts.input + counts.output,
            prompt_tokens_details: PromptDetails { cached_tokens: counts.cached, ..PromptDetails::default() },
            completion_tokens_details: CompletionDetails {
                reasoning_tokens: counts.reasoning,
                ..CompletionDetails::default()
            },
        }
    }
}

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: [Choice<'a>; 1],
    usage: Usage,
    service_tier: &'static str,
    system_fingerprint: &'static str,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Vec<ToolCall<'a>>>,
    refusal: Option<()>,
    annotations: [(); 0],
}

#[derive(Serialize)]
struct ToolCall<'a> {
    id: String,
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    service_tier: &'static str,
    system_fingerprint: &'static str,
    choices: &'a [ChunkChoice<'a>],
    /// Absent unless requested; then null in every chunk but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: Delta<'a>,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize, Default)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[ToolDelta<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Option<()>>,
}

#[derive(Serialize)]
struct ToolDelta<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    function: FunctionDelta<'a>,
}

#[derive(Serialize)]
struct FunctionDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

fn finish_reason(answer: &Answer) -> &'static str {
    match answer.stop {
        Stop::End | Stop::Sequence(_) => "stop",
        Stop::Tools => "tool_calls",
        Stop::Length => "length",
        Stop::Refusal => "content_filter",
    }
}

pub(super) fn answer_id(ids: &Ids) -> String {
    ids.named("chatcmpl-")
}

fn call_id(ids: &Ids, index: usize) -> String {
    ids.call("call_", index)
}

pub(super) fn whole(reply: &Reply<'_>) -> Result<Vec<u8>, serde_json::Error> {
    let answer = reply.answer;
    let calls = answer.calls.iter().enumerate().map(|(index, call)| ToolCall {
        id: call_id(reply.ids, index),
        r#type: "function",
        function: Function { name: &call.name, arguments: &call.arguments },
    });
    let tool_calls: Vec<_> = calls.collect();
    let message = Message {
        role: "assistant",
        content: tool_calls.is_empty().then_some(answer.text.as_str()),
        tool_calls: (!tool_calls.is_empty()).then_some(tool_calls),
        refusal: None,
        annotations: [],
    };
    serde_json::to_vec(&Completion {
        id: &answer_id(reply.ids),
        object: "chat.completion",
        created: reply.asked_at.as_secs(),
        model: &reply.prompt.model,
        choices: [Choice { index: 0, message, logprobs: None, finish_reason: finish_reason(answer) }],
        usage: Usage::of(&reply.counts),
        service_tier: "default",
        system_fingerprint: FINGERPRINT,
    })
}

/// Returns the pieces of a stream, in order: the role, one piece per token, the finish reason, the usage when it was
/// requested, `[DONE]`.
pub(super) fn pieces(reply: &Reply<'_>) -> Result<Vec<Piece>, serde_json::Error> {
    let id = answer_id(reply.ids);
    let event = |choices: &[ChunkChoice<'_>], usage: Option<Usage>| {
        let chunk = Chunk {
            id: &id,
            object: "chat.completion.chunk",
            created: reply.asked_at.as_secs(),
            model: &reply.prompt.model,
            service_tier: "default",
            system_fingerprint: FINGERPRINT,
            choices,
            usage: reply.prompt.include_usage.then_some(usage),
        };
        sse(None, &chunk)
    };
    let delta = |delta| event(&[ChunkChoice { index: 0, delta, logprobs: None, finish_reason: None }], None);
    let answer = reply.answer;
    let role = Some("assistant");
    let content = Some(answer.calls.is_empty().then_some(""));
    // Reasoning is not shown, but it is counted before any content.
    let opening = delta(Delta { role, content, refusal: Some(None), tool_calls: None })?;
    let mut pieces = vec![Piece::reasoning(opening, reply.counts.reasoning)];
    for token in tokens(&answer.text) {
        pieces.push(Piece::content(delta(Delta { content: Some(Some(token)), ..Delta::default() })?, 1));
    }
    for (index, call) in answer.calls.iter().enumerate() {
        let part = |id, r#type, name, arguments| {
            let part = ToolDelta { index, id, r#type, function: FunctionDelta { name, arguments } };
            delta(Delta { tool_calls: Some([part]), ..Delta::default() })
        };
        let first = part(Some(call_id(reply.ids, index)), Some("function"), Some(&call.name), "")?;
        pieces.push(Piece::content(first, count(&call.name)));
        for token in tokens(&call.arguments) {
            pieces.push(Piece::content(part(None, None, None, token)?, 1));
        }
    }
    let stop =
        ChunkChoice { index: 0, delta: Delta::default(), logprobs: None, finish_reason: Some(finish_reason(answer)) };
    pieces.push(Piece::frame(event(&[stop], None)?));
    if reply.prompt.include_usage {
        pieces.push(Piece::frame(event(&[], Some(Usage::of(&reply.counts)))?));
    }
    pieces.push(Piece::frame(Bytes::from_static(b"data: [DONE]\n\n")));
    Ok(pieces)
}
