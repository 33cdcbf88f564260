//! Reading what servers send where a protocol says something else: null for a field that is absent, numbers as text or
//! with a decimal point, texts as lists of parts, arguments as objects.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Reads a field whose null means that it is absent.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// Reads a count: an integer, a number with a decimal point, or either as text. Anything else is no count.
pub(crate) fn count<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<Value>::deserialize(from)?.as_ref().and_then(count_of))
}

fn count_of(value: &Value) -> Option<u64> {
    let float = || value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
    let rounded = |number: f64| (number >= 0.0).then_some(number as u64);
    value.as_u64().or_else(|| float().and_then(rounded))
}

/// Reads an id: a text, or a number. An empty text is none.
pub(crate) fn id<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(match Option::<Value>::deserialize(from)? {
        Some(Value::String(id)) if !id.is_empty() => Some(id),
        Some(Value::Number(id)) => Some(id.to_string()),
        _ => None,
    })
}

/// Reads a text: a string, or a list of parts, of which those with text are joined. Parts of another kind (`thinking`)
/// are no part of it.
pub(crate) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let part = |part: Value| match part {
        Value::String(text) => Some(text),
        Value::Object(mut fields) => {
            let is_text = fields.get("type").and_then(Value::as_str).is_none_or(|kind| kind.ends_with("text"));
            match fields.remove("text") {
                Some(Value::String(text)) if is_text => Some(text),
                _ => None,
            }
        }
        _ => None,
    };
    Ok(match Option::<Value>::deserialize(from)? {
        Some(Value::String(text)) => Some(text),
        Some(Value::Array(parts)) => Some(parts.into_iter().filter_map(part).collect()),
        _ => None,
    })
}

/// Reads the arguments of a call: JSON as text, or the object itself.
pub(crate) fn arguments<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(match Option::<Value>::deserialize(from)? {
        Some(Value::String(text)) => Some(text),
        None | Some(Value::Null) => None,
        Some(other) => Some(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Deserialize, Debug, PartialEq, Default)]
    #[serde(default)]
    struct Sent {
        #[serde(deserialize_with = "or_default")]
        list: Vec<u8>,
        #[serde(deserialize_with = "count")]
        count: Option<u64>,
        #[serde(deserialize_with = "id")]
        id: Option<String>,
        #[serde(deserialize_with = "text")]
        text: Option<String>,
        #[serde(deserialize_with = "arguments")]
        arguments: Option<String>,
    }

    fn read(value: Value) -> Sent {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn null_is_absent() {
        let nulls = json!({"list": null, "count": null, "id": null, "text": null, "arguments": null});
        assert_eq!(read(nulls), read(json!({})));
    }

    #[test]
    fn the_same_is_read_in_every_form() {
        for count in [json!(10), json!(10.0), json!("10"), json!("10.0"), json!(10.4)] {
            assert_eq!(read(json!({"count": count})).count, Some(10), "{count}");
        }
        assert_eq!(read(json!({"count": -1})).count, None);
        assert_eq!(read(json!({"id": 7})).id.as_deref(), Some("7"));
        let parts = json!([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "he"}, "llo"]);
        for text in [json!("hello"), parts] {
            assert_eq!(read(json!({"text": text})).text.as_deref(), Some("hello"));
        }
        for arguments in [json!("{\"n\":1}"), json!({"n": 1})] {
            assert_eq!(read(json!({"arguments": arguments})).arguments.as_deref(), Some("{\"n\":1}"));
        }
    }
}
