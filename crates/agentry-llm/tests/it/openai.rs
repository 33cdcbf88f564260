//! The OpenAI client against the simulator, over sockets: every kind of answer and of failure.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{Pieces, Sim, call};
use agentry_core::agent::ProviderKind;
use agentry_core::chat::{Message, StopReason, ToolDefinition};
use agentry_llm::{Endpoints, LlmErrorKind, LlmProvider};
use serde_json::{Value, json};

fn client() -> Arc<dyn LlmProvider> {
    Endpoints::default().provider(ProviderKind::Openai)
}

#[tokio::test]
async fn a_completion_is_answered_and_both_sides_count_the_same() {
    let sim = Sim::start().await;
    let call = call(&sim.base_url(), "What is late? [[say:The parcel.]]");
    let timed = client().call(&call, None).await.unwrap();
    assert_eq!(timed.reply.content, "The parcel.");
    assert_eq!((timed.reply.stop, timed.reply.model.as_str()), (StopReason::End, "sim-small"));
    assert_eq!(timed.first_token, None);
    let line: Value = serde_json::from_str(sim.ledger().trim()).unwrap();
    assert_eq!(line["request_id"], call.id.to_string());
    assert_eq!(line["model"], "sim-small");
    assert_eq!(line["status"], 200);
    assert_eq!(line["input_tokens"], timed.reply.usage.input_tokens);
    assert_eq!(line["output_tokens"], timed.reply.usage.output_tokens);
    assert_eq!(timed.reply.usage.output_tokens, 3, "eleven characters");
}

#[tokio::test]
async fn a_stream_says_the_same_as_a_completion_piece_by_piece() {
    let sim = Sim::start().await;
    let call = call(&sim.base_url(), "Tell me about parcels.");
    let whole = client().call(&call, None).await.unwrap();
    let pieces = Arc::new(Pieces::default());
    let streamed = client().call(&call, Some(pieces.clone())).await.unwrap();
    assert_eq!(streamed.reply, whole.reply, "also the usage, which comes in a chunk of its own");
    assert_eq!(pieces.all().concat(), whole.reply.content);
    assert!(pieces.all().len() > 2);
    assert!(streamed.first_token.unwrap() <= streamed.duration);
}

#[tokio::test]
async fn tools_are_called_whole_and_streamed() {
    let sim = Sim::start().await;
    let mut call = call(&sim.base_url(), r#"Find it [[tool:find {"query":"late \"parcel\"","ids":[1,2]}]]"#);
    call.request.tools = vec![ToolDefinition {
        name: "find".into(),
        description: "Finds.".into(),
        parameters: json!({"type": "object"}),
    }];
    for sink in [None, Some(Arc::new(Pieces::default()) as Arc<dyn agentry_llm::TokenSink>)] {
        let reply = client().call(&call, sink).await.unwrap().reply;
        assert_eq!(reply.stop, StopReason::ToolCalls);
        assert_eq!((reply.tool_calls.len(), reply.tool_calls[0].name.as_str()), (1, "find"));
        let arguments: Value = serde_json::from_str(&reply.tool_calls[0].arguments).unwrap();
        assert_eq!(arguments, json!({"query": "late \"parcel\"", "ids": [1, 2]}));
        let mut next = call.clone();
        next.request.messages.push(reply.to_message());
        let result =
            Message::Tool { call_id: reply.tool_calls[0].id.clone(), content: "it is in Kiel".into(), is_error: false };
        next.request.messages.push(result);
        let answer = client().call(&next, None).await.unwrap().reply;
        assert!(answer.content.contains("it is in Kiel"), "{}", answer.content);
    }
}

#[tokio::test]
async fn structured_output_fits_the_schema() {
    let sim = Sim::start().await;
    let mut call = call(&sim.base_url(), "Sort this");
    call.request.output_schema = Some(json!({
        "type": "object", "title": "triage",
        "properties": {"team": {"enum": ["billing", "technical"]}, "urgent": {"type": "boolean"}},
        "required": ["team", "urgent"], "additionalProperties": false
    }));
    let reply = client().call(&call, None).await.unwrap().reply;
    assert_eq!(serde_json::from_str::<Value>(&reply.content).unwrap(), json!({"team": "billing", "urgent": true}));
}

#[tokio::test]
async fn failures_are_told_apart() {
    let sim = Sim::start().await;
    let limited = LlmErrorKind::RateLimited { retry_after: Some(Duration::from_secs(1)) };
    for (directive, kind, words) in [
        ("[[fail:429]]", limited, "Rate limit reached"),
        ("[[fail:500]]", LlmErrorKind::Unavailable, "HTTP 500"),
        ("[[fail:401]]", LlmErrorKind::Authentication, "check the API key"),
        ("[[fail:422]]", LlmErrorKind::InvalidRequest, "HTTP 422"),
        ("[[html]]", LlmErrorKind::Malformed, "Please sign in"),
        ("[[truncate]]", LlmErrorKind::Unavailable, "cut off"),
    ] {
        for sink in [None, Some(Arc::new(Pieces::default()) as Arc<dyn agentry_llm::TokenSink>)] {
            let streams = sink.is_some();
            let error = client().call(&call(&sim.base_url(), directive), sink).await.unwrap_err();
            assert_eq!(error.kind, kind, "{directive}, streams: {streams}: {error}");
            assert!(error.message.contains(words), "{directive}, streams: {streams}: {error}");
        }
    }
}

#[tokio::test]
async fn a_provider_that_hangs_is_given_up_in_time() {
    let sim = Sim::start().await;
    let mut call = call(&sim.base_url(), "[[hang]]");
    call.timeout = Duration::from_millis(100);
    let error = client().call(&call, None).await.unwrap_err();
    assert_eq!(error.kind, LlmErrorKind::Timeout);
    assert!(error.message.contains("100ms"), "{error}");
    assert_eq!(sim.stats().requests, 1, "the witness saw it");
}
