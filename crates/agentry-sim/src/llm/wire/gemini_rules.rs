//! What Gemini refuses by model, and the signatures of calls that it wants back.

use serde_json::Value;

use super::super::answer::ToolCall;
use super::super::cache::CacheRules;
use super::super::fingerprint::RequestPrint;
use super::super::ids::Thought;
use super::super::prefix::{Chain, Prefix};
use super::super::prompt::{Prompt, Returned};
use super::super::rules::model::Model;
use super::super::signature::{SignatureCheck, sign, verify};
use super::gemini_request::{field, list, text_chars, word};
use super::{Refusal, Reply};

/// Smallest cached prefix, in tokens.
const CACHE_MINIMUM: u64 = 4_096;
pub(super) const ALTERED_SIGNATURE: &str = "Invalid thought signature.";
/// Texts in place of a signature, for calls that another model made (Google's page on thought signatures).
pub(super) const UNCHECKED_SIGNATURES: [&str; 2] =
    ["context_engineering_is_the_way_to_go", "skip_thought_signature_validator"];
const LEVELS: [&str; 4] = ["low", "medium", "high", "xhigh"];

/// Returns what the signature of a call covers.
pub(super) fn signed_call(name: &str, input: &Value) -> String {
    format!("{name} {:016x}", RequestPrint::default().value(input).0)
}

/// Signs a call of the answer. Gemini does not bind signatures to what stands before.
pub(super) fn call_signature(reply: &Reply<'_>, call: &ToolCall) -> String {
    sign(&reply.prompt.model, &signed_call(&call.name, &call.input()), Prefix::default())
}

pub(super) fn missing_signature(name: &str, position: usize) -> Refusal {
    Refusal::bad(format!(
        "Function call is missing a thought_signature in functionCall parts. This is required for tools to work correctly, and \
         missing thought_signature may lead to degraded model performance. Additional data, function call \
         `default_api:{name}` , position {}. Please refer to https://ai.google.dev/gemini-api/docs/thought-signatures for more \
         details.",
        position + 1
    ))
}

/// Checks a request that is well formed, and notes what caches need.
pub(super) fn apply(prompt: &mut Prompt<'_>, body: &Value) {
    let major = if let Model::Gemini(major) = Model::of(&prompt.model) { major } else { 0 };
    let config = field(body, "generationConfig");
    let thinking = config.and_then(|config| field(config, "thinkingConfig"));
    prompt.refuse(thinking.and_then(|thinking| refused_thinking(major, thinking)));
    prompt.summarizes = thinking.and_then(|config| field(config, "includeThoughts")) == Some(&Value::Bool(true));
    prompt.reasons = major >= 3 && prompt.may_call();
    prompt.chain = chain(body);
    prompt.caching = CacheRules::Automatic { minimum_tokens: CACHE_MINIMUM, bills_writes: false };
    signatures(prompt, major, list(body, "contents"));
}

fn refused_thinking(major: u32, thinking: &Value) -> Option<Refusal> {
    let (level, budget) = (field(thinking, "thinkingLevel"), field(thinking, "thinkingBudget"));
    if level.is_some() && budget.is_some() {
        return Some(Refusal::bad("You can only set only one of thinking budget and thinking level."));
    }
    if major >= 4 && budget.is_some() {
        return Some(Refusal::bad("Thinking budget is not supported for this model. Use thinking level instead."));
    }
    let level = level?.as_str().unwrap_or_default();
    let is_known = LEVELS.contains(&level.to_ascii_lowercase().as_str());
    (major >= 4 && !is_known).then(|| {
        Refusal::bad(format!(
            "Thinking level {level} is not supported for this model. Please retry with other thinking level."
        ))
    })
}

fn chain(body: &Value) -> Chain {
    let mut chain = Chain::default();
    for tool in list(body, "tools") {
        chain.tool(tool, None);
    }
    if let Some(system) = field(body, "systemInstruction") {
        chain.system(system, list(system, "parts").iter().map(text_chars).sum(), None);
    }
    for content in list(body, "contents") {
        chain.message(word(content, "role"), content, list(content, "parts").iter().map(text_chars).sum(), None);
    }
    chain
}

fn signatures(prompt: &mut Prompt<'_>, major: u32, contents: &[Value]) {
    let asks = |content: &Value| {
        word(content, "role") != "model" && list(content, "parts").iter().any(|part| part.get("text").is_some())
    };
    let open_from = contents.iter().rposition(asks).unwrap_or(0);
    let mut returned = Returned::default();
    for (index, content) in contents.iter().enumerate() {
        let mut calls = list(content, "parts").iter().filter_map(|part| Some((part, field(part, "functionCall")?)));
        let Some((part, call)) = calls.next() else { continue };
        let name = word(call, "name");
        let input = call.get("args").cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        match field(part, "thoughtSignature").and_then(Value::as_str) {
            None => {
                returned.missing += u64::from(Thought::before(word(call, "id"), &prompt.model).is_some());
                if major >= 3 && index > open_from {
                    prompt.refuse(missing_signature(name, index));
                }
            }
            Some(signature) if UNCHECKED_SIGNATURES.contains(&signature) => {}
            Some(signature) => match verify(signature, &prompt.model, &signed_call(name, &input), Prefix::default()) {
                SignatureCheck::Intact | SignatureCheck::Moved(_) => returned.equal += 1,
                SignatureCheck::Foreign => {}
                SignatureCheck::Altered => {
                    returned.altered += 1;
                    prompt.refuse(Refusal::bad(ALTERED_SIGNATURE));
                }
            },
        }
    }
    prompt.returned = returned;
}
