//! Answers as they go over the wire: whole completions and the chunks of a stream, field for field.

use bytes::Bytes;
use serde::Serialize;

use super::brain::Answer;

/// Characters of one piece of a stream: one token.
const PIECE_CHARS: usize = 4;
/// What the simulator gives as its version.
const FINGERPRINT: &str = "fp_agentry_sim";

/// What every answer carries.
pub(super) struct Head<'a> {
    /// The number of the request, from which ids are made.
    pub(super) n: u64,
    /// The model.
    pub(super) model: &'a str,
    /// Seconds since the Unix epoch.
    pub(super) created: u64,
    /// Tokens.
    pub(super) usage: Usage,
}

/// `usage`.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Usage {
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
    /// Nothing cached, nothing reasoned.
    pub(super) fn new(input: u64, output: u64) -> Self {
        Self {
            prompt_tokens: input,
            completion_tokens: output,
            total_tokens: input + output,
            prompt_tokens_details: PromptDetails::default(),
            completion_tokens_details: CompletionDetails::default(),
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
    tool_calls: Option<[ToolCall<'a>; 1]>,
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
    /// Absent unless asked for; then null in every chunk but the last.
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
    index: u32,
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

fn completion_id(n: u64) -> String {
    format!("chatcmpl-sim{n:012}")
}

fn call_id(n: u64) -> String {
    format!("call_sim{n:012}")
}

fn finish_reason(answer: &Answer) -> &'static str {
    match answer {
        Answer::Text(_) => "stop",
        Answer::Call { .. } => "tool_calls",
    }
}

/// A whole answer.
pub(super) fn completion(head: &Head<'_>, answer: &Answer) -> Result<Vec<u8>, serde_json::Error> {
    let (content, tool_calls) = match answer {
        Answer::Text(text) => (Some(text.as_str()), None),
        Answer::Call { name, arguments } => {
            let function = Function { name, arguments };
            (None, Some([ToolCall { id: call_id(head.n), r#type: "function", function }]))
        }
    };
    let message = Message { role: "assistant", content, tool_calls, refusal: None, annotations: [] };
    serde_json::to_vec(&Completion {
        id: &completion_id(head.n),
        object: "chat.completion",
        created: head.created,
        model: head.model,
        choices: [Choice { index: 0, message, logprobs: None, finish_reason: finish_reason(answer) }],
        usage: head.usage,
        service_tier: "default",
        system_fingerprint: FINGERPRINT,
    })
}

/// The events of a stream, in order: the role, one piece per token, the reason to stop, the usage when it was asked
/// for, `[DONE]`.
pub(super) fn events(head: &Head<'_>, answer: &Answer, include_usage: bool) -> Result<Vec<Bytes>, serde_json::Error> {
    let id = completion_id(head.n);
    let event = |choices: &[ChunkChoice<'_>], usage: Option<Usage>| {
        let mut line = b"data: ".to_vec();
        serde_json::to_writer(
            &mut line,
            &Chunk {
                id: &id,
                object: "chat.completion.chunk",
                created: head.created,
                model: head.model,
                service_tier: "default",
                system_fingerprint: FINGERPRINT,
                choices,
                usage: include_usage.then_some(usage),
            },
        )?;
        line.extend_from_slice(b"\n\n");
        Ok::<_, serde_json::Error>(Bytes::from(line))
    };
    let choice = |delta, finish_reason| [ChunkChoice { index: 0, delta, logprobs: None, finish_reason }];
    let mut events = vec![event(&choice(opening(head.n, answer), None), None)?];
    let text = match answer {
        Answer::Text(text) => text,
        Answer::Call { arguments, .. } => arguments,
    };
    for piece in pieces(text) {
        events.push(event(&choice(delta(answer, piece), None), None)?);
    }
    events.push(event(&choice(Delta::default(), Some(finish_reason(answer))), None)?);
    if include_usage {
        events.push(event(&[], Some(head.usage))?);
    }
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    Ok(events)
}

fn opening(n: u64, answer: &Answer) -> Delta<'_> {
    let role = Some("assistant");
    match answer {
        Answer::Text(_) => Delta { role, content: Some(Some("")), refusal: Some(None), tool_calls: None },
        Answer::Call { name, .. } => {
            let function = FunctionDelta { name: Some(name), arguments: "" };
            let call = ToolDelta { index: 0, id: Some(call_id(n)), r#type: Some("function"), function };
            Delta { role, content: Some(None), refusal: Some(None), tool_calls: Some([call]) }
        }
    }
}

fn delta<'a>(answer: &Answer, piece: &'a str) -> Delta<'a> {
    match answer {
        Answer::Text(_) => Delta { content: Some(Some(piece)), ..Delta::default() },
        Answer::Call { .. } => {
            let function = FunctionDelta { name: None, arguments: piece };
            Delta { tool_calls: Some([ToolDelta { index: 0, id: None, r#type: None, function }]), ..Delta::default() }
        }
    }
}

fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.char_indices().nth(PIECE_CHARS).map_or(rest.len(), |(end, _)| end);
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}
