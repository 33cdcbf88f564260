//! Streams and ends of answers in the protocols of today: events in order, reasons to stop, and usage.
#![allow(clippy::unwrap_used, reason = "a test may panic, also in its helpers")]

mod common;

use agentry_sim::llm::SimOptions;
use serde_json::{Value, json};

use common::Sim;

fn kinds(events: &[Value]) -> Vec<&str> {
    let mut kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    kinds.dedup();
    kinds.iter().map(|kind| kind.strip_prefix("response.").unwrap_or(kind)).collect()
}

#[tokio::test]
async fn a_response_streams_its_text() {
    let sim = Sim::start(SimOptions::default()).await;
    let mut body = json!({"model": "sim-small", "input": "[[say:Hello there]]", "service_tier": "flex"});
    let whole = sim.answer("/v1/responses", &body).await;
    assert_eq!(whole["output"][0]["content"][0]["text"], "Hello there");
    assert_eq!((&whole["service_tier"], &whole["status"]), (&json!("flex"), &json!("completed")));
    body["stream"] = json!(true);
    let events = sim.events("/v1/responses", &body).await;
    let expected = [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ];
    assert_eq!(kinds(&events), expected);
    let numbers: Vec<u64> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "{numbers:?}");
    let text: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(text, "Hello there");
    let last = &events.last().unwrap()["response"];
    assert_eq!((&last["usage"], &last["output"][0]["content"]), (&whole["usage"], &whole["output"][0]["content"]));
}

#[tokio::test]
async fn a_response_streams_reasoning_and_calls() {
    let sim = Sim::start(SimOptions::default()).await;
    let tools = json!([{"type": "function", "name": "find", "parameters": {"type": "object"}}]);
    let body = json!({"model": "gpt-6.2-sol", "input": "[[tool:find {\"id\":1}]]", "tools": tools, "stream": true,
        "reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"]});
    let events = sim.events("/v1/responses", &body).await;
    let expected = [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ];
    assert_eq!(kinds(&events), expected);
    let output = events.last().unwrap()["response"]["output"].clone();
    assert!(output[0]["encrypted_content"].is_string() && output[0]["summary"][0]["text"].is_string(), "{output}");
    assert_eq!((&output[1]["name"], &output[1]["arguments"]), (&json!("find"), &json!("{\"id\":1}")));
}

#[tokio::test]
async fn a_response_is_incomplete_refused_failed_or_without_usage() {
    let sim = Sim::start(SimOptions::default()).await;
    let body = |text: &str| json!({"model": "sim-small", "input": text, "stream": true});
    let events = sim.events("/v1/responses", &body("[[cut]] [[say:Hello there]]")).await;
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["response"]["status"]), (&json!("response.incomplete"), &json!("incomplete")));
    assert_eq!(last["response"]["incomplete_details"], json!({"reason": "max_output_tokens"}));
    let events = sim.events("/v1/responses", &body("[[refuse]]")).await;
    assert!(kinds(&events).contains(&"refusal.delta"), "{events:?}");
    for (directive, kind, code) in
        [("[[break:500]]", "response.failed", "/response/error/code"), ("[[break:429]]", "error", "/code")]
    {
        let events = sim.events("/v1/responses", &body(&format!("Tell me more {directive}"))).await;
        let last = events.last().unwrap();
        assert!(last["type"] == kind && last.pointer(code).unwrap().is_string(), "{last}");
    }
    let events = sim.events("/v1/responses", &body("[[nousage]] [[say:x]]")).await;
    assert_eq!(events.last().unwrap()["response"]["usage"], Value::Null);
    let empty = sim.answer("/v1/responses", &json!({"model": "sim-small", "input": "[[empty]]"})).await;
    assert_eq!(empty["output"][0]["content"][0]["text"], "");
}

#[tokio::test]
async fn a_response_has_the_form_that_was_asked_for() {
    let sim = Sim::start(SimOptions::default()).await;
    let schema = json!({"type": "object", "properties": {"team": {"type": "string", "enum": ["billing"]}}, "required": ["team"],
        "additionalProperties": false});
    let format = json!({"type": "json_schema", "name": "sort", "schema": schema, "strict": true});
    let body = json!({"model": "gpt-6.2-sol", "input": "Sort this", "text": {"format": format}});
    let answer = sim.answer("/v1/responses", &body).await;
    assert_eq!(answer["output"][0]["content"][0]["text"], r#"{"team":"billing"}"#, "{answer}");
}

#[tokio::test]
async fn gemini_answers_whole_and_in_a_stream() {
    let sim = Sim::start(SimOptions::default()).await;
    let body = |text: &str, config: Value| json!({"contents": [{"role": "user", "parts": [{"text": text}]}], "generationConfig": config});
    let model = "/v1beta/models/gemini-4-carbon";
    let whole =
        sim.answer(&format!("{model}:generateContent"), &body("[[reason:5]] [[say:Hello there]]", json!({}))).await;
    let candidate = &whole["candidates"][0];
    assert_eq!(
        (&candidate["content"]["parts"], &candidate["finishReason"]),
        (&json!([{"text": "Hello there"}]), &json!("STOP"))
    );
    let usage = &whole["usageMetadata"];
    assert_eq!((&usage["candidatesTokenCount"], &usage["thoughtsTokenCount"]), (&json!(3), &json!(5)));
    let version_1 = sim.answer("/v1/models/gemini-4-carbon:generateContent", &body("[[say:x]]", json!({}))).await;
    assert_eq!(version_1["candidates"][0]["content"]["parts"][0]["text"], "x");
    let thinking = json!({"thinkingConfig": {"includeThoughts": true}});
    let stream = format!("{model}:streamGenerateContent?alt=sse");
    let chunks = sim.events(&stream, &body("[[reason:5]] [[say:Hello there]]", thinking)).await;
    let parts = || chunks.iter().flat_map(|chunk| chunk["candidates"][0]["content"]["parts"].as_array().unwrap());
    let text: String =
        parts().filter(|part| part["thought"] != true).filter_map(|part| part["text"].as_str()).collect();
    assert!(text == "Hello there" && parts().filter(|part| part["thought"] == true).count() == 5, "{chunks:?}");
    let last = chunks.last().unwrap();
    assert_eq!((&last["candidates"][0]["finishReason"], &last["usageMetadata"]), (&json!("STOP"), usage));
    let schema = json!({"type": "object", "properties": {"team": {"enum": ["billing"]}}, "required": ["team"]});
    let config = json!({"responseMimeType": "application/json", "responseJsonSchema": schema});
    let formed = sim.answer(&format!("{model}:generateContent"), &body("Sort this", config)).await;
    assert_eq!(formed["candidates"][0]["content"]["parts"][0]["text"], r#"{"team":"billing"}"#);
    for (directive, reason) in [("[[refuse]]", "SAFETY"), ("[[cut]]", "MAX_TOKENS")] {
        let answer = sim.answer(&format!("{model}:generateContent"), &body(directive, json!({}))).await;
        assert_eq!(answer["candidates"][0]["finishReason"], reason);
    }
}

#[tokio::test]
async fn claude_pauses_in_its_own_tool_and_goes_on() {
    let sim = Sim::start(SimOptions::default()).await;
    let mut turns = vec![json!({"role": "user", "content": "[[pause]] [[say:done]]"})];
    let body = |turns: &[Value]| json!({"model": "claude-opus-5-5", "max_tokens": 9_000, "messages": turns});
    let paused = sim.answer("/v1/messages", &body(&turns)).await;
    assert_eq!(paused["stop_reason"], "pause_turn", "{paused}");
    turns.push(json!({"role": "assistant", "content": paused["content"]}));
    let answer = sim.answer("/v1/messages", &body(&turns)).await;
    assert_eq!((&answer["stop_reason"], &answer["content"][0]["text"]), (&json!("end_turn"), &json!("done")));
}

#[tokio::test]
async fn claude_streams_its_thinking_with_the_signature() {
    let sim = Sim::start(SimOptions::default()).await;
    let tools = json!([{"name": "find", "input_schema": {"type": "object"}}]);
    let mut body = json!({"model": "claude-opus-5-5", "max_tokens": 9_000, "tools": tools,
        "messages": [{"role": "user", "content": "[[tool:find {}]]"}]});
    let whole = sim.answer("/v1/messages", &body).await;
    body["stream"] = json!(true);
    let events = sim.events("/v1/messages", &body).await;
    let signatures: Vec<&Value> = events
        .iter()
        .filter(|event| event["delta"]["type"] == "signature_delta")
        .map(|event| &event["delta"]["signature"])
        .collect();
    assert_eq!(signatures, [&whole["content"][0]["signature"]]);
    let thinking: String = events.iter().filter_map(|event| event["delta"]["thinking"].as_str()).collect();
    assert_eq!(whole["content"][0]["thinking"], thinking);
}

#[tokio::test]
async fn answers_without_usage_say_nothing_of_it() {
    let sim = Sim::start(SimOptions::default()).await;
    let text = "[[nousage]] [[say:x]]";
    let messages = json!([{"role": "user", "content": text}]);
    for (path, body, place) in [
        ("/v1/chat/completions", json!({"model": "m", "messages": messages}), "/usage"),
        ("/v1/messages", json!({"model": "m", "max_tokens": 9, "messages": messages}), "/usage"),
        ("/model/m/converse", json!({"messages": [{"role": "user", "content": [{"text": text}]}]}), "/usage"),
        ("/api/chat", json!({"model": "m", "messages": messages, "stream": false}), "/eval_count"),
        ("/v1beta/models/m:generateContent", json!({"contents": [{"parts": [{"text": text}]}]}), "/usageMetadata"),
    ] {
        let answer = sim.answer(path, &body).await;
        assert_eq!(answer.pointer(place), None, "{path}: {answer}");
    }
}

#[tokio::test]
async fn deepseek_and_gemini_stream_what_must_come_back() {
    let sim = Sim::start(SimOptions::default()).await;
    let tools = json!([{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]);
    let mut body = json!({"model": "deepseek-v4-pro", "tools": tools, "messages": [{"role": "user", "content": "[[tool:find {}]]"}]});
    let whole = sim.answer("/v1/chat/completions", &body).await;
    body["stream"] = json!(true);
    let events = sim.events("/v1/chat/completions", &body).await;
    let deltas = || events.iter().map(|event| &event["choices"][0]["delta"]);
    let reasoning: String = deltas().filter_map(|delta| delta["reasoning_content"].as_str()).collect();
    assert_eq!(whole["choices"][0]["message"]["reasoning_content"], reasoning);
    body["model"] = json!("gemini-3.8-flash");
    let events = sim.events("/v1/chat/completions", &body).await;
    let signature = "/choices/0/delta/tool_calls/0/extra_content/google/thought_signature";
    assert_eq!(events.iter().filter(|event| event.pointer(signature).is_some()).count(), 1, "{events:?}");
}

#[tokio::test]
async fn bedrock_streams_its_reasoning_with_the_signature() {
    let sim = Sim::start(SimOptions::default()).await;
    let tools = json!({"tools": [{"toolSpec": {"name": "find", "inputSchema": {"json": {"type": "object"}}}}]});
    let body = json!({"messages": [{"role": "user", "content": [{"text": "[[tool:find {}]]"}]}], "toolConfig": tools});
    let model = "/model/us.anthropic.claude-opus-5-5";
    let whole = sim.answer(&format!("{model}/converse"), &body).await;
    let signature =
        whole["output"]["message"]["content"][0]["reasoningContent"]["reasoningText"]["signature"].as_str().unwrap();
    let mut frames =
        bytes::Bytes::from(common::chunks_of(&sim.post(&format!("{model}/converse-stream"), &body).await).concat());
    let mut signatures = Vec::new();
    while !frames.is_empty() {
        let message = aws_smithy_eventstream::frame::read_message_from(&mut frames).unwrap();
        let payload: Value = serde_json::from_slice(message.payload()).unwrap();
        signatures.extend(payload["delta"]["reasoningContent"]["signature"].as_str().map(str::to_owned));
    }
    assert_eq!(signatures, [signature]);
}
