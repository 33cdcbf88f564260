//! What Anthropic refuses by model, of cache breakpoints and of returned thinking.

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::super::cache::CacheRules;
use super::super::prefix::{Chain, Keep, chars, content_chars};
use super::super::prompt::Prompt;
use super::super::rules::claude::{Claude, Parameters};
use super::super::rules::model::Model;
use super::super::rules::{fields, schema};
use super::Refusal;
use super::thinking::{SignedBlock, ThinkingFault, ThinkingTurn, judge, last_question};

/// Version of the API that has no sampling parameters at all.
const STRICT_VERSION: &[u8] = b"2026-10-21";
/// Value of `anthropic-beta` that allows `thinking.block_binding`.
const BINDING_BETA: &str = "thinking-binding-controls-2026-08-01";
/// Largest number of cache breakpoints.
const MAX_BREAKPOINTS: usize = 4;
const NO_BINDING: &str = "Remove the block, or set `thinking.block_binding.prefix_mismatch_behavior` to \"drop_block\". \
                          That setting requires the `thinking-binding-controls-2026-08-01` value in the `anthropic-beta` header.";

/// Checks a request that is well formed, and notes what caches and signatures need.
pub(super) fn apply(prompt: &mut Prompt<'_>, body: &Value, headers: &HeaderMap) {
    let mut parameters = Parameters::of(body);
    let messages = list(body, "messages");
    parameters.is_prefilled = is_prefilled(messages);
    prompt.refuse(unknown_field(body));
    let claude = if let Model::Claude(claude) = Model::of(&prompt.model) { Some(claude) } else { None };
    if let Some(claude) = claude {
        prompt.refuse(claude.refuses(&parameters).map(Refusal::bad));
        prompt.refuse(of_version(headers, body));
        prompt.refuse(schemas(body));
        prompt.refuse(expected_thinking(body, messages));
        prompt.thinks = prompt.thinks || claude.thinks(&parameters);
        prompt.reasons = claude.thinks(&parameters) && prompt.may_call();
    }
    prompt.refuse(binding(headers, body));
    let drops = body.pointer("/thinking/block_binding/prefix_mismatch_behavior") == Some(&json!("drop_block"));
    let (chain, turns) = read(body, messages);
    prompt.refuse(breakpoints(body, &chain));
    let open_from = last_question(messages, |block| block.get("type") == Some(&json!("tool_result")));
    let checks = claude.is_some_and(Claude::checks_prefix) && !drops;
    let (returned, fault) = judge(&prompt.model, &turns, open_from, checks);
    prompt.refuse(fault.map(|fault| Refusal::bad(told(&fault))));
    prompt.returned = returned;
    prompt.chain = chain;
    prompt.caching = CacheRules::Marked { minimum_tokens: claude.map_or(1_024, Claude::cache_minimum) };
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn word<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Returns true when the assistant's turn is begun for it. A turn that paused in a tool of the provider is none.
fn is_prefilled(messages: &[Value]) -> bool {
    let Some(last) = messages.last().filter(|message| word(message, "role") == "assistant") else { return false };
    let kind = list(last, "content").last().map_or("", |block| word(block, "type"));
    kind != "server_tool_use" && !(kind.ends_with("_tool_result"))
}

fn unknown_field(body: &Value) -> Option<Refusal> {
    let tool = list(body, "tools")
        .iter()
        .enumerate()
        .find_map(|(index, tool)| fields::unknown_of_tool(tool).map(|field| format!("tools.{index}.custom.{field}")));
    let block = || {
        blocks(list(body, "messages")).find_map(|(index, at, block)| {
            let field = fields::unknown_of_block(block)?;
            Some(format!("messages.{index}.content.{at}.{}.{field}", word(block, "type")))
        })
    };
    tool.or_else(block).map(|place| Refusal::bad(format!("{place}: Extra inputs are not permitted")))
}

/// Returns all content blocks with the numbers of their message and their own.
fn blocks(messages: &[Value]) -> impl Iterator<Item = (usize, usize, &Value)> {
    messages.iter().enumerate().flat_map(|(index, message)| {
        list(message, "content").iter().enumerate().map(move |(at, block)| (index, at, block))
    })
}

/// Refuses what the newest version of the API has no more.
fn of_version(headers: &HeaderMap, body: &Value) -> Option<Refusal> {
    if headers.get("anthropic-version")?.as_bytes() != STRICT_VERSION {
        return None;
    }
    if let Some(name) =
        ["temperature", "top_p", "top_k"].into_iter().find(|name| body.get(*name).is_some_and(|v| !v.is_null()))
    {
        return Some(Refusal::bad(format!("{name}: Extra inputs are not permitted")));
    }
    let messages = list(body, "messages");
    blocks(messages).find_map(|(index, at, block)| {
        let place = format!("messages.{index}.content.{at}");
        let is_assistant = word(&messages[index], "role") == "assistant";
        match word(block, "type") {
            "document" if is_assistant => {
                Some(Refusal::bad(format!("{place}: `document` blocks are not permitted in `assistant` messages")))
            }
            "text" if !is_assistant && block.get("citations").is_some_and(|value| !value.is_null()) => {
                Some(Refusal::bad(format!("{place}.text.citations: Extra inputs are not permitted")))
            }
            _ => None,
        }
    })
}

/// Refuses parameters that are no schema of an object, and open schemas where only closed ones are taken.
fn schemas(body: &Value) -> Option<Refusal> {
    let own = |tool: &&Value| matches!(word(tool, "type"), "" | "custom");
    for (index, tool) in list(body, "tools").iter().enumerate().filter(|(_, tool)| own(tool)) {
        let schema = &tool["input_schema"];
        if word(schema, "type") != "object" {
            let problem = if schema.get("type").is_some() { "Input should be 'object'" } else { "Field required" };
            return Some(Refusal::bad(format!("tools.{index}.custom.input_schema.type: {problem}")));
        }
        if tool["strict"] == json!(true)
            && let Some(problem) = schema::open_object(schema)
        {
            return Some(Refusal::bad(format!("tools.{index}.custom: {problem}")));
        }
    }
    let format = body.pointer("/output_config/format/schema").or_else(|| body.pointer("/output_format/schema"))?;
    schema::open_object(format).map(|problem| Refusal::bad(format!("output_config.format.schema: {problem}")))
}

/// Refuses calls without the thinking before them when thinking was turned on by hand.
fn expected_thinking(body: &Value, messages: &[Value]) -> Option<Refusal> {
    if body.pointer("/thinking/type")? != "enabled" {
        return None;
    }
    let (index, last) = messages.iter().enumerate().rfind(|(_, message)| word(message, "role") == "assistant")?;
    let content = list(last, "content");
    let has_calls = content.iter().any(|block| word(block, "type") == "tool_use");
    let kind = content.first().map(|block| word(block, "type"))?;
    if !has_calls || index + 2 != messages.len() || kind.ends_with("thinking") {
        return None;
    }
    Some(Refusal::bad(format!(
        "messages.{index}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{kind}`. When `thinking` is \
         enabled, a final `assistant` message must start with a thinking block (preceeding the lastmost set of `tool_use` and \
         `tool_result` blocks). We recommend you include thinking blocks from previous turns. To avoid this requirement, \
         disable `thinking`."
    )))
}

fn binding(headers: &HeaderMap, body: &Value) -> Option<Refusal> {
    let kind = word(body.get("thinking")?, "type");
    body.pointer("/thinking/block_binding")?;
    let betas = headers.get_all("anthropic-beta").iter().filter_map(|value| value.to_str().ok());
    let allowed = betas.flat_map(|value| value.split(',')).any(|beta| beta.trim() == BINDING_BETA);
    (!allowed).then(|| Refusal::bad(format!("thinking.{kind}.block_binding: Extra inputs are not permitted")))
}

fn breakpoints(body: &Value, chain: &Chain) -> Option<Refusal> {
    let messages = list(body, "messages");
    let places =
        list(body, "tools").iter().chain(list(body, "system")).chain(blocks(messages).map(|(_, _, block)| block));
    let controls =
        std::iter::once(body).chain(places).filter_map(|place| place.get("cache_control")).filter(|c| !c.is_null());
    let mut count = 0;
    for control in controls {
        count += 1;
        if word(control, "type") != "ephemeral" {
            return Some(Refusal::bad("cache_control.type: Input should be 'ephemeral'"));
        }
        if control.get("ttl").is_some_and(|ttl| ttl != "5m" && ttl != "1h") {
            return Some(Refusal::bad("cache_control.ephemeral.ttl: Input should be '5m' or '1h'"));
        }
    }
    if count > MAX_BREAKPOINTS {
        let text = format!("A maximum of {MAX_BREAKPOINTS} blocks with cache_control may be provided. Found {count}.");
        return Some(Refusal::bad(text));
    }
    let marks: Vec<Keep> = chain.marks().collect();
    let is_late = marks.windows(2).any(|pair| pair == [Keep::FiveMinutes, Keep::OneHour]);
    is_late.then(|| {
        Refusal::bad(
            "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. Note that blocks are \
             processed in the following order: `tools`, `system`, `messages`.",
        )
    })
}

/// Reads the parts of the request in order, and the thinking of the assistant's turns.
fn read<'v>(body: &'v Value, messages: &'v [Value]) -> (Chain, Vec<ThinkingTurn<'v>>) {
    let (mut chain, mut turns) = (Chain::default(), Vec::new());
    for tool in list(body, "tools") {
        chain.tool(tool, keep(tool));
    }
    match body.get("system") {
        Some(Value::String(text)) => chain.system(&text_block(text), chars(text), None),
        Some(Value::Array(blocks)) => {
            for block in blocks {
                chain.system(block, block_chars(block), keep(block));
            }
        }
        _ => {}
    }
    let effort = body.pointer("/output_config/effort");
    chain.settings(&json!([body.get("tool_choice"), body.get("thinking"), effort]));
    for (index, message) in messages.iter().enumerate() {
        let role = word(message, "role");
        if role == "assistant" {
            turns.push(turn(index, message, &chain));
        }
        match message.get("content") {
            Some(Value::String(text)) => chain.message(role, &text_block(text), chars(text), None),
            content => {
                for block in content.and_then(Value::as_array).into_iter().flatten() {
                    chain.message(role, block, block_chars(block), keep(block));
                }
            }
        }
    }
    if let Some(keep) = keep(body) {
        chain.mark_end(keep);
    }
    (chain, turns)
}

fn turn<'v>(index: usize, message: &'v Value, chain: &Chain) -> ThinkingTurn<'v> {
    let content = list(message, "content");
    let signed = |(at, block): (usize, &'v Value)| {
        (word(block, "type") == "thinking").then(|| SignedBlock {
            at,
            text: word(block, "thinking"),
            signature: word(block, "signature"),
        })
    };
    let calls = content.iter().filter(|block| word(block, "type") == "tool_use").map(|block| word(block, "id"));
    ThinkingTurn {
        index,
        prefix: chain.prefix(),
        blocks: content.iter().enumerate().filter_map(signed).collect(),
        calls: calls.collect(),
    }
}

fn text_block(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn block_chars(block: &Value) -> u64 {
    match word(block, "type") {
        "text" => chars(word(block, "text")),
        "tool_result" => block.get("content").map_or(0, content_chars),
        _ => 0,
    }
}

fn keep(block: &Value) -> Option<Keep> {
    let control = block.get("cache_control").filter(|control| !control.is_null())?;
    Some(if word(control, "ttl") == "1h" { Keep::OneHour } else { Keep::FiveMinutes })
}

pub(super) fn told(fault: &ThinkingFault) -> String {
    match fault {
        ThinkingFault::Altered(index, at) => {
            format!("messages.{index}.content.{at}: Invalid `signature` in `thinking` block")
        }
        ThinkingFault::Moved(index, at, what) => format!(
            "messages.{index}.content.{at}: Invalid `signature` in `thinking` block. The block is bound to a different \
             conversation. {NO_BINDING} {what}"
        ),
        ThinkingFault::Dropped(index) => format!(
            "messages.{index}.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be \
             modified. These blocks must remain as they were in the original response."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the refusal of a request with these headers.
    fn refusal(headers: &[(&'static str, &str)], more: Value) -> Option<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let mut body = json!({"messages": [{"role": "user", "content": "hi"}]});
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        let mut prompt = Prompt { model: "claude-opus-4-6".into(), ..Prompt::default() };
        apply(&mut prompt, &body, &map);
        prompt.refusal.map(|refusal| refusal.message)
    }

    #[test]
    fn the_newest_version_of_the_api_has_less() {
        let cited = json!({"type": "text", "text": "x", "citations": []});
        let document = json!({"type": "document", "source": {"type": "text", "data": "x", "media_type": "text/plain"}});
        let asked = json!({"role": "user", "content": "hi"});
        let said = |role: &str, block: &Value| json!({"role": role, "content": [block]});
        for (more, word) in [
            (json!({"temperature": 1.0}), "temperature"),
            (json!({"messages": [said("user", &cited)]}), "citations"),
            (json!({"messages": [asked, said("assistant", &document), asked]}), "`document` blocks"),
        ] {
            let text = refusal(&[("anthropic-version", "2026-10-21")], more.clone()).unwrap_or_default();
            assert!(text.contains(word), "{more}: {text}");
            assert_eq!(refusal(&[("anthropic-version", "2023-06-01")], more), None);
        }
    }

    #[test]
    fn blocks_are_bound_loosely_by_a_beta_only() {
        let binding = json!({"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}});
        let body = json!({"thinking": binding});
        let text = refusal(&[], body.clone()).unwrap_or_default();
        assert_eq!(text, "thinking.adaptive.block_binding: Extra inputs are not permitted");
        assert_eq!(refusal(&[("anthropic-beta", "a, thinking-binding-controls-2026-08-01")], body), None);
    }

    #[test]
    fn a_block_that_moved_is_refused_unless_the_request_drops_it() {
        let model = "claude-opus-5-5";
        let signature = super::super::super::signature::sign(model, "so", Chain::default().prefix());
        let thinking = json!({"type": "thinking", "thinking": "so", "signature": signature});
        let messages = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": [thinking]},
            {"role": "user", "content": "and?"}]);
        let judged = |more: Value| {
            let mut headers = HeaderMap::new();
            headers.insert("anthropic-beta", BINDING_BETA.parse().unwrap());
            let mut prompt = Prompt { model: model.into(), ..Prompt::default() };
            apply(&mut prompt, &json!({"messages": messages, "thinking": more}), &headers);
            prompt.refusal.map(|refusal| refusal.message).unwrap_or_default()
        };
        assert!(judged(json!({"type": "adaptive"})).contains("bound to a different conversation"));
        let drops = json!({"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}});
        assert_eq!(judged(drops), "");
    }

    #[test]
    fn an_hour_comes_before_five_minutes() {
        let block =
            |ttl: &str| json!({"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": ttl}});
        let system = |first: &str, second: &str| json!({"system": [block(first), block(second)]});
        assert_eq!(refusal(&[], system("1h", "5m")), None);
        assert!(refusal(&[], system("5m", "1h")).unwrap_or_default().contains("must not come after"));
    }
}
