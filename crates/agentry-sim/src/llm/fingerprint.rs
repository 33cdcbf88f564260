//! Fingerprints of JSON values: equal for values that mean the same to a model.

use serde_json::Value;

const START: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;
/// Keys that say how long something is cached, which is no part of what the model reads.
const UNREAD_KEYS: [&str; 1] = ["cache_control"];

/// FNV-1a over texts and values. The order of keys does not matter, the order of everything else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RequestPrint(pub(super) u64);

impl Default for RequestPrint {
    fn default() -> Self {
        Self(START)
    }
}

impl RequestPrint {
    pub(super) fn text(self, text: &str) -> Self {
        // The byte at the end does not occur in UTF-8, so that two texts are never taken for one.
        let bytes = text.bytes().chain(std::iter::once(0xff));
        Self(bytes.fold(self.0, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME)))
    }

    pub(super) fn value(self, value: &Value) -> Self {
        match value {
            Value::Object(fields) => {
                let mut keys: Vec<&String> = fields.keys().filter(|key| !UNREAD_KEYS.contains(&key.as_str())).collect();
                keys.sort();
                let start = self.text("{");
                keys.into_iter().fold(start, |hash, key| hash.text(key).value(&fields[key])).text("}")
            }
            Value::Array(items) => items.iter().fold(self.text("["), Self::value).text("]"),
            Value::String(text) => self.text("\"").text(text),
            other => self.text(&other.to_string()),
        }
    }

    /// Returns the lower half, for places where a few digits do.
    pub(super) fn short(self) -> u32 {
        u32::try_from((self.0 ^ (self.0 >> 32)) & u64::from(u32::MAX)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_that_mean_the_same_are_equal_and_others_are_not() {
        let of = |value: Value| RequestPrint::default().value(&value);
        assert_eq!(
            of(json!({"a": 1, "b": [2]})),
            of(json!({"b": [2], "a": 1, "cache_control": {"type": "ephemeral"}}))
        );
        for other in
            [json!({"a": 1, "b": [3]}), json!({"a": 1}), json!([{"a": 1, "b": [2]}]), json!({"a": "1", "b": [2]})]
        {
            assert_ne!(of(other.clone()), of(json!({"a": 1, "b": [2]})), "{other}");
        }
    }
}
