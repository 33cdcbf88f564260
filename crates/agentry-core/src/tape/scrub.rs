//! Removes secrets from recordings: the values of variables become `${NAME}`, and anything that looks like a credential
//! becomes `[hidden]`.
//!
//! A value becomes the variable's name because an agent's file contains it where the variable is not set: a tape can be
//! played on a machine without the secret.

use std::fmt;

use serde_json::Value;

/// Minimum length of a secret: replacing shorter values would garble every text.
const MIN_SECRET: usize = 6;
/// Minimum length of a credential.
const MIN_CREDENTIAL: usize = 16;
/// Prefixes of the credentials of well-known services.
const PREFIXES: &[&str] = &[
    "sk-",
    "sk_",
    "pk_",
    "xoxb-",
    "xoxp-",
    "xapp-",
    "ghp_",
    "gho_",
    "github_pat_",
    "glpat-",
    "AKIA",
    "ASIA",
    "AIza",
    "eyJ",
];
/// Authentication schemes that precede a credential, in lower case.
const SCHEMES: &[&str] = &["bearer ", "basic "];
const HIDDEN: &str = "[hidden]";

/// Replaces secrets by the names of their variables.
#[derive(Default)]
pub struct Scrubber {
    /// Names and values, the longest value first.
    known: Vec<(String, String)>,
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.known.iter().map(|(name, _)| name)).finish()
    }
}

impl Scrubber {
    /// Returns a scrubber for the values of these variables, and for credentials.
    #[must_use]
    pub fn new(variables: Vec<(String, String)>) -> Self {
        let mut known: Vec<_> = variables.into_iter().filter(|(_, value)| value.len() >= MIN_SECRET).collect();
        known.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        Self { known }
    }

    /// Returns the value without secrets, in its keys as well.
    #[must_use]
    pub fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.iter().map(|item| self.value(item)).collect(),
            Value::Object(fields) => fields.iter().map(|(key, value)| (self.text(key), self.value(value))).collect(),
            other => other.clone(),
        }
    }

    /// Returns the text without secrets.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.known {
            if text.contains(value.as_str()) {
                text = text.replace(value.as_str(), &format!("${{{name}}}"));
            }
        }
        without_credentials(&text)
    }
}

/// Replaces words that look like credentials.
fn without_credentials(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_credential(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        out.push_str(if looks_secret(word, &out) { HIDDEN } else { word });
        let other = after.find(is_credential).unwrap_or(after.len());
        out.push_str(&after[..other]);
        rest = &after[other..];
    }
    out
}

fn is_credential(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '/' | '=' | '~')
}

fn looks_secret(word: &str, before: &str) -> bool {
    let has_prefix = word.len() >= MIN_CREDENTIAL && PREFIXES.iter().any(|prefix| word.starts_with(prefix));
    let tail: String = before.chars().rev().take(7).collect::<Vec<_>>().into_iter().rev().collect();
    let tail = tail.to_ascii_lowercase();
    let follows = word.len() >= MIN_SECRET && SCHEMES.iter().any(|scheme| tail.ends_with(scheme));
    // A word of prose after "bearer" is no credential; one with digits is.
    has_prefix || (follows && word.bytes().any(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_become_their_names_and_credentials_are_hidden() {
        let scrubber = Scrubber::new(vec![
            ("SHORT".into(), "eu".into()),
            ("TOKEN".into(), "tok-123456".into()),
            ("LONGER".into(), "tok-123456-and-more".into()),
        ]);
        for (text, expected) in [
            ("in eu", "in eu"),
            ("x tok-123456 y", "x ${TOKEN} y"),
            ("tok-123456-and-more", "${LONGER}"),
            ("Authorization: Bearer abc123def", "Authorization: Bearer [hidden]"),
            ("the bearer arrived", "the bearer arrived"),
            ("key sk-abcdefghijklmnop, ok", "key [hidden], ok"),
            ("a sk-short", "a sk-short"),
            ("grüße an alle", "grüße an alle"),
        ] {
            assert_eq!(scrubber.text(text), expected);
        }
        let value = json!({"tok-123456": ["tok-123456", 1]});
        assert_eq!(scrubber.value(&value), json!({"${TOKEN}": ["${TOKEN}", 1]}));
        assert_eq!(format!("{scrubber:?}"), r#"["LONGER", "TOKEN"]"#);
    }

    #[test]
    fn scrubbing_twice_changes_nothing_more() {
        let scrubber = Scrubber::new(vec![("TOKEN".into(), "tok-123456".into())]);
        let once = scrubber.text("tok-123456 Bearer tok-123456 basic YWJjOmRlZjEyMw==");
        assert_eq!(scrubber.text(&once), once);
    }
}
