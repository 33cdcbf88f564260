//! What each provider refuses, in its own words and shape, over a socket: one table for each protocol.
#![allow(clippy::unwrap_used, reason = "a test may panic, also in its helpers")]

mod common;

use agentry_sim::llm::SimOptions;
use serde_json::{Value, json};

use common::Sim;

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

/// Returns `body` with these fields in addition.
fn with(mut body: Value, more: Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn chat(model: &str, more: Value) -> Value {
    with(json!({"model": model, "messages": [{"role": "user", "content": "hi"}]}), more)
}

fn response(model: &str, more: Value) -> Value {
    with(json!({"model": model, "input": "hi"}), more)
}

fn message(model: &str, more: Value) -> Value {
    with(json!({"model": model, "max_tokens": 9_000, "messages": [{"role": "user", "content": "hi"}]}), more)
}

fn closed() -> Value {
    json!({"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"], "additionalProperties": false})
}

fn open() -> Value {
    json!({"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]})
}

/// Checks requests that are answered, and others whose refusal has this text.
async fn table(path: &str, rows: Vec<(Value, &str)>) -> Vec<Value> {
    let sim = Sim::start(SimOptions::default()).await;
    let (mut refusals, mut refused) = (Vec::new(), 0);
    for (body, expected) in rows {
        let (status, answer) = sim.call(path, &body).await;
        if expected.is_empty() {
            assert_eq!(status, 200, "{body}: {answer}");
        } else {
            assert_eq!(status, 400, "{body}: {answer}");
            assert!(answer.to_string().contains(expected), "{body}: {answer}");
            refused += 1;
            assert_eq!(sim.stats().refused, refused, "{body}");
            assert!(sim.ledger().pop().unwrap()["refusal"].is_string(), "{body}");
            refusals.push(answer);
        }
    }
    refusals
}

#[tokio::test]
async fn chat_completions() {
    let tool = |parameters: Value, strict| json!([{"type": "function", "function": {"name": "f", "parameters": parameters, "strict": strict}}]);
    let form = |schema: Value, strict| json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": strict}}});
    let tools = json!({"tools": tool(open(), false)});
    let called = |id: &str| json!({"role": "assistant", "tool_calls": [{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
    let asked = json!({"role": "user", "content": "hi"});
    let refusals = table(
        CHAT,
        vec![
            (chat("gpt-4.1-mini", json!({"max_tokens": 9, "temperature": 0.2, "top_p": 0.9, "stop": ["x"]})), ""),
            (chat("sim-small", json!({"max_tokens": 9, "top_k": 5, "anything": 1, "reasoning_effort": "low"})), ""),
            (chat("gpt-5.6-sol", json!({"max_tokens": 9})), "Use 'max_completion_tokens' instead"),
            (chat("gpt-6.2-sol", json!({"temperature": 0.2})), "Only the default (1) value is supported"),
            (chat("o3", json!({"stop": ["x"]})), "'stop' is not supported with this model"),
            (chat("gpt-4.1", json!({"top_k": 5})), "Unknown parameter: 'top_k'."),
            (chat("gpt-6-sol", tools.clone()), "Function tools with reasoning_effort are not supported for gpt-6-sol"),
            (chat("gpt-6-sol", with(tools.clone(), json!({"reasoning_effort": "none"}))), ""),
            (chat("gpt-6.1-terra", with(tools.clone(), json!({"reasoning_effort": "none"}))), "/v1/responses"),
            (chat("gpt-4.1", form(closed(), true)), ""),
            (chat("gpt-4.1", form(open(), false)), ""),
            (chat("gpt-4.1", form(open(), true)), "'additionalProperties' is required to be supplied and to be false"),
            (chat("gpt-4.1", json!({"tools": tool(json!({}), false)})), "got 'type: \\\"None\\\"'"),
            (chat("gpt-4.1", json!({"tools": tool(open(), true)})), "Invalid schema for function 'f'"),
            (chat("sim-small", json!({"tools": tool(json!({}), true)})), ""),
            (chat("sim-small", json!({"messages": [asked, called("a"), asked]})), "did not have response messages: a"),
            (chat("sim-small", json!({"messages": [asked, {"role": "tool", "tool_call_id": "a", "content": "r"}]})), "preceeding"),
            (chat("gpt-4.1", json!({"messages": [{"role": "user", "content": null}]})), "expected a string, got null"),
            (chat("gpt-4.1", json!({"messages": [asked, called(&"a".repeat(41)), {"role": "tool", "tool_call_id": "a".repeat(41), "content": "r"}]})), "maximum length 40"),
        ],
    )
    .await;
    for refusal in refusals {
        let error = refusal["error"].as_object().unwrap();
        let keys: Vec<&str> = error.keys().map(String::as_str).collect();
        assert_eq!(keys, ["code", "message", "param", "type"], "{refusal}");
        assert_eq!(error["type"], "invalid_request_error", "{refusal}");
    }
}

#[tokio::test]
async fn responses() {
    let tool = |parameters: Value, strict| json!({"tools": [{"type": "function", "name": "f", "parameters": parameters, "strict": strict}]});
    let form = |schema: Value| json!({"text": {"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": true}}});
    let call = json!({"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"});
    let output = json!({"type": "function_call_output", "call_id": "a", "output": "r"});
    let refusals = table(
        RESPONSES,
        vec![
            (response("gpt-6.2-sol", tool(open(), false)), ""),
            (response("gpt-6.2-sol", tool(closed(), true)), ""),
            (response("gpt-6.2-sol", tool(open(), true)), "Invalid schema for function 'f'"),
            (response("gpt-6.2-sol", tool(json!({"type": "array"}), false)), "got 'type: \\\"array\\\"'"),
            (response("gpt-6.2-sol", json!({"temperature": 0.2})), "Only the default (1) value is supported"),
            (response("gpt-6.1-sol", json!({"temperature": 0.2, "reasoning": {"effort": "none"}})), ""),
            (response("gpt-6.2-sol", json!({"messages": []})), "has moved to 'input'"),
            (response("gpt-6.2-sol", json!({"stop": ["x"]})), "Unknown parameter: 'stop'."),
            (response("gpt-6.2-sol", json!({"max_tokens": 9})), "Use 'max_output_tokens' instead"),
            (response("gpt-6.2-sol", json!({"max_output_tokens": 9})), "Expected a value >= 16"),
            (response("sim-small", json!({"stop": ["x"], "max_output_tokens": 9})), ""),
            (response("gpt-6.2-sol", form(closed())), ""),
            (response("gpt-6.2-sol", form(json!({"type": "object", "additionalProperties": false, "properties": {"a": {"type": "string", "format": "uri"}}, "required": ["a"]}))), "'uri' is not a valid format"),
            (response("sim-small", json!({"input": [call, output]})), ""),
            (response("sim-small", json!({"input": [call]})), "No tool output found for function call a."),
            (response("sim-small", json!({"input": [output]})), "No tool call found for function call output with call_id a."),
        ],
    )
    .await;
    for refusal in refusals {
        assert!(
            refusal["error"]["message"].is_string() && refusal["error"]["type"] == "invalid_request_error",
            "{refusal}"
        );
    }
}

#[tokio::test]
async fn messages() {
    let tool = |schema: Value| json!([{"name": "f", "input_schema": schema}]);
    let forced = json!({"tools": tool(open()), "tool_choice": {"type": "any"}});
    let form = |schema: Value| json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}});
    let said = |role: &str, content: Value| json!({"role": role, "content": content});
    let call = |id: &str| json!([{"type": "tool_use", "id": id, "name": "f", "input": {}}]);
    let result = |id: &str| json!([{"type": "tool_result", "tool_use_id": id, "content": "r"}]);
    let talk = |turns: Vec<Value>| json!({"messages": turns});
    let marked = json!({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}});
    let refusals = table(
        MESSAGES,
        vec![
            (
                message(
                    "claude-opus-5-5",
                    json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
                ),
                "",
            ),
            (message("claude-opus-5-5", json!({"temperature": 0.2})), "`temperature` is deprecated for this model."),
            (message("claude-opus-5-5", json!({"top_k": 5})), "`top_k` is deprecated"),
            (
                message("claude-opus-4-8", json!({"thinking": {"type": "enabled", "budget_tokens": 2_000}})),
                "thinking.type.enabled",
            ),
            (
                message("claude-haiku-4-5", json!({"thinking": {"type": "adaptive"}})),
                "adaptive thinking is not supported",
            ),
            (message("claude-sonnet-5-5", json!({"thinking": {"type": "disabled"}})), "thinking.type.disabled"),
            (message("claude-haiku-4-5", json!({"output_config": {"effort": "low"}})), "effort"),
            (message("claude-fable-5-2", forced.clone()), "are not supported for this model."),
            (message("claude-haiku-5-5", forced), ""),
            (message("claude-opus-5", talk(vec![said("user", json!("hi")), said("assistant", json!("I"))])), "prefill"),
            (message("claude-haiku-4-5", talk(vec![said("user", json!("hi")), said("assistant", json!("I"))])), ""),
            (
                message("claude-opus-5", json!({"tools": tool(json!({}))})),
                "tools.0.custom.input_schema.type: Field required",
            ),
            (message("claude-opus-5", form(open())), "'additionalProperties' must be explicitly set to false"),
            (message("claude-opus-5", form(closed())), ""),
            (message("claude-opus-5", json!({"seed": 1})), "seed: Extra inputs are not permitted"),
            (
                json!({"model": "claude-opus-5", "messages": [{"role": "user", "content": "hi"}]}),
                "max_tokens: Field required",
            ),
            (message("sim-small", json!({"temperature": 0.2, "top_k": 5, "tools": tool(json!({}))})), ""),
            (
                message("sim-small", talk(vec![said("user", json!(""))])),
                "messages: text content blocks must be non-empty",
            ),
            (
                message("sim-small", talk(vec![said("user", json!([{"type": "text", "text": "\n"}]))])),
                "must contain non-whitespace text",
            ),
            (
                message(
                    "sim-small",
                    talk(vec![said("user", json!("hi")), said("assistant", call("a.b")), said("user", result("a.b"))]),
                ),
                "String should match pattern '^[a-zA-Z0-9_-]+$'",
            ),
            (
                message(
                    "sim-small",
                    talk(vec![
                        said("user", json!("hi")),
                        said("assistant", call("a")),
                        said("user", result("a")),
                        said("assistant", call("a")),
                        said("user", result("a")),
                    ]),
                ),
                "`tool_use` ids must be unique",
            ),
            (
                message(
                    "sim-small",
                    talk(vec![said("user", json!("hi")), said("assistant", call("a")), said("user", json!("so?"))]),
                ),
                "without `tool_result` blocks",
            ),
            (message("sim-small", talk(vec![said("user", result("a"))])), "unexpected `tool_use_id`"),
            (
                message("sim-small", talk(vec![said("user", json!([{"type": "text", "text": "x", "colour": 1}]))])),
                "messages.0.content.0.text.colour: Extra inputs",
            ),
            (
                message("sim-small", talk(vec![said("user", json!([marked, marked, marked, marked, marked]))])),
                "A maximum of 4 blocks with cache_control may be provided. Found 5.",
            ),
            (
                message("sim-small", json!({"cache_control": {"type": "ephemeral", "ttl": "2h"}})),
                "Input should be '5m' or '1h'",
            ),
        ],
    )
    .await;
    for refusal in refusals {
        assert_eq!(
            (&refusal["type"], &refusal["error"]["type"]),
            (&json!("error"), &json!("invalid_request_error")),
            "{refusal}"
        );
    }
}

#[tokio::test]
async fn converse() {
    let sim = Sim::start(SimOptions::default()).await;
    let asked = json!({"role": "user", "content": [{"text": "hi"}]});
    let body = |more: Value| with(json!({"messages": [asked]}), more);
    let tools = |schema: Value| json!({"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": schema}}}]});
    let called =
        |id: &str| json!({"role": "assistant", "content": [{"toolUse": {"toolUseId": id, "name": "f", "input": {}}}]});
    let result = |id: &str, text: &str| json!({"role": "user", "content": [{"toolResult": {"toolUseId": id, "content": [{"text": text}]}}]});
    let talk = |turns: Vec<Value>| json!({"messages": turns, "toolConfig": tools(open())});
    let point = json!({"cachePoint": {"type": "default"}});
    let opus = "us.anthropic.claude-opus-5-5";
    for (model, body, expected) in [
        (opus, body(json!({})), ""),
        (
            opus,
            body(json!({"inferenceConfig": {"temperature": 0.2}})),
            "The model returned the following errors: `temperature`",
        ),
        (
            opus,
            body(json!({"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 2_000}}})),
            "thinking.type.enabled",
        ),
        (
            opus,
            body(json!({"toolConfig": with(tools(open()), json!({"toolChoice": {"any": {}}}))})),
            r#"tool_choice: type \"tool\" and \"any\""#,
        ),
        (
            opus,
            body(json!({"toolConfig": tools(json!({}))})),
            "inputSchema.json.type must be one of the following: object",
        ),
        (opus, body(json!({"messages": [asked, {"role": "assistant", "content": [{"text": "I"}]}]})), "prefill"),
        ("anthropic.claude-opus-5-5", body(json!({})), "on-demand throughput"),
        ("global.openai.gpt-6.2-sol", body(json!({"inferenceConfig": {"temperature": 0.2}})), "Only the default"),
        ("m", body(json!({"inferenceConfig": {"temperature": 0.2}})), ""),
        ("m", body(json!({"messages": [{"role": "user", "content": [{"text": " "}]}]})), "is blank"),
        ("m", talk(vec![asked.clone(), called("a"), result("a", "")]), "toolResult.content.0 is blank"),
        ("m", talk(vec![asked.clone(), called("a/b"), result("a/b", "r")]), "regular expression pattern"),
        ("m", talk(vec![asked.clone(), called("a"), result("b", "r")]), "toolResult"),
        ("m", talk(vec![asked.clone(), called("a"), asked.clone()]), "Expected toolResult blocks"),
        ("m", json!({"messages": [asked, called("a"), result("a", "r")]}), "toolConfig field must be defined"),
        ("m", body(json!({"system": [{"text": "s"}, point, point, point, point, point]})), "A maximum of 4 blocks"),
    ] {
        let (status, answer) = sim.call(&format!("/model/{model}/converse"), &body).await;
        assert_eq!(status, if expected.is_empty() { 200 } else { 400 }, "{model} {body}: {answer}");
        assert!(answer.to_string().contains(expected), "{model} {body}: {answer}");
    }
    let head = sim.post_text(&format!("/model/{opus}/converse"), &body(json!({"messages": []})).to_string()).await;
    assert!(head.contains("x-amzn-errortype: ValidationException"), "{head}");
}

#[tokio::test]
async fn generate_content() {
    let asked = json!({"role": "user", "parts": [{"text": "hi"}]});
    let body = |more: Value| with(json!({"contents": [asked]}), more);
    let thinking = |config: Value| body(json!({"generationConfig": {"thinkingConfig": config}}));
    let called = json!({"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]});
    let result = json!({"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"result": "r"}}}]});
    let refusals = table(
        "/v1beta/models/gemini-4-carbon:generateContent",
        vec![
            (thinking(json!({"thinkingLevel": "HIGH"})), ""),
            (thinking(json!({"thinkingBudget": 0})), "Thinking budget is not supported"),
            (thinking(json!({"thinkingLevel": "minimal"})), "Thinking level minimal is not supported"),
            (body(json!({"max_tokens": 5})), "Unknown name \\\"max_tokens\\\": Cannot find field."),
            (json!({"contents": [asked, called, result]}), "Function call is missing a thought_signature"),
            (json!({"contents": [asked, called]}), "is equal to the number of function call parts"),
            (json!({"contents": [result]}), "immediately after a function call turn"),
        ],
    )
    .await;
    for refusal in refusals {
        assert_eq!(
            (&refusal["error"]["code"], &refusal["error"]["status"]),
            (&json!(400), &json!("INVALID_ARGUMENT")),
            "{refusal}"
        );
    }
}

/// Ollama takes results without calls and the reverse; the simulator is not stricter than that.
#[tokio::test]
async fn ollama_chat() {
    let said = |message: Value| json!({"model": "m", "stream": false, "messages": [message]});
    let called = json!({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]});
    let refusals = table(
        "/api/chat",
        vec![
            (said(json!({"role": "tool", "content": "r"})), ""),
            (said(json!({"role": "robot", "content": "x"})), "invalid role: robot"),
            (said(called), "cannot unmarshal string"),
            (json!({"model": "m", "stream": false, "messages": [], "format": "yaml"}), "invalid format"),
            (json!({"messages": []}), "model is required"),
        ],
    )
    .await;
    assert!(refusals.iter().all(|refusal| refusal["error"].is_string()), "{refusals:?}");
}

#[tokio::test]
async fn what_was_switched_off_is_gone() {
    let sim = Sim::start(SimOptions::default()).await;
    for (path, body, code) in [
        (CHAT, chat("gpt-4-turbo", json!({})), "model_not_found"),
        (RESPONSES, response("o4-mini", json!({})), "model_not_found"),
        (MESSAGES, message("claude-sonnet-4-5", json!({})), "not_found_error"),
        ("/v1beta/models/unknown-1:generateContent", json!({"contents": [{"parts": [{"text": "hi"}]}]}), "NOT_FOUND"),
    ] {
        let (status, answer) = sim.call(path, &body).await;
        assert!(status == 404 && answer.to_string().contains(code), "{path}: {status} {answer}");
    }
}
