//! `${VAR}` and `${VAR:-default}` in parsed text, never in raw YAML: a value can not add keys or break the syntax.

use super::{Kind, Node, Span, Style};

/// A variable that is not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    pub name: String,
    pub span: Span,
}

/// Fills the variables of a file's values in place. `auth.token`, `command` and `env` of tools are left as they are: they
/// are read at the moment of use, so that no spec holds a secret. What is not set stays as written, and is told.
pub(crate) fn fill(root: &mut Node<'_>, lookup: &dyn Fn(&str) -> Option<String>) -> Vec<Missing> {
    let mut missing = Vec::new();
    walk(root, Path::Root, lookup, &mut missing);
    missing
}

/// How far a value is on the way to one that is left as it is.
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

fn walk(node: &mut Node<'_>, path: Path, lookup: &dyn Fn(&str) -> Option<String>, missing: &mut Vec<Missing>) {
    match &mut node.kind {
        Kind::Scalar { text, style } => {
            if text.contains("${") {
                let filled =
                    expand(text, lookup, |name| missing.push(Missing { name: name.to_owned(), span: node.span }));
                if matches!(path, Path::Held) {
                    return;
                }
                if *style == Style::Plain {
                    *style = Style::Filled;
                }
                *text = filled.into();
            }
        }
        Kind::List(items) => items.iter_mut().for_each(|item| walk(item, path.item(), lookup, missing)),
        Kind::Map(entries) => {
            entries.iter_mut().for_each(|(key, value)| walk(value, path.key(&key.text), lookup, missing));
        }
    }
}

/// One text with its variables replaced. `$${` is a literal `${`; what is not a variable's name stays.
fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>, mut missing: impl FnMut(&str)) -> String {
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
        let value = is_variable(name).then(|| lookup(name)).flatten();
        match (value, default) {
            (Some(value), None) => out.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => out.push_str(&value),
            (_, Some(default)) if is_variable(name) => out.push_str(default),
            _ => {
                if is_variable(name) {
                    missing(name);
                }
                out.push_str(&rest[at..at + 2 + end + 1]);
            }
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
            assert_eq!(expand(text, &lookup, |_| missing += 1), expected, "{text}");
            assert_eq!(missing, absent, "{text}");
        }
    }
}
