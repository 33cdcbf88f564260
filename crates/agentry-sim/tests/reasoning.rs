//! Reasoning in tool loops: what models give, and what they refuse when it comes back changed.
#![allow(clippy::unwrap_used, reason = "a test may panic, also in its helpers")]

mod common;

use agentry_sim::llm::SimOptions;
use serde_json::{Value, json};

use common::Sim;

const QUESTION: &str = "Find both [[tool:find {\"id\":1}]] [[tool:find {\"id\":2}]]";

/// Returns how much reasoning came back equal, altered and not at all.
fn returned(sim: &Sim) -> (u64, u64, u64) {
    let stats = sim.stats();
    (stats.thinking_equal, stats.thinking_altered, stats.thinking_missing)
}

fn messages(model: &str, turns: &[Value]) -> Value {
    let tools = json!([{"name": "find", "input_schema": {"type": "object"}}]);
    json!({"model": model, "max_tokens": 9_000, "system": "S", "tools": tools, "messages": turns})
}

/// Drives a loop of the Messages API and returns the turns before the last answer.
async fn anthropic_loop(sim: &Sim, model: &str) -> Vec<Value> {
    let mut turns = vec![json!({"role": "user", "content": QUESTION})];
    for _ in 0..2 {
        let answer = sim.answer("/v1/messages", &messages(model, &turns)).await;
        let content = answer["content"].as_array().unwrap();
        assert_eq!((&content[0]["type"], &content[1]["type"]), (&json!("thinking"), &json!("tool_use")), "{answer}");
        let result = json!({"type": "tool_result", "tool_use_id": content[1]["id"], "content": "r"});
        turns.push(json!({"role": "assistant", "content": content}));
        turns.push(json!({"role": "user", "content": [result]}));
    }
    turns
}

#[tokio::test]
async fn claude_reads_back_what_it_thought() {
    let sim = Sim::start(SimOptions::default()).await;
    let turns = anthropic_loop(&sim, "claude-opus-5-5").await;
    let answer = sim.answer("/v1/messages", &messages("claude-opus-5-5", &turns)).await;
    assert_eq!((&answer["stop_reason"], returned(&sim)), (&json!("end_turn"), (3, 0, 0)));
    assert!(answer["usage"]["output_tokens_details"]["thinking_tokens"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn claude_refuses_thinking_that_was_altered_or_partly_dropped() {
    let sim = Sim::start(SimOptions::default()).await;
    let turns = anthropic_loop(&sim, "claude-opus-5").await;
    let mut altered = turns.clone();
    altered[1]["content"][0]["thinking"] = json!("something else");
    let refusal = sim.refusal("/v1/messages", &messages("claude-opus-5", &altered)).await;
    assert!(refusal.contains("messages.1.content.0: Invalid `signature` in `thinking` block"), "{refusal}");
    let mut partly = turns.clone();
    partly[1]["content"].as_array_mut().unwrap().remove(0);
    let refusal = sim.refusal("/v1/messages", &messages("claude-opus-5", &partly)).await;
    assert!(refusal.contains("cannot be modified"), "{refusal}");
    partly[3]["content"].as_array_mut().unwrap().remove(0);
    sim.answer("/v1/messages", &messages("claude-opus-5", &partly)).await;
    // One in the loop, then one beside the altered one, one beside the dropped one, and two dropped ones.
    assert_eq!(returned(&sim), (3, 1, 3));
}

#[tokio::test]
async fn newest_models_check_what_stands_before_their_thinking() {
    let sim = Sim::start(SimOptions::default()).await;
    for (model, refuses) in [("claude-fable-5-2", true), ("claude-haiku-5-5", true), ("claude-sonnet-5", false)] {
        let turns = anthropic_loop(&sim, model).await;
        let mut system = messages(model, &turns);
        system["system"] = json!("S, changed");
        let mut tools = messages(model, &turns);
        tools["tools"][0]["description"] = json!("new");
        let mut earlier = messages(model, &turns);
        earlier["messages"][0]["content"] = json!(format!("{QUESTION}!"));
        for (body, what) in [(system, "`system` prompt"), (tools, "`tools`"), (earlier, "`messages`")] {
            let (status, answer) = sim.call("/v1/messages", &body).await;
            assert_eq!(status, if refuses { 400 } else { 200 }, "{model} {what}: {answer}");
            let told = answer.to_string();
            assert!(!refuses || told.contains("bound to a different conversation") && told.contains(what), "{told}");
        }
        // A breakpoint that moves is no change.
        let mut marked = messages(model, &turns);
        marked["tools"][0]["cache_control"] = json!({"type": "ephemeral"});
        sim.answer("/v1/messages", &marked).await;
    }
}

#[tokio::test]
async fn thinking_of_another_model_is_ignored() {
    let sim = Sim::start(SimOptions::default()).await;
    let turns = anthropic_loop(&sim, "claude-opus-5").await;
    sim.answer("/v1/messages", &messages("claude-opus-5-5", &turns)).await;
    assert_eq!(returned(&sim), (1, 0, 0));
}

#[tokio::test]
async fn thinking_that_was_turned_on_by_hand_must_come_back() {
    let sim = Sim::start(SimOptions::default()).await;
    let body = |turns: &[Value]| {
        let mut body = messages("claude-opus-4-6", turns);
        body["thinking"] = json!({"type": "enabled", "budget_tokens": 2_000});
        body
    };
    let mut turns = vec![json!({"role": "user", "content": QUESTION})];
    let answer = sim.answer("/v1/messages", &body(&turns)).await;
    let call = answer["content"][1].clone();
    turns.push(json!({"role": "assistant", "content": [call]}));
    turns
        .push(json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": call["id"], "content": "r"}]}));
    let refusal = sim.refusal("/v1/messages", &body(&turns)).await;
    assert!(refusal.contains("Expected `thinking` or `redacted_thinking`, but found `tool_use`"), "{refusal}");
    let plain = sim.answer("/v1/messages", &messages("claude-opus-4-6", &turns[..1])).await;
    assert_eq!(plain["content"][0]["type"], "tool_use", "it does not think unasked");
}

#[tokio::test]
async fn bedrock_reads_back_what_it_reasoned() {
    let sim = Sim::start(SimOptions::default()).await;
    let path = "/model/global.anthropic.claude-sonnet-5-5/converse";
    let tools = json!({"tools": [{"toolSpec": {"name": "find", "inputSchema": {"json": {"type": "object"}}}}]});
    let body = |turns: &[Value]| json!({"messages": turns, "toolConfig": tools});
    let mut turns = vec![json!({"role": "user", "content": [{"text": QUESTION}]})];
    let answer = sim.answer(path, &body(&turns)).await;
    let made = answer["output"]["message"].clone();
    assert!(made["content"][0]["reasoningContent"]["reasoningText"]["signature"].is_string(), "{made}");
    let result =
        json!({"toolResult": {"toolUseId": made["content"][1]["toolUse"]["toolUseId"], "content": [{"text": "r"}]}});
    turns.extend([made, json!({"role": "user", "content": [result]})]);
    sim.answer(path, &body(&turns)).await;
    turns[1]["content"][0]["reasoningContent"]["reasoningText"]["text"] = json!("other");
    let refusal = sim.refusal(path, &body(&turns)).await;
    assert!(refusal.contains("The model returned the following errors: messages.1.content.0: Invalid"), "{refusal}");
    assert_eq!(returned(&sim), (1, 1, 0));
}

#[tokio::test]
async fn gemini_wants_the_signature_of_each_step() {
    let sim = Sim::start(SimOptions::default()).await;
    let path = "/v1beta/models/gemini-3.8-flash:generateContent";
    let tools = json!([{"functionDeclarations": [{"name": "find", "parametersJsonSchema": {"type": "object"}}]}]);
    let body = |contents: &[Value]| json!({"contents": contents, "tools": tools});
    let mut contents = vec![json!({"role": "user", "parts": [{"text": QUESTION}]})];
    for _ in 0..2 {
        let answer = sim.answer(path, &body(&contents)).await;
        let made = answer["candidates"][0]["content"].clone();
        assert!(made["parts"][0]["thoughtSignature"].is_string(), "{answer}");
        assert!(answer["usageMetadata"]["thoughtsTokenCount"].as_u64().unwrap() > 0, "{answer}");
        let result = json!({"functionResponse": {"name": "find", "response": {"result": "r"}}});
        contents.extend([made, json!({"role": "user", "parts": [result]})]);
    }
    sim.answer(path, &body(&contents)).await;
    let mut altered = contents.clone();
    altered[1]["parts"][0]["functionCall"]["args"] = json!({"id": 9});
    assert!(sim.refusal(path, &body(&altered)).await.contains("Invalid thought signature."));
    let part = contents[1]["parts"][0].as_object_mut().unwrap();
    part.remove("thoughtSignature");
    assert!(sim.refusal(path, &body(&contents)).await.contains("missing a thought_signature"));
    contents[1]["parts"][0]["thoughtSignature"] = json!("skip_thought_signature_validator");
    sim.answer(path, &body(&contents)).await;
}

#[tokio::test]
async fn gemini_in_openais_form_wants_its_signature_too() {
    let sim = Sim::start(SimOptions::default()).await;
    let path = "/v1beta/openai/chat/completions";
    let tools = json!([{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]);
    let body = |turns: &[Value]| json!({"model": "gemini-4-carbon", "messages": turns, "tools": tools});
    let mut turns = vec![json!({"role": "user", "content": QUESTION})];
    let made = sim.answer(path, &body(&turns)).await["choices"][0]["message"].clone();
    let result = json!({"role": "tool", "tool_call_id": made["tool_calls"][0]["id"], "content": "r"});
    turns.extend([made, result]);
    sim.answer(path, &body(&turns)).await;
    turns[1]["tool_calls"][0].as_object_mut().unwrap().remove("extra_content");
    assert!(sim.refusal(path, &body(&turns)).await.contains("missing a thought_signature"));
}

#[tokio::test]
async fn deepseek_wants_its_reasoning_back() {
    let sim = Sim::start(SimOptions::default()).await;
    let path = "/v1/chat/completions";
    let tools = json!([{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]);
    let body = |turns: &[Value]| json!({"model": "deepseek-v4-pro", "messages": turns, "tools": tools});
    let mut turns = vec![json!({"role": "user", "content": QUESTION})];
    let made = sim.answer(path, &body(&turns)).await["choices"][0]["message"].clone();
    assert!(made["reasoning_content"].is_string(), "{made}");
    let result = json!({"role": "tool", "tool_call_id": made["tool_calls"][0]["id"], "content": "r"});
    turns.extend([made, result]);
    sim.answer(path, &body(&turns)).await;
    turns[1].as_object_mut().unwrap().remove("reasoning_content");
    let refusal = sim.refusal(path, &body(&turns)).await;
    assert!(
        refusal.contains("The `reasoning_content` in the thinking mode must be passed back to the API."),
        "{refusal}"
    );
    assert_eq!(returned(&sim), (1, 0, 1));
}

#[tokio::test]
async fn responses_read_back_their_reasoning_items() {
    let sim = Sim::start(SimOptions::default()).await;
    let tools = json!([{"type": "function", "name": "find", "parameters": {"type": "object"}}]);
    let body = |items: &[Value]| json!({"model": "gpt-6.2-sol", "input": items, "tools": tools, "store": false, "include": ["reasoning.encrypted_content"]});
    let mut items = vec![json!({"role": "user", "content": QUESTION})];
    for _ in 0..2 {
        let answer = sim.answer("/v1/responses", &body(&items)).await;
        let output = answer["output"].as_array().unwrap();
        let kinds: Vec<&str> = output.iter().map(|item| item["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["reasoning", "function_call"], "{answer}");
        assert!(answer["usage"]["output_tokens_details"]["reasoning_tokens"].as_u64().unwrap() > 0);
        items.extend(output.clone());
        items.push(json!({"type": "function_call_output", "call_id": output[1]["call_id"], "output": "r"}));
    }
    sim.answer("/v1/responses", &body(&items)).await;
    assert_eq!(returned(&sim), (3, 0, 0));
    let mut altered = items.clone();
    altered[1]["encrypted_content"] = altered[4]["encrypted_content"].clone();
    assert!(sim.refusal("/v1/responses", &body(&altered)).await.contains("without its required 'reasoning' item"));
    altered[1]["encrypted_content"] = json!("gAAAAnonsense");
    assert!(sim.refusal("/v1/responses", &body(&altered)).await.contains("invalid_encrypted_content"));
    let mut partly = items.clone();
    partly.remove(1);
    assert!(sim.refusal("/v1/responses", &body(&partly)).await.contains("without its required 'reasoning' item"));
    let mut orphan = items.clone();
    orphan.truncate(2);
    assert!(sim.refusal("/v1/responses", &body(&orphan)).await.contains("without its required following item"));
    items.retain(|item| item["type"] != "reasoning");
    sim.answer("/v1/responses", &body(&items)).await;
}

#[tokio::test]
async fn ollama_takes_any_thinking_and_counts_it() {
    let sim = Sim::start(SimOptions::default()).await;
    let tools = json!([{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]);
    let body =
        |turns: &[Value]| json!({"model": "qwen", "messages": turns, "tools": tools, "think": true, "stream": false});
    let mut turns = vec![json!({"role": "user", "content": format!("{QUESTION} [[reason:5]]")})];
    let made = sim.answer("/api/chat", &body(&turns)).await["message"].clone();
    turns.extend([made, json!({"role": "tool", "tool_name": "find", "content": "r"})]);
    sim.answer("/api/chat", &body(&turns)).await;
    turns[1].as_object_mut().unwrap().remove("thinking");
    sim.answer("/api/chat", &body(&turns)).await;
    assert_eq!(returned(&sim), (1, 0, 1));
}
