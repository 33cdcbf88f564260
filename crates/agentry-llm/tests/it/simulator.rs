//! All four clients against the simulator, which implements the protocols independently.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::agent::ProviderKind;
use agentry_core::chat::{Message, StopReason, ToolDefinition};
use agentry_llm::{Call, Endpoints, LlmError, LlmErrorKind, TimedReply, TokenSink};
use serde_json::{Value, json};

use crate::common::{Pieces, Sim, call};
use crate::dialect::{ALL, KEY};

fn ask(kind: ProviderKind, text: &str) -> Call {
    let mut call = call("", text);
    call.target.provider = kind;
    call
}

async fn both(endpoints: &Endpoints, call: &Call) -> [Result<TimedReply, LlmError>; 2] {
    let provider = endpoints.provider(call.target.provider);
    let sink = Arc::new(Pieces::default());
    let whole = provider.call(call, None).await;
    let streamed = provider.call(call, Some(sink.clone() as Arc<dyn TokenSink>)).await;
    if let Ok(timed) = &streamed {
        assert_eq!(sink.all().concat(), timed.reply.content, "{}", call.target.provider);
    }
    [whole, streamed]
}

#[tokio::test]
async fn every_provider_answers_by_its_own_protocol_and_both_sides_count_the_same() {
    let sim = Sim::start().await;
    for dialect in ALL {
        let call = ask(dialect.0, "What is late? [[say:The parcel is late.]] [[cached:3]]");
        for timed in both(&sim.endpoints(), &call).await {
            let reply = timed.unwrap().reply;
            assert_eq!((reply.content.as_str(), reply.stop), ("The parcel is late.", StopReason::End), "{dialect:?}");
            let ledger = sim.ledger();
            let line: Value = serde_json::from_str(ledger.lines().last().unwrap()).unwrap();
            assert_eq!(line["protocol"], dialect.0.as_str(), "{line}");
            assert_eq!(line["request_id"], call.id.to_string(), "{line}");
            assert_eq!(line["input_tokens"], reply.usage.input_tokens, "{dialect:?} {line}");
            assert_eq!(line["output_tokens"], reply.usage.output_tokens, "{dialect:?} {line}");
        }
    }
}

#[tokio::test]
async fn tools_are_called_and_their_results_are_heard() {
    let sim = Sim::start().await;
    for dialect in ALL {
        let mut call = ask(dialect.0, r#"Find it [[tool:find {"query":"late \"parcel\"","ids":[1,2]}]]"#);
        let parameters = json!({"type": "object"});
        call.request.tools = vec![ToolDefinition { name: "find".into(), description: "Finds.".into(), parameters }];
        for timed in both(&sim.endpoints(), &call).await {
            let reply = timed.unwrap().reply;
            assert_eq!((reply.stop, reply.tool_calls[0].name.as_str()), (StopReason::ToolCalls, "find"), "{dialect:?}");
            let arguments: Value = serde_json::from_str(&reply.tool_calls[0].arguments).unwrap();
            assert_eq!(arguments, json!({"query": "late \"parcel\"", "ids": [1, 2]}), "{dialect:?}");
            let mut next = call.clone();
            next.request.messages.push(reply.to_message());
            let content = "it is in Kiel".to_owned();
            next.request.messages.push(Message::Tool {
                call_id: reply.tool_calls[0].id.clone(),
                content,
                is_error: false,
            });
            for timed in both(&sim.endpoints(), &next).await {
                let answer = timed.unwrap().reply;
                assert!(answer.content.contains("it is in Kiel"), "{dialect:?}: {}", answer.content);
            }
        }
    }
}

#[tokio::test]
async fn answers_have_the_form_that_was_asked_for() {
    let sim = Sim::start().await;
    let schema = json!({"type": "object", "title": "triage",
        "properties": {"team": {"type": "string", "enum": ["billing", "technical"]}, "urgent": {"type": "boolean"}},
        "required": ["team", "urgent"], "additionalProperties": false});
    for dialect in ALL {
        let mut call = ask(dialect.0, "Sort this");
        call.request.output_schema = Some(schema.clone());
        for timed in both(&sim.endpoints(), &call).await {
            let reply = timed.unwrap().reply;
            let answer: Value = serde_json::from_str(&reply.content).unwrap();
            assert!(answer["team"].is_string() && answer["urgent"].is_boolean(), "{dialect:?}: {answer}");
            assert_eq!((reply.stop, reply.tool_calls.len()), (StopReason::End, 0), "{dialect:?}");
        }
    }
}

#[tokio::test]
async fn faults_are_told_apart() {
    let sim = Sim::start().await;
    let limited = |seconds| LlmErrorKind::RateLimited { retry_after: seconds };
    for dialect in ALL {
        // AWS sends no delay.
        let wait = (dialect.0 != ProviderKind::Bedrock).then_some(Duration::from_secs(7));
        for (directive, kind) in [
            ("[[fail:429:9:7]]", limited(wait)),
            ("[[fail:500]]", LlmErrorKind::Unavailable),
            ("[[fail:401]]", LlmErrorKind::Authentication),
            ("[[html]]", LlmErrorKind::Malformed),
            ("[[truncate]]", LlmErrorKind::Unavailable),
            ("[[garble]]", LlmErrorKind::Malformed),
            ("[[disconnect]]", LlmErrorKind::Unavailable),
        ] {
            let call = ask(dialect.0, &format!("{directive} hello"));
            for failed in both(&sim.endpoints(), &call).await {
                let error = failed.expect_err(directive);
                assert_eq!(error.kind, kind, "{dialect:?} {directive}: {error}");
            }
        }
        let mut hung = ask(dialect.0, "[[hang]] hello");
        hung.timeout = Duration::from_millis(150);
        for failed in both(&sim.endpoints(), &hung).await {
            assert_eq!(failed.unwrap_err().kind, LlmErrorKind::Timeout, "{dialect:?}");
        }
    }
}

#[tokio::test]
async fn streams_that_break_never_end_or_drip() {
    let sim = Sim::start().await;
    for dialect in ALL {
        let provider = sim.endpoints().provider(dialect.0);
        let sink = || Some(Arc::new(Pieces::default()) as Arc<dyn TokenSink>);
        let broken = provider.call(&ask(dialect.0, "[[break:529]] tell me a lot"), sink()).await.unwrap_err();
        assert!(broken.is_retryable(), "{dialect:?}: {broken}");
        let mut endless = ask(dialect.0, "[[endless]] hello");
        endless.timeout = Duration::from_millis(500);
        let error = provider.call(&endless, sink()).await.unwrap_err();
        assert!(matches!(error.kind, LlmErrorKind::Timeout | LlmErrorKind::Malformed), "{dialect:?}: {error}");
        let dripped = provider.call(&ask(dialect.0, "[[drip:1]] [[say:Slow is fine.]]"), sink()).await.unwrap();
        assert_eq!(dripped.reply.content, "Slow is fine.", "{dialect:?}");
    }
}

#[tokio::test]
async fn models_that_do_not_exist_or_take_no_tools_say_so() {
    let sim = Sim::start().await;
    for dialect in ALL {
        let mut call = ask(dialect.0, "hello");
        call.target.model = "unknown-model".into();
        for failed in both(&sim.endpoints(), &call).await {
            let error = failed.unwrap_err();
            assert_eq!(error.kind, LlmErrorKind::ModelGone, "{dialect:?}: {error}");
        }
        call.target.model = "sim-no-tools".into();
        let parameters = json!({"type": "object"});
        call.request.tools = vec![ToolDefinition { name: "find".into(), description: "Finds.".into(), parameters }];
        for failed in both(&sim.endpoints(), &call).await {
            let error = failed.unwrap_err();
            assert_eq!(error.kind, LlmErrorKind::InvalidRequest, "{dialect:?}: {error}");
            assert!(error.message.contains("tool"), "{dialect:?}: {error}");
        }
    }
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_the_right_one_is_not() {
    for (key, is_right) in [(KEY, true), ("another-key-entirely", false)] {
        let sim = Sim::requiring(if key == KEY { KEY } else { key }).await;
        for dialect in ALL.into_iter().filter(|dialect| dialect.0 != ProviderKind::Bedrock) {
            let base = if dialect.0 == ProviderKind::Openai { sim.base_url() } else { sim.root.clone() };
            let endpoints = dialect.endpoints(&base);
            for result in both(&endpoints, &ask(dialect.0, "hello")).await {
                match result {
                    Ok(_) => assert!(is_right, "{dialect:?}"),
                    Err(error) => {
                        assert!(!is_right && error.kind == LlmErrorKind::Authentication, "{dialect:?}: {error}");
                    }
                }
            }
        }
    }
}
