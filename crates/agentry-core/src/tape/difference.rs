//! Finds the first difference between two requests. Ids and times within texts differ from run to run and are ignored.

use std::fmt;

use serde_json::Value;

/// Characters of each text that are shown before the first that differs.
const BEFORE: usize = 30;
/// Characters of each text that are shown from there on.
const AFTER: usize = 60;

/// The first difference of two values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Location, as a JSON Pointer.
    pub path: String,
    /// Recorded value.
    pub recorded: String,
    /// Requested value.
    pub asked: String,
    /// Number of equal values before the difference.
    pub rank: usize,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "/" } else { &self.path };
        write!(f, "at {path} recorded is {} and asked is {}", self.recorded, self.asked)
    }
}

/// Returns the first difference, in the order of the recorded value; `None` if the values are equal.
#[must_use]
pub fn difference(recorded: &Value, asked: &Value) -> Option<Difference> {
    let mut same = 0;
    find(recorded, asked, &mut String::new(), &mut same)
}

fn find(recorded: &Value, asked: &Value, path: &mut String, same: &mut usize) -> Option<Difference> {
    match (recorded, asked) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                let found = within(path, &key.replace('~', "~0").replace('/', "~1"), |path| {
                    compare(a.get(key), b.get(key), path, same)
                });
                if found.is_some() {
                    return found;
                }
            }
            None
        }
        (Value::Array(a), Value::Array(b)) => (0..a.len().max(b.len()))
            .find_map(|at| within(path, &at.to_string(), |path| compare(a.get(at), b.get(at), path, same))),
        (Value::String(a), Value::String(b)) => {
            if a == b || fixed(a) == fixed(b) {
                *same += 1;
                return None;
            }
            let common = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
            Some(made(path, excerpt(a, common), excerpt(b, common), *same))
        }
        _ if recorded == asked => {
            *same += 1;
            None
        }
        _ => Some(made(path, super::shown(recorded), super::shown(asked), *same)),
    }
}

fn compare(a: Option<&Value>, b: Option<&Value>, path: &mut String, same: &mut usize) -> Option<Difference> {
    match (a, b) {
        (Some(a), Some(b)) => find(a, b, path, same),
        (None, None) => None,
        (a, b) => {
            let said = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), super::shown);
            Some(made(path, said(a), said(b), *same))
        }
    }
}

fn within<T>(path: &mut String, step: &str, look: impl FnOnce(&mut String) -> T) -> T {
    let length = path.len();
    path.push('/');
    path.push_str(step);
    let found = look(path);
    path.truncate(length);
    found
}

fn made(path: &str, recorded: String, asked: String, rank: usize) -> Difference {
    Difference { path: path.to_owned(), recorded, asked, rank }
}

/// Returns a text around the character where it begins to differ.
fn excerpt(text: &str, at: usize) -> String {
    let from = at.saturating_sub(BEFORE);
    let part: String = text.chars().skip(from).take(at - from + AFTER).collect();
    let (before, after) = (if from > 0 { "…" } else { "" }, if text.chars().count() > at + AFTER { "…" } else { "" });
    format!("{before}{}{after}", Value::String(part))
}

/// Returns the text with ids (UUIDs) and times (RFC 3339) replaced by words.
fn fixed(text: &str) -> String {
    const UUID: &str = "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh";
    const TIME: &str = "dddd-dd-ddTdd:dd:dd";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if has_shape(rest, UUID) {
            out.push_str("<id>");
            rest = &rest[UUID.len()..];
        } else if has_shape(rest, TIME) {
            out.push_str("<time>");
            rest = rest[TIME.len()..].trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// Returns whether a text begins with this shape: `h` a hexadecimal digit, `d` a digit, everything else itself.
fn has_shape(text: &str, shape: &str) -> bool {
    text.len() >= shape.len()
        && text.bytes().zip(shape.bytes()).all(|(byte, shape)| match shape {
            b'h' => byte.is_ascii_hexdigit(),
            b'd' => byte.is_ascii_digit(),
            _ => byte == shape,
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_difference_is_named_with_its_place() {
        let path = |a: Value, b: Value| difference(&a, &b).map(|difference| difference.path);
        assert_eq!(path(json!({"a": [1, {"b/c": 2}]}), json!({"a": [1, {"b/c": 2}]})), None);
        assert_eq!(path(json!({"a": [1, {"b/c": 2}]}), json!({"a": [1, {"b/c": 3}]})), Some("/a/1/b~1c".to_owned()));
        assert_eq!(path(json!({"a": [1]}), json!({"a": [1, 2]})), Some("/a/1".to_owned()));
        assert_eq!(path(json!({}), json!({"x": null})), Some("/x".to_owned()));
        assert_eq!(difference(&json!(1), &json!("1")).unwrap().to_string(), "at / recorded is 1 and asked is \"1\"");
    }

    #[test]
    fn long_texts_are_shown_where_they_differ() {
        let (a, b) = (format!("{}one{}", "x".repeat(500), "y".repeat(500)), format!("{}two", "x".repeat(500)));
        let difference = difference(&json!(a), &json!(b)).unwrap();
        assert!(difference.recorded.contains("xxone") && difference.recorded.len() < 120, "{difference}");
        assert!(difference.asked.ends_with("two\""), "{difference}");
    }

    #[test]
    fn ids_and_times_are_passed_over() {
        let one = json!("task 0198a6f0-7d3e-7000-8000-000000000001 at 2026-11-25T10:00:00.123Z");
        let other = json!("task 0198a6f0-7d3e-7000-8000-00000000000f at 2026-11-26T11:30:00Z");
        assert_eq!(difference(&one, &other), None);
        assert!(difference(&one, &json!("task 7 at noon")).is_some());
    }
}
