//! The meaning of scalars (YAML 1.2 core schema), and trees as JSON.

use serde_json::{Map, Number, Value};

use super::{Key, Kind, Node, Style};

/// The meaning of an unquoted scalar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Plain {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text,
}

/// Returns the meaning of an unquoted scalar. `yes`, `no`, `on` and `off` are text, as in YAML 1.2.
pub(crate) fn resolve(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Plain::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" => return Plain::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Plain::Float(f64::NEG_INFINITY),
        _ => {}
    }
    // Most scalars are words: the first byte decides, at no cost.
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
        return Plain::Text;
    }
    let radix = |prefix: &str, radix: u32| {
        text.strip_prefix(prefix)
            .filter(|d| !d.starts_with(['+', '-']))
            .and_then(|d| i128::from_str_radix(d, radix).ok())
    };
    if let Some(int) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Plain::Int(int);
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().map_or_else(|_| text.parse().map_or(Plain::Text, Plain::Float), Plain::Int);
    }
    let numeric = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+'));
    if numeric && digits.bytes().any(|b| b.is_ascii_digit()) {
        return text.parse().map_or(Plain::Text, Plain::Float);
    }
    Plain::Text
}

/// Returns the tree as JSON. Numbers that JSON lacks become text.
pub(crate) fn to_json(node: &Node<'_>) -> Value {
    match &node.kind {
        Kind::Scalar { text, style, .. } => scalar(text, *style),
        Kind::List(items) => Value::Array(items.iter().map(to_json).collect()),
        Kind::Map(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                map.insert(key.text.clone().into_owned(), to_json(value));
            }
            Value::Object(map)
        }
    }
}

fn scalar(text: &str, style: Style) -> Value {
    let as_text = || Value::String(text.to_owned());
    if style != Style::Plain {
        return as_text();
    }
    match resolve(text) {
        Plain::Null => Value::Null,
        Plain::Bool(value) => Value::Bool(value),
        Plain::Int(value) => Number::from_i128(value).map_or_else(as_text, Value::Number),
        Plain::Float(value) => Number::from_f64(value).map_or_else(as_text, Value::Number),
        Plain::Text => as_text(),
    }
}

/// Writes the tree as canonical JSON: keys sorted, so that comments, layout, quoting and the order of keys do not
/// matter.
pub(crate) fn canonical(node: &Node<'_>, out: &mut Vec<u8>) {
    match &node.kind {
        Kind::Scalar { text, style, .. } if *style != Style::Plain || resolve(text) == Plain::Text => {
            json_text(text, out)
        }
        Kind::Scalar { text, style, .. } => out.extend_from_slice(scalar(text, *style).to_string().as_bytes()),
        Kind::List(items) => {
            out.push(b'[');
            for item in items {
                canonical(item, out);
                out.push(b',');
            }
            out.push(b']');
        }
        Kind::Map(entries) => {
            let mut sorted: Vec<&(Key<'_>, Node<'_>)> = entries.iter().collect();
            sorted.sort_by(|a, b| a.0.text.cmp(&b.0.text));
            out.push(b'{');
            for (key, value) in sorted {
                json_text(&key.text, out);
                out.push(b':');
                canonical(value, out);
                out.push(b',');
            }
            out.push(b'}');
        }
    }
}

fn json_text(text: &str, out: &mut Vec<u8>) {
    // Writing text to memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_mean_what_yaml_1_2_says() {
        let cases = [
            ("", Plain::Null),
            ("~", Plain::Null),
            ("true", Plain::Bool(true)),
            ("yes", Plain::Text),
            ("n", Plain::Text),
            ("12", Plain::Int(12)),
            ("-7", Plain::Int(-7)),
            ("0x1F", Plain::Int(31)),
            ("0o17", Plain::Int(15)),
            ("0.10", Plain::Float(0.1)),
            ("1e3", Plain::Float(1000.0)),
            (".5", Plain::Float(0.5)),
            ("1.2.3", Plain::Text),
            ("-", Plain::Text),
            ("-e", Plain::Text),
            ("2024-01-01", Plain::Text),
            ("gpt-4.1", Plain::Text),
            ("NaN", Plain::Text),
        ];
        for (text, meaning) in cases {
            assert_eq!(resolve(text), meaning, "{text}");
        }
    }
}
