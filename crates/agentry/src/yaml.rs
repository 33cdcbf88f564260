//! Values as YAML, for `-o yaml`. JSON values are all there is to print, and a JSON string is a YAML string, so nothing
//! is needed of YAML but its indentation.

use serde_json::Value;

/// Returns a value as a YAML document.
pub fn to_yaml(value: &Value) -> String {
    let mut text = String::new();
    match block(value) {
        Some(YamlBlock::Map(map)) => map.iter().for_each(|(key, value)| entry(&mut text, 0, key, value)),
        Some(YamlBlock::List(list)) => list.iter().for_each(|value| item(&mut text, 0, value)),
        None => {
            text.push_str(&scalar(value));
            text.push('\n');
        }
    }
    text
}

/// A value that takes several lines.
enum YamlBlock<'a> {
    Map(&'a serde_json::Map<String, Value>),
    List(&'a [Value]),
}

fn block(value: &Value) -> Option<YamlBlock<'_>> {
    match value {
        Value::Object(map) if !map.is_empty() => Some(YamlBlock::Map(map)),
        Value::Array(list) if !list.is_empty() => Some(YamlBlock::List(list)),
        _ => None,
    }
}

/// `key: value`, or `key:` and the value below it.
fn entry(text: &mut String, indent: usize, key: &str, value: &Value) {
    start(text, indent);
    rest_of_entry(text, indent, key, value);
}

fn rest_of_entry(text: &mut String, indent: usize, key: &str, value: &Value) {
    text.push_str(&string(key));
    text.push(':');
    match block(value) {
        Some(YamlBlock::Map(map)) => {
            text.push('\n');
            map.iter().for_each(|(key, value)| entry(text, indent + 2, key, value));
        }
        Some(YamlBlock::List(list)) => {
            text.push('\n');
            list.iter().for_each(|value| item(text, indent, value));
        }
        None => end(text, value),
    }
}

/// `- value`; the first entry of a map, and the first item of a list, stand beside the dash.
fn item(text: &mut String, indent: usize, value: &Value) {
    start(text, indent);
    rest_of_item(text, indent, value);
}

fn rest_of_item(text: &mut String, indent: usize, value: &Value) {
    text.push('-');
    match block(value) {
        Some(YamlBlock::Map(map)) => {
            for (index, (key, value)) in map.iter().enumerate() {
                if index == 0 {
                    text.push(' ');
                    rest_of_entry(text, indent + 2, key, value);
                } else {
                    entry(text, indent + 2, key, value);
                }
            }
        }
        Some(YamlBlock::List(list)) => {
            for (index, value) in list.iter().enumerate() {
                if index == 0 {
                    text.push(' ');
                    rest_of_item(text, indent + 2, value);
                } else {
                    item(text, indent + 2, value);
                }
            }
        }
        None => end(text, value),
    }
}

fn start(text: &mut String, indent: usize) {
    text.extend(std::iter::repeat_n(' ', indent));
}

fn end(text: &mut String, value: &Value) {
    text.push(' ');
    text.push_str(&scalar(value));
    text.push('\n');
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        other => other.to_string(),
    }
}

/// Returns a string without quotes if it is unambiguous, else as JSON.
fn string(text: &str) -> String {
    let is_word = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.ends_with(|last: char| last.is_ascii_alphanumeric() || "./)".contains(last))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || " _-./()".contains(c));
    let lower = text.to_ascii_lowercase();
    let means_something = matches!(&*lower, "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "y" | "n");
    if is_word && !means_something {
        return text.to_owned();
    }
    // JSON may hold these as they are, YAML may not.
    let refused = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}');
    let mut quoted = String::with_capacity(text.len() + 2);
    for c in Value::from(text).to_string().chars() {
        if refused(c) { quoted.push_str(&format!("\\u{:04x}", u32::from(c))) } else { quoted.push(c) }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_and_lists_are_indented() {
        let value =
            json!({"name": "triage", "tags": ["a b", "1", ""], "none": {}, "steps": [{"id": 1, "deps": [[2], []]}]});
        assert_eq!(
            to_yaml(&value),
            "name: triage\nnone: {}\nsteps:\n- deps:\n  - - 2\n  - []\n  id: 1\ntags:\n- a b\n- \"1\"\n- \"\"\n"
        );
        assert_eq!(to_yaml(&json!("yes")), "\"yes\"\n");
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[a-z0-9 .:#&*!|>'%@`{}\\[\\],?~-]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(".{0,8}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_yaml_parser_reads_back_what_was_written(value in values()) {
            let text = to_yaml(&value);
            let back: Value = serde_saphyr::from_str(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            prop_assert_eq!(back, value, "{}", text);
        }
    }
}
