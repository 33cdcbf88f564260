//! Prompt caches: what is read and written is counted for exact prefixes, in each provider's usage.
#![allow(clippy::unwrap_used, reason = "a test may panic, also in its helpers")]

mod common;

use agentry_sim::llm::SimOptions;
use serde_json::{Value, json};

use common::Sim;

/// Returns a text of so many tokens.
fn text(tokens: usize) -> String {
    "abc ".repeat(tokens)
}

#[tokio::test]
async fn anthropic_counts_breakpoints_by_time() {
    let sim = Sim::start(SimOptions::default()).await;
    let ask = async |system: &str, question: &str, ttl: &str, model: &str| -> Value {
        let system = json!([{"type": "text", "text": system, "cache_control": {"type": "ephemeral", "ttl": ttl}}]);
        let body = json!({"model": model, "max_tokens": 9_000, "system": system, "cache_control": {"type": "ephemeral"},
            "messages": [{"role": "user", "content": question}]});
        sim.answer("/v1/messages", &body).await["usage"].clone()
    };
    let (long, short) = (text(2_000), text(300));
    let first = ask(&long, &short, "1h", "claude-opus-5-5").await;
    assert_eq!((&first["cache_read_input_tokens"], &first["cache_creation_input_tokens"]), (&json!(0), &json!(2_300)));
    let created = json!({"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 2_000});
    assert_eq!((&first["cache_creation"], &first["input_tokens"]), (&created, &json!(0)));
    let second = ask(&long, "something else", "1h", "claude-opus-5-5").await;
    assert_eq!(second["cache_read_input_tokens"], 2_000, "{second}");
    let changed = ask(&format!("x{long}"), &short, "1h", "claude-opus-5-5").await;
    assert_eq!(changed["cache_read_input_tokens"], 0, "{changed}");
    let small = ask(&text(400), "q", "5m", "claude-opus-5-5").await;
    assert_eq!((&small["cache_creation_input_tokens"], &small["input_tokens"]), (&json!(0), &json!(401)), "too small");
    let stricter = ask(&text(2_000), "q", "5m", "claude-haiku-4-5").await;
    assert_eq!(stricter["cache_creation_input_tokens"], 0, "{stricter}");
    assert_eq!(sim.stats().cached_tokens, 2_000);
}

#[tokio::test]
async fn anthropic_caches_nothing_that_is_not_marked() {
    let sim = Sim::start(SimOptions::default()).await;
    let body = json!({"model": "claude-opus-5-5", "max_tokens": 9_000, "messages": [{"role": "user", "content": text(3_000)}]});
    for _ in 0..2 {
        let usage = sim.answer("/v1/messages", &body).await["usage"].clone();
        assert_eq!((&usage["cache_read_input_tokens"], &usage["input_tokens"]), (&json!(0), &json!(3_000)));
    }
}

#[tokio::test]
async fn bedrock_counts_cache_points() {
    let sim = Sim::start(SimOptions::default()).await;
    let body = json!({"system": [{"text": text(2_000)}, {"cachePoint": {"type": "default", "ttl": "1h"}}],
        "messages": [{"role": "user", "content": [{"text": text(10)}]}]});
    let path = "/model/us.anthropic.claude-opus-5-5/converse";
    let first = sim.answer(path, &body).await["usage"].clone();
    assert_eq!((&first["cacheWriteInputTokens"], &first["inputTokens"]), (&json!(2_000), &json!(10)), "{first}");
    assert_eq!(first["cacheDetails"], json!([{"ttl": "1h", "inputTokens": 2_000}]));
    let second = sim.answer(path, &body).await["usage"].clone();
    assert_eq!(
        (&second["cacheReadInputTokens"], &second["cacheWriteInputTokens"]),
        (&json!(2_000), &json!(0)),
        "{second}"
    );
}

#[tokio::test]
async fn openai_caches_prefixes_by_itself() {
    let sim = Sim::start(SimOptions::default()).await;
    let ask = async |model: &str, key: &str, input: Value| -> Value {
        let body = json!({"model": model, "instructions": text(1_500), "input": input, "prompt_cache_key": key});
        sim.answer("/v1/responses", &body).await["usage"]["input_tokens_details"].clone()
    };
    let said = |text: &str| json!({"role": "user", "content": text});
    let details = |cached: u64, written: u64| json!({"cached_tokens": cached, "cache_write_tokens": written});
    assert_eq!(ask("gpt-6.2-sol", "a", json!([said(&text(10))])).await, details(0, 1_510));
    let longer = json!([said(&text(10)), said(&text(20))]);
    assert_eq!(ask("gpt-6.2-sol", "a", longer.clone()).await, details(1_510, 20));
    assert_eq!(ask("gpt-6.2-sol", "b", longer.clone()).await, details(0, 1_530), "another key");
    assert_eq!(ask("gpt-5.4", "a", longer).await, details(0, 0), "older models bill no writes");
    let chat = json!({"model": "gpt-4.1", "messages": [{"role": "user", "content": text(1_100)}]});
    for cached in [0, 1_100] {
        let usage = sim.answer("/v1/chat/completions", &chat).await["usage"].clone();
        assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], cached, "{usage}");
    }
}

#[tokio::test]
async fn what_failed_is_not_cached_and_a_directive_counts_instead() {
    let sim = Sim::start(SimOptions::default()).await;
    let ask = |question: &str| json!({"model": "gpt-6.2-sol", "instructions": text(1_500), "input": question});
    let (status, _) = sim.call("/v1/responses", &ask("[[fail:500]]")).await;
    assert_eq!(status, 500);
    let usage = sim.answer("/v1/responses", &ask("hi")).await["usage"].clone();
    assert_eq!(usage["input_tokens_details"]["cached_tokens"], 0);
    let usage = sim.answer("/v1/responses", &ask("[[cached:4]]")).await["usage"].clone();
    assert_eq!(usage["input_tokens_details"], json!({"cached_tokens": 4, "cache_write_tokens": 0}));
}
