//! One table of cases for every client over four protocols, with answers written by hand and sent over sockets.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::agent::ProviderKind;
use agentry_core::chat::{Message, StopReason, ToolDefinition};
use agentry_llm::{Call, Endpoints, LlmError, LlmErrorKind, MAX_BODY_BYTES, TimedReply, Timeouts, TokenSink};
use serde_json::{Value, json};

use crate::common::{Pieces, call};
use crate::dialect::{ALL, Dialect, KEY, Part, Why};
use crate::server::{Answer, End, ReceivedRequest, Server};

const HELLO: &[Part] = &[Part::Text("Hello, wörld.")];
const CALLS: &[Part] =
    &[Part::Tool("t-1", "find", r#"{"query":"late \"parcel\""}"#), Part::Tool("t-2", "close", r#"{"id":[1,2]}"#)];

/// Returns a call to a provider; the endpoints have the address.
fn ask(dialect: Dialect) -> Call {
    let mut call = call("", "Say hello.");
    call.target.provider = dialect.0;
    call.target.model = "vendor.model-v1:0".into();
    call
}

struct Outcome {
    result: Result<TimedReply, LlmError>,
    pieces: Vec<String>,
    asked: Vec<ReceivedRequest>,
}

/// Makes a call to a server that gives this answer.
async fn made(
    dialect: Dialect,
    answer: Answer,
    stream: bool,
    change: impl FnOnce(&mut Call, &mut Endpoints),
) -> Outcome {
    let server = Server::start(answer).await;
    let mut endpoints = dialect.endpoints(&server.url);
    let mut call = ask(dialect);
    change(&mut call, &mut endpoints);
    let sink = Arc::new(Pieces::default());
    let listening = stream.then(|| sink.clone() as Arc<dyn TokenSink>);
    let result = endpoints.provider(dialect.0).call(&call, listening).await;
    Outcome { result, pieces: sink.all(), asked: server.asked() }
}

/// Makes the call both ways, streaming and not, each with its own answer.
async fn both(dialect: Dialect, parts: &'static [Part], why: Why, change: impl Fn(&mut Call) + Copy) -> [Outcome; 2] {
    let change = |call: &mut Call, _: &mut Endpoints| change(call);
    [
        made(dialect, dialect.whole(parts, why), false, change).await,
        made(dialect, dialect.stream(parts, why), true, change).await,
    ]
}

#[tokio::test]
async fn an_answer_is_the_same_whole_and_streamed() {
    for dialect in ALL {
        let [whole, streamed] = both(dialect, HELLO, Why::End, |_| {}).await;
        let (whole, timed) = (whole.result.unwrap(), streamed.result.unwrap());
        assert_eq!(whole.reply, timed.reply, "{dialect:?}");
        let usage = whole.reply.usage;
        assert_eq!(
            (usage.input_tokens, usage.output_tokens, usage.cached_tokens),
            (12, 7, dialect.cached()),
            "{dialect:?}"
        );
        assert_eq!((whole.reply.content.as_str(), whole.reply.stop), ("Hello, wörld.", StopReason::End), "{dialect:?}");
        assert!(streamed.pieces.len() > 1 && streamed.pieces.concat() == whole.reply.content, "{dialect:?}");
        assert!(timed.first_token.unwrap() <= timed.duration && whole.first_token.is_none(), "{dialect:?}");
        let names = dialect.0 != ProviderKind::Bedrock;
        assert_eq!(whole.reply.model, if names { "m-2025" } else { "vendor.model-v1:0" }, "{dialect:?}");
    }
}

#[tokio::test]
async fn every_call_is_sent_where_and_as_the_protocol_wants_it() {
    for dialect in ALL {
        for outcome in both(dialect, HELLO, Why::End, |_| {}).await {
            let asked = &outcome.asked[0];
            let (path, key, value) = match dialect.0 {
                ProviderKind::Openai => ("/chat/completions", "authorization", format!("Bearer {KEY}")),
                ProviderKind::Anthropic => ("/v1/messages", "x-api-key", KEY.to_owned()),
                ProviderKind::Bedrock => {
                    ("/model/vendor.model-v1%3A0/converse", "x-amz-security-token", KEY.to_owned())
                }
                _ => ("/api/chat", "authorization", format!("Bearer {KEY}")),
            };
            assert!(asked.path().starts_with(path), "{dialect:?}: {}", asked.path());
            assert_eq!(asked.header(key), Some(value.as_str()), "{dialect:?}");
            assert_eq!(asked.header("x-request-id").unwrap(), ask(dialect).id.to_string());
            assert!(asked.header("traceparent").unwrap().starts_with("00-"));
            assert!(serde_json::from_str::<Value>(&asked.body).unwrap()["messages"].is_array());
        }
    }
}

#[tokio::test]
async fn tools_are_called_whole_and_streamed() {
    for dialect in ALL {
        for outcome in both(dialect, CALLS, Why::Tools, |_| {}).await {
            let reply = outcome.result.unwrap().reply;
            assert_eq!(reply.stop, StopReason::ToolCalls, "{dialect:?}");
            let names: Vec<&str> = reply.tool_calls.iter().map(|call| call.name.as_str()).collect();
            assert_eq!(names, ["find", "close"], "{dialect:?}");
            for (call, expected) in
                reply.tool_calls.iter().zip([json!({"query": "late \"parcel\""}), json!({"id": [1, 2]})])
            {
                assert_eq!(serde_json::from_str::<Value>(&call.arguments).unwrap(), expected, "{dialect:?}");
            }
            assert_ne!(reply.tool_calls[0].id, reply.tool_calls[1].id, "{dialect:?}");
        }
    }
}

#[tokio::test]
async fn results_of_tools_go_back_under_the_names_of_their_calls() {
    for dialect in ALL {
        let reply = made(dialect, dialect.whole(CALLS, Why::Tools), false, |_, _| {}).await.result.unwrap().reply;
        let outcome = made(dialect, dialect.whole(HELLO, Why::End), false, |call, _| {
            call.request.messages.push(reply.to_message());
            for tool in &reply.tool_calls {
                let content = format!("result of {}", tool.name);
                call.request.messages.push(Message::Tool { call_id: tool.id.clone(), content, is_error: false });
            }
            let tool = |name: &str| ToolDefinition {
                name: name.into(),
                description: "A tool.".into(),
                parameters: json!({"type": "object"}),
            };
            call.request.tools = vec![tool("find"), tool("close")];
        })
        .await;
        let body = &outcome.asked[0].body;
        for words in ["result of find", "result of close", "late"] {
            assert!(body.contains(words), "{dialect:?}: {words} in {body}");
        }
        outcome.result.unwrap();
    }
}

#[tokio::test]
async fn an_answer_of_a_certain_form_is_json() {
    let schema = json!({"type": "object", "title": "triage", "properties": {"team": {"type": "string"}},
        "required": ["team"], "additionalProperties": false});
    const TEXT: &[Part] = &[Part::Text(r#"{"team":"billing"}"#)];
    const TOOL: &[Part] = &[Part::Tool("t-1", "agentry_answer", r#"{"team":"billing"}"#)];
    for dialect in ALL {
        let by_tool = matches!(dialect.0, ProviderKind::Anthropic | ProviderKind::Bedrock);
        let (parts, why) = if by_tool { (TOOL, Why::Tools) } else { (TEXT, Why::End) };
        for outcome in both(dialect, parts, why, |call| call.request.output_schema = Some(schema.clone())).await {
            let reply = outcome.result.unwrap().reply;
            assert_eq!(
                serde_json::from_str::<Value>(&reply.content).unwrap(),
                json!({"team": "billing"}),
                "{dialect:?}"
            );
            assert_eq!((reply.stop, reply.tool_calls.len()), (StopReason::End, 0), "{dialect:?}");
            assert!(outcome.asked[0].body.contains("additionalProperties"), "{dialect:?}");
            assert!(outcome.pieces.is_empty() || outcome.pieces.concat() == reply.content, "{dialect:?}");
        }
    }
}

#[tokio::test]
async fn why_a_model_stopped_is_told() {
    for dialect in ALL {
        for outcome in both(dialect, HELLO, Why::Length, |_| {}).await {
            assert_eq!(outcome.result.unwrap().reply.stop, StopReason::Length, "{dialect:?}");
        }
        for outcome in both(dialect, HELLO, Why::Filter, |_| {}).await {
            match outcome.result {
                // Ollama has no content filter.
                Ok(timed) if dialect.0 == ProviderKind::Ollama => assert_eq!(timed.reply.stop, StopReason::Other),
                result => assert_eq!(result.unwrap_err().kind, LlmErrorKind::Refused, "{dialect:?}"),
            }
        }
    }
}

#[tokio::test]
async fn refusals_are_told_apart_in_the_providers_own_words() {
    let limited = LlmErrorKind::RateLimited { retry_after: Some(Duration::from_millis(1_500)) };
    let overloaded = LlmErrorKind::Overloaded { retry_after: None };
    for dialect in ALL {
        for (status, words, kind) in [
            (400, "this model does not support tools", LlmErrorKind::InvalidRequest),
            (401, "the key is not valid", LlmErrorKind::Authentication),
            (404, "model `vendor.model` not found", LlmErrorKind::ModelGone),
            (429, "slow down", limited),
            (500, "we are sorry", LlmErrorKind::Unavailable),
            (529, "too many others", overloaded),
        ] {
            for stream in [false, true] {
                let mut answer = dialect.refuses(status, words);
                if status == 429 {
                    answer = answer.with("retry-after-ms", "1500");
                }
                let error = made(dialect, answer, stream, |_, _| {}).await.result.unwrap_err();
                assert_eq!(error.kind, kind, "{dialect:?} {status}: {error}");
                assert!(error.message.contains(words), "{dialect:?} {status}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_answer_is_malformed() {
    let page = b"<html><body>Please sign in</body></html>".to_vec();
    for dialect in ALL {
        let answer = Answer::new(200, "text/html", vec![page.clone()]);
        for stream in [false, true] {
            let error = made(dialect, answer.clone(), stream, |_, _| {}).await.result.unwrap_err();
            assert_eq!(error.kind, LlmErrorKind::Malformed, "{dialect:?}: {error}");
            assert!(error.message.contains("Please sign in"), "{dialect:?}: {error}");
        }
        let frames = [dialect.begins(), dialect.says(HELLO), vec![dialect.garbage()]].concat();
        // The connection stays open without data, so a client that waits for the rest of the frame fails.
        let answer = Answer::new(200, dialect.stream_type(), frames).ending(End::Silence);
        let error = made(dialect, answer, true, |_, _| {}).await.result.unwrap_err();
        assert_eq!(error.kind, LlmErrorKind::Malformed, "{dialect:?}: {error}");
    }
}

#[tokio::test]
async fn what_was_cut_off_is_unavailable_and_what_was_counted_is_kept() {
    for dialect in ALL {
        let whole = dialect.whole(HELLO, Why::End);
        let half = whole.pieces[0][..20].to_vec();
        let answer = Answer { pieces: vec![half], ..whole }.ending(End::Cut);
        let error = made(dialect, answer, false, |_, _| {}).await.result.unwrap_err();
        assert_eq!(error.kind, LlmErrorKind::Unavailable, "{dialect:?}: {error}");
        for end in [End::Cut, End::Whole] {
            let frames = [dialect.begins(), dialect.says(HELLO)].concat();
            let answer = Answer::new(200, dialect.stream_type(), frames).ending(end);
            let error = made(dialect, answer, true, |_, _| {}).await.result.unwrap_err();
            assert_eq!(error.kind, LlmErrorKind::Unavailable, "{dialect:?} {end:?}: {error}");
            assert!(error.message.contains("cut off"), "{dialect:?} {end:?}: {error}");
            if dialect.0 == ProviderKind::Anthropic {
                assert_eq!(error.usage.input_tokens, 12, "told before the text");
            }
        }
    }
}

#[tokio::test]
async fn an_error_within_a_stream_is_told_in_its_words() {
    for dialect in ALL {
        let frames = [dialect.begins(), dialect.says(HELLO), vec![dialect.breaks("the machine caught fire")]].concat();
        let answer = Answer::new(200, dialect.stream_type(), frames).ending(End::Silence);
        let error = made(dialect, answer, true, |_, _| {}).await.result.unwrap_err();
        assert!(error.is_retryable() && error.message.contains("the machine caught fire"), "{dialect:?}: {error}");
    }
}

#[tokio::test]
async fn silence_ends_before_the_whole_time_does() {
    let short = Duration::from_millis(150);
    for dialect in ALL {
        for (frames, words) in
            [(dialect.begins(), "no first token"), ([dialect.begins(), dialect.says(HELLO)].concat(), "silence")]
        {
            let answer = Answer::new(200, dialect.stream_type(), frames).ending(End::Silence);
            let error = made(dialect, answer, true, |_, endpoints| {
                endpoints.timeouts = Timeouts { first_token: short, between_tokens: short, ..Timeouts::default() };
            })
            .await
            .result
            .unwrap_err();
            assert_eq!(error.kind, LlmErrorKind::Timeout, "{dialect:?}: {error}");
            assert!(error.message.contains(words), "{dialect:?}: {error}");
        }
        for stream in [false, true] {
            let answer = Answer::new(200, dialect.stream_type(), dialect.begins()).ending(End::Silence);
            let error = made(dialect, answer, stream, |call, _| call.timeout = short).await.result.unwrap_err();
            assert_eq!(error.kind, LlmErrorKind::Timeout, "{dialect:?}: {error}");
            assert!(error.message.contains("no whole answer within 150ms"), "{dialect:?}: {error}");
        }
    }
}

#[tokio::test]
async fn what_never_ends_is_ended() {
    let text: &'static str = Box::leak("x".repeat(256 * 1024).into_boxed_str());
    for dialect in ALL {
        let part: &'static [Part] = Box::leak(Box::new([Part::Text(text)]));
        let frames = dialect.says(part);
        // Without the end of the block, which some protocols send after it.
        let piece = frames.iter().find(|frame| frame.len() > 1_024).unwrap().clone();
        let stream = Answer::new(200, dialect.stream_type(), [dialect.begins(), vec![piece]].concat());
        let line = Answer::new(200, dialect.stream_type(), vec![b"x".repeat(256 * 1024)]);
        let whole = Answer::new(200, "application/json", vec![b" ".repeat(256 * 1024)]);
        for (answer, streams) in [(stream, true), (line, true), (whole, false)] {
            let error = made(dialect, answer.ending(End::Endless), streams, |_, _| {}).await.result.unwrap_err();
            assert_eq!(error.kind, LlmErrorKind::Malformed, "{dialect:?}: {error}");
            // The checksum fails on the first bytes.
            let by_bytes = error.message.contains("the checksum");
            assert!(error.message.contains(&MAX_BODY_BYTES.to_string()) || by_bytes, "{dialect:?}: {error}");
        }
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_closes_its_stream_at_once() {
    for dialect in ALL {
        let frames = [dialect.begins(), dialect.says(HELLO)].concat();
        let server = Server::start(Answer::new(200, dialect.stream_type(), frames).ending(End::Silence)).await;
        let provider = dialect.endpoints(&server.url).provider(dialect.0);
        let sink = Arc::new(Pieces::default());
        let (call, listening) = (ask(dialect), sink.clone());
        let calling = tokio::spawn(async move { provider.call(&call, Some(listening)).await.map(drop) });
        while sink.all().concat() != "Hello, wörld." {
            tokio::task::yield_now().await;
        }
        calling.abort();
        assert!(calling.await.unwrap_err().is_cancelled());
        server.gone.notified().await;
    }
}

#[tokio::test]
async fn a_key_is_never_shown_even_if_the_server_repeats_it() {
    for dialect in ALL {
        let padding = "x".repeat(480);
        for words in [format!("bad key {KEY}"), format!("{padding} {KEY}"), format!("\"{KEY}\"")] {
            let error = made(dialect, dialect.refuses(401, &words), false, |_, _| {}).await.result.unwrap_err();
            let shown = format!("{error} {error:?} {:?}", error.to_task_error());
            assert!(!shown.contains("AKIDEXAMPLE-01") && !shown.contains(&KEY[..12]), "{dialect:?}: {shown}");
        }
        let page = Answer::new(200, "text/html", vec![format!("<p>{KEY}</p>").into_bytes()]);
        let error = made(dialect, page, true, |_, _| {}).await.result.unwrap_err();
        assert!(!error.to_string().contains(&KEY[..12]), "{dialect:?}: {error}");
    }
}

#[tokio::test]
async fn a_missing_key_names_its_variable_and_nothing_is_sent() {
    for (dialect, variable) in ALL.into_iter().zip(["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AWS_BEARER_TOKEN_BEDROCK"])
    {
        let aws =
            agentry_llm::AwsEnvironment::of(&[("AWS_EC2_METADATA_DISABLED", "true"), ("AWS_REGION", "eu-west-1")]);
        let endpoints = Endpoints { aws, ..Endpoints::default() };
        let error = endpoints.provider(dialect.0).call(&ask(dialect), None).await.unwrap_err();
        assert_eq!(error.kind, LlmErrorKind::Authentication, "{error}");
        assert!(error.message.contains(variable), "{error}");
    }
}

#[tokio::test]
async fn nobody_listening_is_unavailable_and_a_bad_address_is_the_files_fault() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for dialect in ALL {
        for (url, kind) in [
            (format!("http://127.0.0.1:{port}"), LlmErrorKind::Unavailable),
            ("http://localhost:notaport".to_owned(), LlmErrorKind::InvalidRequest),
        ] {
            let error = dialect.endpoints(&url).provider(dialect.0).call(&ask(dialect), None).await.unwrap_err();
            // A URL that cannot be parsed cannot be signed either.
            let cannot_sign = dialect.0 == ProviderKind::Bedrock && error.kind == LlmErrorKind::Authentication;
            assert!(error.kind == kind || cannot_sign, "{dialect:?} {url}: {error}");
        }
    }
}
