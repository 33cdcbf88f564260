//! What Bedrock refuses by model, of cache points and of returned reasoning.

use serde_json::{Value, json};

use super::super::cache::CacheRules;
use super::super::prefix::{Chain, Keep, chars, content_chars};
use super::super::prompt::Prompt;
use super::super::rules::claude::{Claude, Parameters};
use super::super::rules::model::{Model, lacks_profile};
use super::super::rules::schema;
use super::Refusal;
use super::anthropic_rules::told;
use super::thinking::{SignedBlock, ThinkingTurn, judge, last_question};

/// Largest number of cache points.
const MAX_CACHE_POINTS: usize = 4;

/// Checks a request that is well formed, and notes what caches and signatures need.
pub(super) fn apply(prompt: &mut Prompt<'_>, body: &Value) {
    let messages = list(body, "/messages");
    let claude = match Model::of(&prompt.model) {
        Model::Claude(claude) => {
            of_claude(prompt, claude, body, messages);
            Some(claude)
        }
        Model::Gpt(gpt) => {
            let config = |key: &str| body.pointer(&format!("/inferenceConfig/{key}"));
            let asked = json!({"temperature": config("temperature"), "top_p": config("topP")});
            prompt.refuse(gpt.refuses_response(&asked).map(|refusal| of_model(&refusal.message)));
            None
        }
        _ => None,
    };
    let (chain, turns) = read(body, messages);
    prompt.refuse(cache_points(body, messages));
    let open_from = last_question(messages, |block| block.get("toolResult").is_some());
    let (returned, fault) = judge(&prompt.model, &turns, open_from, claude.is_some_and(Claude::checks_prefix));
    prompt.refuse(fault.map(|fault| of_model(&told(&fault))));
    prompt.returned = returned;
    prompt.chain = chain;
    prompt.caching = CacheRules::Marked { minimum_tokens: claude.map_or(1_024, Claude::cache_minimum) };
}

/// Returns a refusal that Bedrock passes on.
fn of_model(message: &str) -> Refusal {
    Refusal::bad(format!("The model returned the following errors: {message}"))
}

fn list<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn of_claude(prompt: &mut Prompt<'_>, claude: Claude, body: &Value, messages: &[Value]) {
    if lacks_profile(&prompt.model) {
        prompt.refuse(Refusal::bad(format!(
            "Invocation of model ID {} with on-demand throughput isn’t supported. Retry your request with the ID or ARN of an \
             inference profile that contains this model.",
            prompt.model
        )));
    }
    let nothing = Value::Null;
    let fields = Parameters::of(body.get("additionalModelRequestFields").unwrap_or(&nothing));
    let number = |key: &str| body.pointer(&format!("/inferenceConfig/{key}")).and_then(Value::as_f64);
    let choice = body.pointer("/toolConfig/toolChoice");
    let asked = Parameters {
        temperature: number("temperature").or(fields.temperature),
        top_p: number("topP").or(fields.top_p),
        is_forced: fields.is_forced
            || choice.is_some_and(|choice| choice.get("any").is_some() || choice.get("tool").is_some()),
        is_prefilled: messages.last().is_some_and(|message| message["role"] == "assistant"),
        ..fields
    };
    prompt.refuse(claude.refuses(&asked).map(|problem| of_model(&problem)));
    prompt.refuse(schemas(body));
    prompt.refuse(expected_thinking(&asked, messages));
    prompt.thinks = prompt.thinks || claude.thinks(&asked);
    prompt.reasons = claude.thinks(&asked) && prompt.may_call();
}

fn schemas(body: &Value) -> Option<Refusal> {
    for (index, tool) in list(body, "/toolConfig/tools").iter().enumerate() {
        let Some(schema) = tool.pointer("/toolSpec/inputSchema/json") else { continue };
        if schema["type"] != "object" {
            return Some(Refusal::bad(format!(
                "The value at toolConfig.tools.{index}.toolSpec.inputSchema.json.type must be one of the following: object."
            )));
        }
        if tool.pointer("/toolSpec/strict") == Some(&json!(true))
            && let Some(problem) = schema::open_object(schema)
        {
            return Some(of_model(&format!("tools.{index}.custom: {problem}")));
        }
    }
    let text = body.pointer("/outputConfig/textFormat/structure/jsonSchema/schema")?.as_str()?;
    let problem = schema::open_object(&serde_json::from_str(text).ok()?)?;
    Some(of_model(&format!("output_config.format.schema: {problem}")))
}

/// Refuses calls without the reasoning before them when reasoning was turned on by hand.
fn expected_thinking(asked: &Parameters<'_>, messages: &[Value]) -> Option<Refusal> {
    if asked.thinking != Some("enabled") {
        return None;
    }
    let (index, last) = messages.iter().enumerate().rfind(|(_, message)| message["role"] == "assistant")?;
    let content = list(last, "/content");
    let has_calls = content.iter().any(|block| block.get("toolUse").is_some());
    let first = content.first()?;
    if !has_calls || index + 2 != messages.len() || first.get("reasoningContent").is_some() {
        return None;
    }
    let kind = if first.get("toolUse").is_some() { "tool_use" } else { "text" };
    Some(of_model(&format!(
        "messages.{index}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{kind}`. When `thinking` is \
         enabled, a final `assistant` message must start with a thinking block (preceeding the lastmost set of `tool_use` and \
         `tool_result` blocks)."
    )))
}

fn cache_points(body: &Value, messages: &[Value]) -> Option<Refusal> {
    let content = messages.iter().flat_map(|message| list(message, "/content"));
    let places = list(body, "/toolConfig/tools").iter().chain(list(body, "/system")).chain(content);
    let mut count = 0;
    for point in places.filter_map(|block| block.get("cachePoint")) {
        count += 1;
        let is_known = point["type"] == "default" && point.get("ttl").is_none_or(|ttl| ttl == "5m" || ttl == "1h");
        if !is_known {
            return Some(Refusal::bad(
                "1 validation error detected: Value at 'cachePoint' failed to satisfy constraint: type must be default and ttl \
                 5m or 1h",
            ));
        }
    }
    (count > MAX_CACHE_POINTS).then(|| {
        of_model(&format!("A maximum of {MAX_CACHE_POINTS} blocks with cache_control may be provided. Found {count}."))
    })
}

/// Reads the parts of the request in order, and the reasoning of the assistant's turns.
fn read<'v>(body: &'v Value, messages: &'v [Value]) -> (Chain, Vec<ThinkingTurn<'v>>) {
    let (mut chain, mut turns) = (Chain::default(), Vec::new());
    for tool in list(body, "/toolConfig/tools") {
        if !mark(&mut chain, tool) {
            chain.tool(tool, None);
        }
    }
    for block in list(body, "/system") {
        if !mark(&mut chain, block) {
            chain.system(block, block_chars(block), None);
        }
    }
    chain.settings(&json!([body.pointer("/toolConfig/toolChoice"), body.get("additionalModelRequestFields")]));
    for (index, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        if role == "assistant" {
            turns.push(turn(index, message, &chain));
        }
        for block in list(message, "/content") {
            if !mark(&mut chain, block) {
                chain.message(role, block, block_chars(block), None);
            }
        }
    }
    (chain, turns)
}

/// Marks the end of the chain when the block is a cache point; returns true for one.
fn mark(chain: &mut Chain, block: &Value) -> bool {
    let Some(point) = block.get("cachePoint") else { return false };
    chain.mark_end(if point["ttl"] == "1h" { Keep::OneHour } else { Keep::FiveMinutes });
    true
}

fn turn<'v>(index: usize, message: &'v Value, chain: &Chain) -> ThinkingTurn<'v> {
    let content = list(message, "/content");
    let signed = |(at, block): (usize, &'v Value)| {
        let reasoning = block.pointer("/reasoningContent/reasoningText")?;
        let word = |key: &str| reasoning.get(key).and_then(Value::as_str).unwrap_or_default();
        Some(SignedBlock { at, text: word("text"), signature: word("signature") })
    };
    let calls = content.iter().filter_map(|block| block.pointer("/toolUse/toolUseId")?.as_str());
    ThinkingTurn {
        index,
        prefix: chain.prefix(),
        blocks: content.iter().enumerate().filter_map(signed).collect(),
        calls: calls.collect(),
    }
}

fn block_chars(block: &Value) -> u64 {
    let text = block.get("text").and_then(Value::as_str).map_or(0, chars);
    text + block.pointer("/toolResult/content").map_or(0, content_chars)
}
