//! Parameters that a server refuses although nothing said so before: the request is sent once more without them, or
//! under their other name, and so are later requests to the same model.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};

use super::failure::provider_message;
use crate::Call;

/// Largest number of models whose refusals are remembered; one more forgets all of them.
const MAX_MODELS: usize = 4_096;
/// Fields that a request can do without.
const OPTIONAL: [&str; 24] = [
    "temperature",
    "top_p",
    "topP",
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "stop",
    "stop_sequences",
    "stopSequences",
    "stream_options",
    "parallel_tool_calls",
    "reasoning_effort",
    "reasoning",
    "verbosity",
    "include",
    "prompt_cache_key",
    "cache_control",
    "service_tier",
    "tool_choice",
    "think",
    "keep_alive",
    "requestMetadata",
    "store",
];
/// Names of the limit of an answer. It is never left out: money depends on it.
const RENAMED: [(&str, &str); 2] = [("max_tokens", "max_completion_tokens"), ("max_completion_tokens", "max_tokens")];
/// Objects of a request that hold parameters.
const PARENTS: [&str; 3] = ["inferenceConfig", "additionalModelRequestFields", "options"];
/// Words of messages that refuse a field.
const REFUSES: [&str; 14] = [
    "unsupported",
    "not supported",
    "not support",
    "not permitted",
    "not allowed",
    "unrecognized",
    "unknown",
    "unexpected",
    "deprecated",
    "extra inputs",
    "extra fields",
    "only the default",
    "cannot be used",
    "may only be",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestChange {
    LeaveOut(&'static str),
    Rename(&'static str, &'static str),
}

/// The changes that one model needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RequestChanges(Vec<RequestChange>);

impl RequestChanges {
    /// Returns the body with the changes made.
    pub fn apply(&self, body: Vec<u8>) -> serde_json::Result<Vec<u8>> {
        if self.0.is_empty() {
            return Ok(body);
        }
        let mut fields: Map<String, Value> = serde_json::from_slice(&body)?;
        self.change(&mut fields);
        for parent in PARENTS {
            if let Some(Value::Object(inner)) = fields.get_mut(parent) {
                self.change(inner);
                if inner.is_empty() {
                    fields.remove(parent);
                }
            }
        }
        serde_json::to_vec(&fields)
    }

    fn change(&self, fields: &mut Map<String, Value>) {
        for change in &self.0 {
            match change {
                RequestChange::LeaveOut(name) => {
                    fields.remove(*name);
                }
                RequestChange::Rename(from, to) => {
                    if let Some(value) = fields.remove(*from) {
                        fields.insert((*to).to_owned(), value);
                    }
                }
            }
        }
    }
}

/// Address and id of a model.
type ModelKey = (Option<Arc<str>>, Arc<str>);
type ByModel = HashMap<ModelKey, Arc<RequestChanges>>;

/// The changes of all models that needed any.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    by_model: Mutex<ByModel>,
}

impl Refusals {
    /// Returns the changes for the model of a call.
    pub fn of(&self, call: &Call) -> Arc<RequestChanges> {
        self.lock().get(&key(call)).cloned().unwrap_or_default()
    }

    /// Learns from a refused request; returns the field when the request is worth another try.
    pub fn learn(&self, call: &Call, sent: &[u8], refusal: &[u8]) -> Option<&'static str> {
        let change = change_for(sent, refusal)?;
        let mut known = self.lock();
        if known.len() >= MAX_MODELS {
            known.clear();
        }
        let changes = Arc::make_mut(known.entry(key(call)).or_default());
        let (name, would_undo) = match change {
            RequestChange::LeaveOut(name) => (name, None),
            RequestChange::Rename(from, to) => (from, Some(RequestChange::Rename(to, from))),
        };
        // A server that refuses both names would be asked for ever.
        if changes.0.contains(&change) || would_undo.is_some_and(|undo| changes.0.contains(&undo)) {
            return None;
        }
        changes.0.push(change);
        Some(name)
    }

    fn lock(&self) -> MutexGuard<'_, ByModel> {
        self.by_model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(call: &Call) -> ModelKey {
    (call.target.base_url.clone(), Arc::clone(&call.target.model))
}

fn change_for(sent: &[u8], refusal: &[u8]) -> Option<RequestChange> {
    let refusal: Value = serde_json::from_slice(refusal).ok()?;
    let message = provider_message(&refusal).map_or_else(|| Cow::Owned(refusal.to_string()), Cow::Borrowed);
    let folded = message.to_ascii_lowercase();
    let param = refusal.pointer("/error/param").and_then(Value::as_str);
    if !REFUSES.iter().any(|words| folded.contains(words)) {
        return None;
    }
    let sent: Map<String, Value> = serde_json::from_slice(sent).ok()?;
    let inner = PARENTS.iter().filter_map(|parent| sent.get(*parent)?.as_object());
    let sent: Vec<&Map<String, Value>> = std::iter::once(&sent).chain(inner).collect();
    let is_meant = |name: &&str| {
        sent.iter().any(|fields| fields.contains_key(*name))
            && (param == Some(*name) || (param.is_none() && names(&message, name)))
    };
    if let Some((from, to)) = RENAMED.into_iter().find(|(from, _)| is_meant(from)) {
        return Some(RequestChange::Rename(from, to));
    }
    OPTIONAL.into_iter().find(|name| is_meant(name)).map(RequestChange::LeaveOut)
}

/// Returns whether a text has the name as a word of its own.
fn names(text: &str, name: &str) -> bool {
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(name)
        .any(|(at, _)| !text[..at].ends_with(part_of_word) && !text[at + name.len()..].starts_with(part_of_word))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_call::call;

    fn after(sent: &Value, message: &str) -> Option<Value> {
        let (refusals, call) = (Refusals::default(), call(""));
        let sent = serde_json::to_vec(sent).unwrap();
        let refusal = serde_json::to_vec(&json!({"error": {"message": message}})).unwrap();
        refusals.learn(&call, &sent, &refusal)?;
        assert!(refusals.learn(&call, &sent, &refusal).is_none(), "the same refusal again is final");
        Some(serde_json::from_slice(&refusals.of(&call).apply(sent).unwrap()).unwrap())
    }

    #[test]
    fn what_is_refused_is_left_out_or_renamed() {
        let sent =
            json!({"model": "m", "temperature": 0.2, "max_tokens": 9, "stream_options": {"include_usage": true}});
        for (message, field) in [
            (
                "Extra inputs are not permitted, field: 'stream_options', value: {'include_usage': True}",
                "stream_options",
            ),
            (
                "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is \
              supported.",
                "temperature",
            ),
            ("`temperature` is deprecated for this model.", "temperature"),
        ] {
            let mut expected = sent.clone();
            expected.as_object_mut().unwrap().remove(field);
            assert_eq!(after(&sent, message), Some(expected), "{message}");
        }
        let renamed = after(
            &sent,
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        );
        assert_eq!(renamed.as_ref().map(|body| &body["max_completion_tokens"]), Some(&json!(9)));
        let nested = json!({"messages": [], "inferenceConfig": {"temperature": 0.2}});
        assert_eq!(
            after(&nested, "The model does not support temperature, it is deprecated"),
            Some(json!({"messages": []}))
        );
    }

    #[test]
    fn other_errors_change_nothing() {
        let sent = json!({"model": "m", "temperature": 0.2, "tools": []});
        for message in
            ["temperature must be between 0 and 2", "Unknown parameter: 'tools'.", "unsupported", "unknown stop"]
        {
            assert_eq!(after(&sent, message), None, "{message}");
        }
    }
}
