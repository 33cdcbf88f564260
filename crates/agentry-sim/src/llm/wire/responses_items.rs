//! Items of Responses that belong together: calls and outputs, reasoning and what follows it.

use serde_json::Value;

use super::super::fingerprint::RequestPrint;
use super::super::ids::Thought;
use super::super::prefix::Prefix;
use super::super::prompt::Returned;
use super::super::signature::{SignatureCheck, sign, verify};
use super::Refusal;
use super::responses_request::{list, word};

/// What encrypted reasoning begins with.
const ENCRYPTED: &str = "gAAAA";
/// Digits of an answer's ids.
const DIGITS: usize = 24;
/// Digits of the fingerprint of what was thought.
const THOUGHT: usize = 8;

/// Encrypts, or so it looks, the reasoning of the answer with these digits.
pub(super) fn encrypt(model: &str, digits: &str, thinking: &str) -> String {
    let bound = format!("{digits}{:08x}", RequestPrint::default().text(thinking).short());
    format!("{ENCRYPTED}{bound}{}", sign(model, &bound, Prefix::default()))
}

/// Returns what became of encrypted reasoning and the digits of the answer that it came with.
fn decrypt<'v>(model: &str, item: &'v Value) -> (SignatureCheck, &'v str) {
    let text = word(item, "encrypted_content").strip_prefix(ENCRYPTED).unwrap_or_default();
    let (Some(bound), Some(signature)) = (text.get(..DIGITS + THOUGHT), text.get(DIGITS + THOUGHT..)) else {
        return (SignatureCheck::Altered, "");
    };
    let (digits, thought) = bound.split_at(DIGITS);
    let summary: String = list(item, "summary").iter().map(|part| word(part, "text")).collect();
    let is_changed =
        !summary.is_empty() && format!("{:08x}", RequestPrint::default().text(&summary).short()) != thought;
    match verify(signature, model, bound, Prefix::default()) {
        SignatureCheck::Intact if is_changed => (SignatureCheck::Altered, digits),
        verdict => (verdict, digits),
    }
}

/// Checks that calls and outputs belong together.
pub(super) fn unpaired(items: &[Value]) -> Option<Refusal> {
    let refusal = |text: String| Some(Refusal::bad(text).at("input"));
    let (mut made, mut open): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for item in items {
        let id = word(item, "call_id");
        match word(item, "type") {
            "function_call" if made.contains(&id) => {
                return refusal(format!(
                    "Duplicate function call found with call_id {id}. Remove duplicate items from your input and try again."
                ));
            }
            "function_call" => {
                made.push(id);
                open.push(id);
            }
            "function_call_output" => match open.iter().position(|open| *open == id) {
                Some(at) => drop(open.remove(at)),
                None => return refusal(format!("No tool call found for function call output with call_id {id}.")),
            },
            _ => {}
        }
    }
    open.first().and_then(|id| refusal(format!("No tool output found for function call {id}.")))
}

/// Judges the reasoning that came back, and whether it stands before what it was made for.
pub(super) fn reasoning(model: &str, items: &[Value], is_stored: bool) -> (Returned, Option<Refusal>) {
    let mut returned = Returned::default();
    let mut refusal = None;
    let mut note = |found: Refusal| {
        refusal.get_or_insert(found);
    };
    let mut seen = Vec::new();
    let mut is_any = false;
    for (index, item) in items.iter().enumerate().filter(|(_, item)| word(item, "type") == "reasoning") {
        let id = word(item, "id");
        is_any = true;
        if !items.get(index + 1).is_some_and(is_output) {
            note(
                Refusal::bad(format!(
                    "Item '{id}' of type 'reasoning' was provided without its required following item."
                ))
                .at("input"),
            );
        }
        if item.get("encrypted_content").is_none_or(Value::is_null) {
            seen.push(id.trim_start_matches("rs_"));
            if !is_stored {
                note(Refusal::new(404, format!(
                    "Item with id '{id}' not found. Items are not persisted when `store` is set to false. Try again with \
                     `store` set to true, or remove this item from your input."
                )).at("input"));
            }
            continue;
        }
        let (verdict, digits) = decrypt(model, item);
        seen.push(digits);
        match verdict {
            SignatureCheck::Intact | SignatureCheck::Moved(_) => returned.equal += 1,
            SignatureCheck::Foreign => {}
            SignatureCheck::Altered => {
                returned.altered += 1;
                note(Refusal::bad(format!(
                    "The encrypted content for item {id} could not be verified. Reason: Encrypted content could not be \
                     decrypted or parsed."
                )).with_code("invalid_encrypted_content"));
            }
        }
    }
    let mut missed: Vec<&str> = Vec::new();
    for item in items.iter().filter(|item| word(item, "type") == "function_call") {
        let call = word(item, "call_id");
        let Some(digits) = Thought::before(call, model).and_then(|_| call.strip_prefix("call_")?.get(..DIGITS)) else {
            continue;
        };
        if seen.contains(&digits) || missed.contains(&digits) {
            continue;
        }
        missed.push(digits);
        if is_any {
            note(Refusal::bad(format!(
                "Item '{}' of type 'function_call' was provided without its required 'reasoning' item: 'rs_{digits}'.",
                word(item, "id")
            )).at("input"));
        }
    }
    returned.missing = missed.len() as u64;
    (returned, refusal)
}

/// Returns true for items that a model makes.
fn is_output(item: &Value) -> bool {
    match word(item, "type") {
        "" | "message" => word(item, "role") == "assistant",
        "function_call_output" => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::ids::Ids;
    use super::*;

    #[test]
    fn calls_and_outputs_belong_together() {
        let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
        let output = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": "r"});
        let message = |items: &[Value]| unpaired(items).map(|refusal| refusal.message).unwrap_or_default();
        assert_eq!(message(&[call("a"), call("b"), output("b"), output("a")]), "");
        for (items, expected) in [
            (vec![output("a")], "No tool call found for function call output with call_id a."),
            (vec![output("a"), call("a")], "No tool call found"),
            (vec![call("a"), call("b"), output("b")], "No tool output found for function call a."),
            (vec![call("a"), output("a"), output("a")], "No tool call found"),
            (vec![call("a"), output("a"), call("a"), output("a")], "Duplicate"),
        ] {
            assert!(message(&items).contains(expected), "{items:?}: {}", message(&items));
        }
    }

    #[test]
    fn reasoning_comes_back_whole_or_not_at_all() {
        let ids = [Ids::new(1, 1), Ids::new(1, 2)];
        let (thinking, model) = ("so", "gpt-6-sol");
        let reasoned = |at: usize| {
            let content = encrypt(model, &ids[at].digits(), thinking);
            json!({"type": "reasoning", "id": ids[at].named("rs_"), "summary": [], "encrypted_content": content})
        };
        let called = |at: usize| {
            let id = ids[at].call("call_", 0, Thought::of(model, thinking));
            json!({"type": "function_call", "id": "fc_1", "call_id": id, "name": "f", "arguments": "{}"})
        };
        let judge = |items: &[Value], stored| {
            let (returned, refusal) = reasoning(model, items, stored);
            (
                (returned.equal, returned.altered, returned.missing),
                refusal.map(|refusal| refusal.message).unwrap_or_default(),
            )
        };
        assert_eq!(judge(&[reasoned(0), called(0), reasoned(1), called(1)], false), ((2, 0, 0), String::new()));
        assert_eq!(judge(&[called(0), called(1)], false), ((0, 0, 2), String::new()), "all of it may be dropped");
        let (counts, text) = judge(&[reasoned(0), called(0), called(1)], false);
        assert!(counts == (1, 0, 1) && text.contains("without its required 'reasoning' item"), "{text}");
        assert!(judge(&[reasoned(0)], false).1.contains("without its required following item"));
        let mut altered = reasoned(0);
        altered["encrypted_content"] =
            json!(encrypt("m", &ids[0].digits(), "so").replace(&ids[0].digits(), &ids[1].digits()));
        assert!(judge(&[altered, called(0)], false).1.contains("could not be verified"));
        let mut bare = reasoned(0);
        bare["encrypted_content"] = Value::Null;
        assert!(judge(&[bare.clone(), called(0)], false).1.contains("not persisted"));
        assert_eq!(judge(&[bare, called(0)], true).1, "");
        let mut told = reasoned(0);
        told["summary"] = json!([{"type": "summary_text", "text": "other"}]);
        assert_eq!(judge(&[told, called(0)], false).0, (0, 1, 0));
    }
}
