//! Answers of providers, written by hand from their documentation: the same content in four protocols.

use agentry_core::agent::ProviderKind;
use agentry_llm::{AwsEnvironment, Endpoints, Timeouts};
use serde_json::{Value, json};

use crate::server::Answer;

pub const KEY: &str = "sk-test-AKIDEXAMPLE-0123456789";

#[derive(Debug, Clone, Copy)]
pub enum Part {
    Text(&'static str),
    Tool(&'static str, &'static str, &'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    End,
    Tools,
    Length,
    Filter,
}

#[derive(Debug, Clone, Copy)]
pub struct Dialect(pub ProviderKind);

pub const ALL: [Dialect; 4] = [
    Dialect(ProviderKind::Openai),
    Dialect(ProviderKind::Anthropic),
    Dialect(ProviderKind::Bedrock),
    Dialect(ProviderKind::Ollama),
];

impl Dialect {
    /// Returns endpoints with a key for this provider at a server.
    pub fn endpoints(self, url: &str) -> Endpoints {
        let (key, at) = (|| Some(KEY.to_owned().into()), Some(url.to_owned()));
        let timeouts = Timeouts::default();
        let none = Endpoints { timeouts, ..Endpoints::default() };
        match self.0 {
            ProviderKind::Openai => Endpoints { openai_api_key: key(), openai_base_url: at, ..none },
            ProviderKind::Anthropic => Endpoints { anthropic_api_key: key(), anthropic_base_url: at, ..none },
            ProviderKind::Bedrock => {
                let variables =
                    [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", KEY), ("AWS_SESSION_TOKEN", KEY)];
                Endpoints {
                    aws: AwsEnvironment::of(&variables),
                    aws_region: Some("us-east-1".to_owned()),
                    bedrock_base_url: at,
                    ..none
                }
            }
            _ => Endpoints { ollama_api_key: key(), ollama_base_url: at, ..none },
        }
    }

    /// Returns a whole answer with 12 input tokens, of which 5 were cached where the provider reports it, and 7 output
    /// tokens.
    pub fn whole(self, parts: &[Part], why: Why) -> Answer {
        let body = match self.0 {
            ProviderKind::Openai => {
                let text: String = texts(parts).collect();
                let calls: Vec<Value> = tools(parts)
                    .map(|(id, name, arguments)| {
                        json!({"id": id, "type": "function",
                    "function": {"name": name, "arguments": arguments}})
                    })
                    .collect();
                json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m-2025", "choices": [{"index": 0,
                    "message": {"role": "assistant", "content": text, "refusal": null, "tool_calls": calls},
                    "logprobs": null, "finish_reason": self.why(why)}], "usage": self.usage()})
            }
            ProviderKind::Anthropic => json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m-2025",
                "content": parts.iter().map(anthropic_block).collect::<Vec<_>>(), "stop_reason": self.why(why),
                "stop_sequence": null, "usage": self.usage()}),
            ProviderKind::Bedrock => json!({"output": {"message": {"role": "assistant",
                "content": parts.iter().map(bedrock_block).collect::<Vec<_>>()}}, "stopReason": self.why(why),
                "usage": self.usage(), "metrics": {"latencyMs": 5}}),
            _ => ollama_line(parts, Some(why)),
        };
        Answer::new(200, "application/json", vec![body.to_string().into_bytes()])
    }

    /// Returns the same as a stream, with texts and arguments in two pieces.
    pub fn stream(self, parts: &[Part], why: Why) -> Answer {
        Answer::new(200, self.stream_type(), [self.begins(), self.says(parts), self.ends(why)].concat())
    }

    pub fn stream_type(self) -> &'static str {
        match self.0 {
            ProviderKind::Bedrock => "application/vnd.amazon.eventstream",
            ProviderKind::Ollama => "application/x-ndjson",
            _ => "text/event-stream; charset=utf-8",
        }
    }

    pub fn begins(self) -> Vec<Vec<u8>> {
        match self.0 {
            ProviderKind::Openai => vec![openai_chunk(&json!({"role": "assistant", "content": ""}), None)],
            ProviderKind::Anthropic => {
                let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m-2025",
                    "content": [], "stop_reason": null, "usage": {"input_tokens": 7, "cache_read_input_tokens": 5,
                    "cache_creation_input_tokens": 0, "output_tokens": 1}});
                vec![event(&json!({"type": "message_start", "message": message})), event(&json!({"type": "ping"}))]
            }
            ProviderKind::Bedrock => vec![message("event", "messageStart", &json!({"role": "assistant"}))],
            _ => vec![],
        }
    }

    pub fn says(self, parts: &[Part]) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            match self.0 {
                ProviderKind::Openai => pieces.extend(openai_pieces(index, part)),
                ProviderKind::Anthropic => pieces.extend(anthropic_pieces(index, part)),
                ProviderKind::Bedrock => pieces.extend(bedrock_pieces(index, part)),
                _ => match part {
                    Part::Text(text) => {
                        let (one, two) = halves(text);
                        pieces.extend([one, two].map(|half| line(&ollama_line(&[Part::Text(half)], None))));
                    }
                    Part::Tool(..) => pieces.push(line(&ollama_line(&[*part], None))),
                },
            }
        }
        pieces
    }

    pub fn ends(self, why: Why) -> Vec<Vec<u8>> {
        match self.0 {
            ProviderKind::Openai => {
                let usage = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": self.usage()});
                vec![openai_chunk(&json!({}), Some(self.why(why))), data(&usage), b"data: [DONE]\n\n".to_vec()]
            }
            ProviderKind::Anthropic => vec![
                event(&json!({"type": "message_delta", "delta": {"stop_reason": self.why(why), "stop_sequence": null},
                    "usage": {"output_tokens": 7}})),
                event(&json!({"type": "message_stop"})),
            ],
            ProviderKind::Bedrock => vec![
                message("event", "messageStop", &json!({"stopReason": self.why(why)})),
                message("event", "metadata", &json!({"usage": self.usage(), "metrics": {"latencyMs": 5}})),
            ],
            _ => vec![line(&ollama_line(&[], Some(why)))],
        }
    }

    pub fn breaks(self, words: &str) -> Vec<u8> {
        match self.0 {
            ProviderKind::Openai => data(&json!({"error": {"message": words, "type": "server_error"}})),
            ProviderKind::Anthropic => {
                event(&json!({"type": "error", "error": {"type": "overloaded_error", "message": words}}))
            }
            ProviderKind::Bedrock => message("exception", "serviceUnavailableException", &json!({"message": words})),
            _ => line(&json!({"error": words})),
        }
    }

    pub fn garbage(self) -> Vec<u8> {
        match self.0 {
            ProviderKind::Openai | ProviderKind::Anthropic => b"event: x\ndata: {\"type\": nonsense\n\n".to_vec(),
            ProviderKind::Bedrock => {
                let mut frame =
                    message("event", "contentBlockDelta", &json!({"delta": {"text": "x"}, "contentBlockIndex": 0}));
                // Damages the length: a client that trusts it waits for four gigabytes.
                frame[0] ^= 0xff;
                frame
            }
            _ => b"{\"model\": nonsense\n".to_vec(),
        }
    }

    pub fn refuses(self, status: u16, words: &str) -> Answer {
        let (body, kind) = match self.0 {
            ProviderKind::Openai => {
                (json!({"error": {"message": words, "type": "invalid_request_error", "param": null, "code": null}}), "")
            }
            ProviderKind::Anthropic => {
                let kind = match status {
                    401 => "authentication_error",
                    404 => "not_found_error",
                    429 => "rate_limit_error",
                    500 => "api_error",
                    529 => "overloaded_error",
                    _ => "invalid_request_error",
                };
                (json!({"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_1"}), "")
            }
            ProviderKind::Bedrock => {
                let kind = match status {
                    401 => "UnrecognizedClientException",
                    404 => "ResourceNotFoundException",
                    429 => "ThrottlingException",
                    500 => "InternalServerException",
                    529 => "ServiceUnavailableException",
                    _ => "ValidationException",
                };
                (json!({"message": words}), kind)
            }
            _ => (json!({"error": words}), ""),
        };
        let answer = Answer::new(status, "application/json", vec![body.to_string().into_bytes()]);
        if kind.is_empty() { answer } else { answer.with("x-amzn-errortype", kind) }
    }

    pub fn cached(self) -> u64 {
        if self.0 == ProviderKind::Ollama { 0 } else { 5 }
    }

    fn usage(self) -> Value {
        match self.0 {
            ProviderKind::Openai => json!({"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19,
                "prompt_tokens_details": {"cached_tokens": 5}, "completion_tokens_details": {"reasoning_tokens": 0}}),
            ProviderKind::Anthropic => json!({"input_tokens": 7, "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 5, "output_tokens": 7}),
            _ => json!({"inputTokens": 7, "outputTokens": 7, "totalTokens": 19, "cacheReadInputTokens": 5,
                "cacheWriteInputTokens": 0}),
        }
    }

    fn why(self, why: Why) -> &'static str {
        let words = match self.0 {
            ProviderKind::Openai => ["stop", "tool_calls", "length", "content_filter"],
            ProviderKind::Anthropic => ["end_turn", "tool_use", "max_tokens", "refusal"],
            ProviderKind::Bedrock => ["end_turn", "tool_use", "max_tokens", "content_filtered"],
            _ => ["stop", "stop", "length", "content_filter"],
        };
        words[why as usize]
    }
}

fn texts(parts: &[Part]) -> impl Iterator<Item = &'static str> + '_ {
    parts.iter().filter_map(|part| if let Part::Text(text) = part { Some(*text) } else { None })
}

fn tools(parts: &[Part]) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> + '_ {
    parts.iter().filter_map(|part| if let Part::Tool(id, name, args) = part { Some((*id, *name, *args)) } else { None })
}

fn halves(text: &'static str) -> (&'static str, &'static str) {
    text.split_at(text.len() / 2)
}

fn parsed(arguments: &str) -> Value {
    serde_json::from_str(arguments).unwrap()
}

fn data(value: &Value) -> Vec<u8> {
    format!("data: {value}\n\n").into_bytes()
}

fn event(value: &Value) -> Vec<u8> {
    format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap()).into_bytes()
}

fn line(value: &Value) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

fn openai_chunk(delta: &Value, why: Option<&str>) -> Vec<u8> {
    data(&json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m-2025",
        "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": why}]}))
}

fn openai_pieces(index: usize, part: &Part) -> Vec<Vec<u8>> {
    match part {
        Part::Text(text) => {
            let (one, two) = halves(text);
            [one, two].map(|half| openai_chunk(&json!({"content": half}), None)).to_vec()
        }
        Part::Tool(id, name, arguments) => {
            let (one, two) = halves(arguments);
            let delta = |call: Value| openai_chunk(&json!({"tool_calls": [call]}), None);
            vec![
                delta(
                    json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}),
                ),
                delta(json!({"index": index, "function": {"arguments": one}})),
                delta(json!({"index": index, "function": {"arguments": two}})),
            ]
        }
    }
}

fn anthropic_block(part: &Part) -> Value {
    match part {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Tool(id, name, arguments) => {
            json!({"type": "tool_use", "id": id, "name": name, "input": parsed(arguments)})
        }
    }
}

fn anthropic_pieces(index: usize, part: &Part) -> Vec<Vec<u8>> {
    let (block, deltas) = match part {
        Part::Text(text) => {
            let (one, two) = halves(text);
            (json!({"type": "text", "text": ""}), [one, two].map(|half| json!({"type": "text_delta", "text": half})))
        }
        Part::Tool(id, name, arguments) => {
            let (one, two) = halves(arguments);
            let deltas = [one, two].map(|half| json!({"type": "input_json_delta", "partial_json": half}));
            (json!({"type": "tool_use", "id": id, "name": name, "input": {}}), deltas)
        }
    };
    let mut pieces = vec![event(&json!({"type": "content_block_start", "index": index, "content_block": block}))];
    pieces.extend(deltas.map(|delta| event(&json!({"type": "content_block_delta", "index": index, "delta": delta}))));
    pieces.push(event(&json!({"type": "content_block_stop", "index": index})));
    pieces
}

fn bedrock_block(part: &Part) -> Value {
    match part {
        Part::Text(text) => json!({"text": text}),
        Part::Tool(id, name, arguments) => {
            json!({"toolUse": {"toolUseId": id, "name": name, "input": parsed(arguments)}})
        }
    }
}

fn bedrock_pieces(index: usize, part: &Part) -> Vec<Vec<u8>> {
    let delta =
        |delta: Value| message("event", "contentBlockDelta", &json!({"delta": delta, "contentBlockIndex": index}));
    let mut pieces = match part {
        Part::Text(text) => {
            let (one, two) = halves(text);
            [one, two].map(|half| delta(json!({"text": half}))).to_vec()
        }
        Part::Tool(id, name, arguments) => {
            let (one, two) = halves(arguments);
            let start = json!({"start": {"toolUse": {"toolUseId": id, "name": name}}, "contentBlockIndex": index});
            vec![
                message("event", "contentBlockStart", &start),
                delta(json!({"toolUse": {"input": one}})),
                delta(json!({"toolUse": {"input": two}})),
            ]
        }
    };
    pieces.push(message("event", "contentBlockStop", &json!({"contentBlockIndex": index})));
    pieces
}

fn ollama_line(parts: &[Part], done: Option<Why>) -> Value {
    let text: String = texts(parts).collect();
    let calls: Vec<Value> =
        tools(parts).map(|(_, name, args)| json!({"function": {"name": name, "arguments": parsed(args)}})).collect();
    let mut message = json!({"role": "assistant", "content": text});
    if !calls.is_empty() {
        message["tool_calls"] = json!(calls);
    }
    let mut line =
        json!({"model": "m-2025", "created_at": "2025-11-01T00:00:00Z", "message": message, "done": done.is_some()});
    if let Some(why) = done {
        line["done_reason"] = json!(Dialect(ProviderKind::Ollama).why(why));
        for (name, count) in [
            ("total_duration", 5),
            ("load_duration", 1),
            ("prompt_eval_count", 12),
            ("prompt_eval_duration", 1),
            ("eval_count", 7),
            ("eval_duration", 3),
        ] {
            line[name] = json!(count);
        }
    }
    line
}

/// Encodes a frame of AWS's event stream: lengths, their checksum, headers, payload, and a checksum of all.
fn message(kind: &str, name: &str, payload: &Value) -> Vec<u8> {
    let mut headers = Vec::new();
    for (key, value) in
        [(":message-type", kind), (&format!(":{kind}-type"), name), (":content-type", "application/json")]
    {
        headers.push(u8::try_from(key.len()).unwrap());
        headers.extend(key.as_bytes());
        // The header is a string.
        headers.push(7);
        headers.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        headers.extend(value.as_bytes());
    }
    let payload = payload.to_string().into_bytes();
    let total = u32::try_from(12 + headers.len() + payload.len() + 4).unwrap();
    let mut frame = total.to_be_bytes().to_vec();
    frame.extend(u32::try_from(headers.len()).unwrap().to_be_bytes());
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame.extend(headers);
    frame.extend(payload);
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame
}
