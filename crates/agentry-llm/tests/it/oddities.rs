//! What real servers send although their protocols say something else, as public bug reports of comparable programs
//! tell: each answer is read, or fails for the reason that it gives.

use std::sync::Arc;

use agentry_core::agent::ProviderKind;
use agentry_core::chat::StopReason;
use agentry_llm::{Endpoints, LlmError, LlmErrorKind, TimedReply, TokenSink};
use serde_json::{Value, json};

use crate::common::{Pieces, call};
use crate::server::{Answer, Server};

/// Returns the result of one call to a server that gives this answer.
async fn asked(provider: ProviderKind, answer: Answer, stream: bool) -> Result<TimedReply, LlmError> {
    let server = Server::start(answer).await;
    let key = Some("secret-key".into());
    let endpoints = Endpoints {
        openai_api_key: key.clone(),
        anthropic_api_key: key.clone(),
        bedrock_api_key: key,
        aws_region: Some("eu-central-1".into()),
        ..Endpoints::default()
    };
    let mut call = call(&server.url, "hi");
    call.target.provider = provider;
    let sink = stream.then(|| Arc::new(Pieces::default()) as Arc<dyn TokenSink>);
    endpoints.provider(provider).call(&call, sink).await
}

/// Returns an answer in OpenAI's stream: these events between two halves of `hello`.
fn around(middle: &str) -> Answer {
    let piece = |text: &str| format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}}]}));
    let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let body = format!("{}{middle}{}data: {end}\n\ndata: [DONE]\n\n", piece("he"), piece("llo"));
    Answer::new(200, "text/event-stream", vec![body.into_bytes()])
}

#[tokio::test]
async fn what_stands_between_the_pieces_of_an_answer_does_not_harm_it() {
    let chunk = |chunk: Value| format!("data: {chunk}\n\n");
    for middle in [
        chunk(json!({"choices": [{"index": 0, "delta": null, "finish_reason": null}]})),
        chunk(json!({"choices": null, "usage": null})),
        chunk(json!({"choices": [], "usage": {"prompt_tokens": null, "completion_tokens": null}})),
        chunk(json!({"choices": [], "usage": {"prompt_tokens": 10.0, "completion_tokens": 5.0}})),
        chunk(json!({"choices": [{"index": null, "delta": {"content": ""}, "finish_reason": null}]})),
        chunk(json!({"id": 7, "choices": [{"index": 0, "delta": {"content": ""}}]})),
        chunk(json!({"choices": [{"index": 0, "delta": {"tool_calls": null, "role": null}}]})),
        chunk(json!({"choices": [{"index": 0, "delta": {"tool_calls": []}}]})),
        chunk(Value::Null),
        "data: \n\n".into(),
        "data:\n\n".into(),
        "data\n\n".into(),
        ": ping - 1\n\n".into(),
        "event: ping\n\n".into(),
        "x-meta: 1\n\n".into(),
        "retry: soon\n\n".into(),
        "id: 1\nid: 2\n: x\n\n".into(),
        " \n\n".into(),
    ] {
        let reply = asked(ProviderKind::Openai, around(&middle), true).await;
        let reply = reply.unwrap_or_else(|error| panic!("{middle:?}: {error}")).reply;
        assert_eq!((reply.content.as_str(), reply.stop), ("hello", StopReason::End), "{middle:?}");
    }
}

#[tokio::test]
async fn a_stream_is_a_stream_whatever_it_is_called() {
    for kind in ["Text/Event-Stream; charset=UTF-8", "application/octet-stream", "text/plain", "application/json"] {
        let mut answer = around("");
        answer.headers = vec![("content-type", kind.to_owned())];
        assert_eq!(asked(ProviderKind::Openai, answer, true).await.unwrap().reply.content, "hello", "{kind}");
    }
    let mut answer = around("");
    answer.headers.clear();
    assert_eq!(asked(ProviderKind::Openai, answer, true).await.unwrap().reply.content, "hello");
}

#[tokio::test]
async fn a_whole_answer_to_a_request_for_a_stream_is_taken() {
    let whole = json!({"model": "m", "choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2}});
    let reply = asked(ProviderKind::Openai, Answer::new(200, "application/json", vec![whole.to_string().into()]), true)
        .await
        .unwrap()
        .reply;
    assert_eq!((reply.content.as_str(), reply.usage.output_tokens), ("hello", 2));
}

#[tokio::test]
async fn an_error_is_an_error_though_the_status_is_200() {
    let rate = LlmErrorKind::RateLimited { retry_after: None };
    let overloaded = LlmErrorKind::Overloaded { retry_after: None };
    for (provider, body, kind) in [
        (
            ProviderKind::Openai,
            json!({"error": {"message": "Insufficient credits", "code": 402}}),
            LlmErrorKind::QuotaExhausted,
        ),
        (ProviderKind::Openai, json!({"error": {"message": "No auth", "code": 401}}), LlmErrorKind::Authentication),
        (ProviderKind::Openai, json!({"error": {"message": "Rate limit exceeded", "code": 429}}), rate),
        (ProviderKind::Openai, json!({"id": "x", "choices": [], "error": {"message": "words", "code": 429}}), rate),
        (
            ProviderKind::Openai,
            json!({"choices": [{"finish_reason": "error", "message": {"content": ""}, "error": {"code": 502, "message": "died"}}]}),
            LlmErrorKind::Unavailable,
        ),
        (
            ProviderKind::Openai,
            json!({"object": "error", "message": "out of memory", "code": 500}),
            LlmErrorKind::Unavailable,
        ),
        (
            ProviderKind::Anthropic,
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "words"}}),
            overloaded,
        ),
        (ProviderKind::Ollama, json!({"error": {"message": "model requires more memory"}}), LlmErrorKind::Unavailable),
        (ProviderKind::Ollama, json!({"error": "model 'x' not found"}), LlmErrorKind::ModelGone),
        (
            ProviderKind::Ollama,
            json!({"message": {"content": ""}, "done": true, "done_reason": "load"}),
            LlmErrorKind::Unavailable,
        ),
    ] {
        for stream in [false, true] {
            let answer = Answer::new(200, "application/json", vec![body.to_string().into()]);
            let error = asked(provider, answer, stream).await.expect_err(&body.to_string());
            assert_eq!(error.kind, kind, "{body} {stream}: {error}");
        }
    }
}

#[tokio::test]
async fn an_error_in_a_stream_has_its_class() {
    for (event, kind) in [
        (
            json!({"object": "error", "message": "CUDA out of memory", "type": "InternalServerError", "code": 500}),
            LlmErrorKind::Unavailable,
        ),
        (json!({"error": {"message": "No credits", "code": 402}}), LlmErrorKind::QuotaExhausted),
        (json!({"error": {"message": "bad", "type": "invalid_request_error"}}), LlmErrorKind::InvalidRequest),
    ] {
        let error = asked(ProviderKind::Openai, around(&format!("data: {event}\n\n")), true).await.unwrap_err();
        assert_eq!(error.kind, kind, "{event}");
    }
}

#[tokio::test]
async fn numbers_that_json_does_not_have_are_read() {
    let body = r#"{"choices": [{"message": {"content": "NaN \" Infinity"}, "logprobs": NaN, "x": -Infinity, "finish_reason": "stop"}]}"#;
    let answer = Answer::new(200, "application/json", vec![body.into()]);
    assert_eq!(asked(ProviderKind::Openai, answer, false).await.unwrap().reply.content, "NaN \" Infinity");
}

#[tokio::test]
async fn an_answer_in_ollamas_lines_may_have_gaps() {
    let lines = concat!(
        r#"{"model":"m","message":{"role":"assistant","content":"he"},"done":false}"#,
        "\r\n\r\n",
        r#"{"model":"m","message":{"role":"assistant","content":"llo","tool_calls":null,"thinking":null}}"#,
        "\n",
        r#"{"model":"m","message":{"content":null},"done":true,"done_reason":"stop"}"#
    );
    let answer = Answer::new(200, "application/x-ndjson", vec![lines.into()]);
    assert_eq!(asked(ProviderKind::Ollama, answer, true).await.unwrap().reply.content, "hello");
}

#[tokio::test]
async fn calls_are_told_apart_and_cut_ones_are_not_made() {
    let body = |arguments: Value, finish: &str| {
        json!({"choices": [{"finish_reason": finish, "message": {"content": null, "tool_calls": [
            {"id": "dup", "type": "function", "function": {"name": "add", "arguments": arguments}},
            {"id": "dup", "type": "function", "function": {"name": "add", "arguments": "{\"n\":2}"}}]}}]})
    };
    let of = async |body: Value| {
        let answer = Answer::new(200, "application/json", vec![body.to_string().into()]);
        asked(ProviderKind::Openai, answer, false).await.unwrap().reply
    };
    let reply = of(body(json!({"n": 1}), "tool_calls")).await;
    assert_eq!((reply.stop, reply.tool_calls[0].arguments.as_str()), (StopReason::ToolCalls, "{\"n\":1}"));
    assert_eq!(of(body(json!(""), "length")).await.stop, StopReason::Length);
}

#[tokio::test]
async fn a_parameter_that_is_refused_is_left_out_from_then_on() {
    let refusal = json!({"error": {"message": "Extra inputs are not permitted, field: 'stream_options'"}});
    let server = Server::start(Answer::new(400, "application/json", vec![refusal.to_string().into()])).await;
    let endpoints = Endpoints { openai_api_key: Some("secret-key".into()), ..Endpoints::default() };
    let provider = endpoints.provider(ProviderKind::Openai);
    let call = call(&server.url, "hi");
    for _ in 0..2 {
        let sink = Arc::new(Pieces::default()) as Arc<dyn TokenSink>;
        provider.call(&call, Some(sink)).await.unwrap_err();
    }
    let with: Vec<bool> = server.asked().iter().map(|request| request.body.contains("stream_options")).collect();
    assert_eq!(with, [true, false, false], "asked once more without, and remembered");
}
