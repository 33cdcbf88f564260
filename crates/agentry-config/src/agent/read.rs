//! From tree to typed values, collecting every mistake on the way instead of stopping at the first.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::problem::{Problem, all_of, did_you_mean};
use crate::yaml::{Key, Kind, Node, Plain, Source, Span, Style, Written, resolve};

/// Reads values and collects the problems.
pub(crate) struct Reader<'s, 'a> {
    pub source: &'s Source<'a>,
    pub problems: Vec<Problem>,
    /// The key whose value is being read, for messages.
    pub(super) key: String,
    key_span: Span,
    in_list: bool,
    /// True if a value was left out because its variables are not resolved.
    pub has_unknown: bool,
}

/// A value that can be read from a tree. `None` means that a problem was reported.
pub(crate) trait FromNode: Sized {
    fn read(node: &Node<'_>, cx: &mut Reader<'_, '_>) -> Option<Self>;
}

/// A value with its location, for later checks.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub value: T,
    pub span: Span,
    /// Source text, if it contains variables.
    pub written: Option<Written>,
}

impl<T> At<T> {
    /// Returns whether the value depends on variables that are not resolved, so that only its source text is here.
    pub fn is_unknown(&self) -> bool {
        self.written.as_ref().is_some_and(|written| !written.is_known)
    }
}

impl<T: std::fmt::Display> At<T> {
    /// Returns the value as messages quote it: the source text where the file has variables.
    pub fn quoted(&self) -> String {
        self.written.as_ref().map_or_else(|| self.value.to_string(), |written| written.text.to_string())
    }
}

impl<'s, 'a> Reader<'s, 'a> {
    pub fn new(source: &'s Source<'a>) -> Self {
        Self {
            source,
            problems: Vec::new(),
            key: String::new(),
            key_span: Span::default(),
            in_list: false,
            has_unknown: false,
        }
    }

    /// Reports a problem.
    pub fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Returns the subject of a message: the current key.
    pub(super) fn subject(&self) -> String {
        match (self.key.is_empty(), self.in_list) {
            (true, _) => "an agent file".to_owned(),
            (false, false) => format!("`{}`", self.key),
            (false, true) => format!("every item of `{}`", self.key),
        }
    }

    /// Reports a value of the wrong type.
    pub(super) fn mismatch(&mut self, node: &Node<'_>, expected: &str) {
        if is_null(node) && !self.in_list && !self.key.is_empty() {
            let message = format!("{} has no value", self.subject());
            let problem = self.source.problem(self.key_span, message).label(format!("expected {expected}"));
            return self.report(problem);
        }
        let message = format!("{} must be {expected}", self.subject());
        let problem = self.source.problem(node.span, message).label(format!("found {}", describe(node)));
        let problem = match (&node.kind, expected) {
            (Kind::Scalar { written: Some(written), .. }, "a list") => {
                problem.help(format!("put it in brackets: [{}]", written.text))
            }
            // A suggestion made from the value of a variable would reveal it.
            (Kind::Scalar { written: Some(_), .. }, _) => problem,
            (Kind::Scalar { text, style: Style::Plain, .. }, "text") if resolve(text) != Plain::Null => {
                problem.help(format!("put it in quotes: \"{text}\""))
            }
            (Kind::Scalar { text, style: Style::Quoted, .. }, "true or false") if is_bool(text) => {
                problem.help("remove the quotes")
            }
            (Kind::Scalar { text, style: Style::Quoted, .. }, _) if expected.contains("number") && is_number(text) => {
                problem.help("remove the quotes")
            }
            (Kind::Scalar { text, style: Style::Plain, .. }, "true or false")
                if matches!(text.as_ref(), "yes" | "on") =>
            {
                problem.help("write `true`")
            }
            (Kind::Scalar { text, style: Style::Plain, .. }, "true or false")
                if matches!(text.as_ref(), "no" | "off") =>
            {
                problem.help("write `false`")
            }
            (Kind::Scalar { text, .. }, "a list") => problem.help(format!("put it in brackets: [{text}]")),
            _ => problem,
        };
        self.report(problem);
    }

    /// Returns the entries of a mapping.
    pub fn entries<'n, 'b>(&mut self, node: &'n Node<'b>, keys: &[&str]) -> Option<&'n [(Key<'b>, Node<'b>)]> {
        if let Kind::Map(entries) = &node.kind {
            return Some(entries);
        }
        let message = format!("{} must be a mapping of keys to values", self.subject());
        let shown: Vec<&str> = keys.iter().take(4).copied().collect();
        let label = format!("found {}; expected keys such as {}", describe(node), all_of(&shown));
        let problem = self.source.problem(node.span, message).label(label);
        self.report(problem);
        None
    }

    /// Reads the value of a key.
    pub fn value<T: FromNode>(&mut self, key: &Key<'_>, node: &Node<'_>) -> Option<T> {
        let (outer, outer_span, outer_list) =
            (std::mem::replace(&mut self.key, key.text.to_string()), self.key_span, self.in_list);
        self.key_span = key.span;
        self.in_list = false;
        let value = T::read(node, self);
        self.key = outer;
        self.key_span = outer_span;
        self.in_list = outer_list;
        value
    }

    /// Reports an unknown key. Returns the key that was probably meant.
    pub fn unknown(&mut self, key: &Key<'_>, what: &str, keys: &[&'static str]) -> Option<&'static str> {
        let near = did_you_mean(&key.text, keys.iter().copied());
        let shown: String = key.text.chars().take(80).collect();
        let problem = self.source.problem(key.span, format!("unknown key `{shown}`"));
        self.report(match near {
            Some(near) => problem.label(format!("not a key of {what}")).help(format!("did you mean `{near}`?")),
            None => {
                problem.label(format!("not a key of {what}")).help(format!("{what} has the keys {}", keys.join(", ")))
            }
        });
        near
    }

    /// Reports a key set under two of its names.
    pub fn twice(&mut self, key: &Key<'_>, name: &str, first: Span) {
        let line = self.source.place(first).line;
        let problem = self.source.problem(key.span, format!("`{}` is another name of `{name}`", key.text));
        self.report(problem.label(format!("`{name}` is set on line {line} already")).help("remove one of them"));
    }

    /// Reports missing required keys.
    pub fn missing(&mut self, node: &Node<'_>, missing: &[&str], what: &str, required: &[&str]) {
        let names: Vec<String> = missing.iter().map(|name| format!("`{name}`")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let place = match &node.kind {
            _ if !self.key.is_empty() && !self.in_list => self.key_span,
            Kind::Map(entries) => entries.first().map_or(node.span, |(key, _)| key.span),
            _ => node.span,
        };
        let word = if missing.len() == 1 { "key" } else { "keys" };
        let problem = self.source.problem(place, format!("missing {word} {}", all_of(&names)));
        let problem = problem.label(format!("{what} needs {}", all_of(required)));
        self.report(match example(missing[0]) {
            Some(example) => problem.help(format!("add, for example, `{}: {example}`", missing[0])),
            None => problem,
        });
    }

    /// Returns whether the value is unknown whatever type is expected, so that it cannot be checked.
    pub(super) fn skips(&mut self, node: &Node<'_>) -> bool {
        let skips = node.is_unknown() && !matches!(node.kind, Kind::Scalar { style: Style::Quoted, .. });
        self.has_unknown |= skips;
        skips
    }

    /// Returns the text of a scalar that can be a number, a boolean or an amount.
    pub(super) fn bare<'n>(node: &'n Node<'_>) -> Option<&'n str> {
        match &node.kind {
            Kind::Scalar { text, style: Style::Plain | Style::Filled, .. } => Some(text.trim()),
            _ => None,
        }
    }
}

/// Returns whether a value is absent: `key:` or `key: null`.
pub(crate) fn is_null(node: &Node<'_>) -> bool {
    matches!(&node.kind, Kind::Scalar { text, style: Style::Plain, .. } if resolve(text) == Plain::Null)
}

fn is_bool(text: &str) -> bool {
    matches!(resolve(text), Plain::Bool(_))
}

fn is_number(text: &str) -> bool {
    matches!(resolve(text), Plain::Int(_) | Plain::Float(_))
}

/// Returns an example for a key that is often missing.
fn example(key: &str) -> Option<&'static str> {
    Some(match key {
        "name" => "triage",
        "execution_mode" => "autonomous",
        "llm_config" => "{provider: openai, model: gpt-6-luna}",
        "provider" => "openai",
        "model" => "gpt-6-luna",
        "system_prompt" => "You sort support tickets.",
        "type" => "http",
        _ => return None,
    })
}

fn describe(node: &Node<'_>) -> String {
    let short = |text: &str| {
        let first: String = text.lines().next().unwrap_or_default().chars().take(40).collect();
        if first.len() < text.trim_end().len() { format!("{first}…") } else { first }
    };
    match &node.kind {
        Kind::List(_) => "a list".to_owned(),
        Kind::Map(_) => "a mapping".to_owned(),
        Kind::Scalar { text, style: Style::Plain, .. } => match resolve(text) {
            Plain::Null => "nothing".to_owned(),
            Plain::Bool(_) => format!("the boolean `{text}`"),
            Plain::Int(_) | Plain::Float(_) => format!("the number {text}"),
            Plain::Text => format!("the text `{}`", short(text)),
        },
        Kind::Scalar { .. } => format!("the text `{}`", short(node.quoted())),
    }
}

impl<T: FromNode> FromNode for At<T> {
    fn read(node: &Node<'_>, cx: &mut Reader<'_, '_>) -> Option<Self> {
        T::read(node, cx).map(|value| Self { value, span: node.span, written: node.written().cloned() })
    }
}

impl<T: FromNode> FromNode for Vec<T> {
    fn read(node: &Node<'_>, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let Kind::List(items) = &node.kind else {
            cx.mismatch(node, "a list");
            return None;
        };
        let outer = std::mem::replace(&mut cx.in_list, true);
        // Every item is read, even after a bad one, so that all mistakes are reported.
        let read: Vec<Option<T>> = items.iter().map(|item| T::read(item, cx)).collect();
        cx.in_list = outer;
        read.into_iter().collect()
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
