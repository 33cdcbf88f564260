//! `${VAR}` and `${VAR:-default}` in parsed text, never in raw YAML: a value cannot add keys or break the syntax.

use super::{Kind, Node, Span, Style, Written};

/// An unset variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    pub name: String,
    pub span: Span,
    /// The value is read at the moment of use, by the process that uses it.
    pub is_read_later: bool,
}

#[derive(Clone, Copy)]
pub(crate) enum Variables<'e> {
    /// Resolved by this lookup.
    Resolved(&'e (dyn Fn(&str) -> Option<String> + Sync)),
    /// Unresolved, for an untrusted file: its author must not learn which variables exist here, let alone their values.
    Unresolved,
}

/// Fills the variables of a file's values in place. `auth.token`, `command` and `env` of tools are left as they are:
/// they are read at the moment of use, so that no spec holds a secret. An unset variable stays as written, and is
/// reported. Without a lookup a value is its default, if all of its variables have one, and otherwise unknown.
pub(crate) fn fill(root: &mut Node<'_>, variables: Variables<'_>) -> Vec<Missing> {
    let mut missing = Vec::new();
    walk(root, Path::Root, variables, &mut missing);
    missing
}

/// The position of a value relative to those that are left unresolved.
#[derive(Clone, Copy)]
enum Path {
    Root,
    Tools,
    Tool,
    Auth,
    Held,
    Elsewhere,
}

impl Path {
    fn key(self, key: &str) -> Self {
        match (self, key) {
            (Self::Root, "tools") => Self::Tools,
            (Self::Tool, "auth") => Self::Auth,
            (Self::Auth, "token") | (Self::Tool, "command" | "env") => Self::Held,
            (Self::Held, _) => Self::Held,
            _ => Self::Elsewhere,
        }
    }

    fn item(self) -> Self {
        match self {
            Self::Tools => Self::Tool,
            Self::Held => Self::Held,
            _ => Self::Elsewhere,
        }
    }
}

fn walk(node: &mut Node<'_>, path: Path, variables: Variables<'_>, missing: &mut Vec<Missing>) {
    let span = node.span;
    match &mut node.kind {
        Kind::Scalar { text, style, written } => {
            if !text.contains("${") {
                return;
            }
            let (filled, is_known) = match variables {
                Variables::Resolved(lookup) => {
                    let is_read_later = matches!(path, Path::Held);
                    let unset = |name: &str| missing.push(Missing { name: name.to_owned(), span, is_read_later });
                    (expand(text, resolved(lookup, unset)), true)
                }
                Variables::Unresolved => defaults(text),
            };
            if matches!(path, Path::Held) {
                return;
            }
            if *style == Style::Plain {
                *style = Style::Filled;
            }
            *written = Some(Written { text: text.as_ref().into(), is_known });
            *text = filled.into();
        }
        Kind::List(items) => items.iter_mut().for_each(|item| walk(item, path.item(), variables, missing)),
        Kind::Map(entries) => {
            entries.iter_mut().for_each(|(key, value)| walk(value, path.key(&key.text), variables, missing));
        }
    }
}

/// Returns the replacement of a variable: its value, or its default if that is empty or not set.
fn resolved(
    lookup: &dyn Fn(&str) -> Option<String>,
    mut unset: impl FnMut(&str),
) -> impl FnMut(&str, Option<&str>) -> Option<String> {
    move |name, default| match (lookup(name), default) {
        (Some(value), None) => Some(value),
        (Some(value), Some(_)) if !value.is_empty() => Some(value),
        (_, Some(default)) => Some(default.to_owned()),
        (None, None) => {
            unset(name);
            None
        }
    }
}

/// Returns a text with the defaults of its variables, and whether each has one. An empty default means that the
/// variable must provide the value.
fn defaults(text: &str) -> (String, bool) {
    let mut is_known = true;
    let filled = expand(text, |_, default| {
        let default = default.filter(|default| !default.is_empty());
        is_known &= default.is_some();
        default.map(str::to_owned)
    });
    if is_known { (filled, true) } else { (text.to_owned(), false) }
}

/// Replaces the variables of a text by `value` of their name and default; `None` leaves one as it is. `$${` is a
/// literal `${`; other text in braces stays.
fn expand(text: &str, mut value: impl FnMut(&str, Option<&str>) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let body = &rest[at + 2..];
        let Some(end) = body.find('}') else {
            rest = &rest[at..];
            break;
        };
        let (name, default) = body[..end].split_once(":-").map_or((&body[..end], None), |(name, d)| (name, Some(d)));
        match is_variable(name).then(|| value(name, default)).flatten() {
            Some(value) => out.push_str(&value),
            None => out.push_str(&rest[at..at + 2 + end + 1]),
        }
        rest = &body[end + 1..];
    }
    out.push_str(rest);
    out
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_defaults_escapes_and_strangers() {
        let lookup = |name: &str| match name {
            "REGION" => Some("eu".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let cases = [
            ("plain", "plain", 0),
            ("${REGION}", "eu", 0),
            ("a ${REGION} b ${REGION}", "a eu b eu", 0),
            ("${NOPE}", "${NOPE}", 1),
            ("${NOPE:-x y}", "x y", 0),
            ("${EMPTY:-x}", "x", 0),
            ("${EMPTY}", "", 0),
            ("$${REGION}", "${REGION}", 0),
            ("${not a name}", "${not a name}", 0),
            ("${REGION", "${REGION", 0),
            ("$REGION {REGION}", "$REGION {REGION}", 0),
        ];
        for (text, expected, absent) in cases {
            let mut missing = 0;
            assert_eq!(expand(text, resolved(&lookup, |_| missing += 1)), expected, "{text}");
            assert_eq!(missing, absent, "{text}");
        }
    }

    #[test]
    fn without_a_look_up_a_value_is_its_defaults_or_unknown() {
        let cases = [
            ("${A:-x y}", "x y", true),
            ("${A:-x}-${B:-y}", "x-y", true),
            ("$${A}", "${A}", true),
            ("${not a name}", "${not a name}", true),
            ("${A}", "${A}", false),
            ("${A:-}", "${A:-}", false),
            ("${A:-x}-${B}", "${A:-x}-${B}", false),
        ];
        for (text, expected, is_known) in cases {
            assert_eq!(defaults(text), (expected.to_owned(), is_known), "{text}");
        }
    }
}
