//! The leaves of an agent file: text, numbers, times, amounts and enumerated words, with the expected type in messages.

use std::borrow::Cow;

use agentry_core::money::NanoUsd;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::read::{FromNode, Reader, is_null};
use crate::problem::{did_you_mean, one_of};
use crate::yaml::{Kind, Node, Plain, Style, resolve, to_json};

/// An enumerated word; any of them if the value is unknown, so that the rest can be checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice<T>(pub T);

/// A set of words. Several words may have the same meaning.
pub(crate) trait Words: Sized + Copy + 'static {
    /// The name of the set in the JSON Schema.
    const NAME: &'static str;
    /// Every word with its meaning.
    const WORDS: &'static [(&'static str, Self)];
}

/// A duration, given in seconds, kept in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seconds(pub u64);

/// An amount, given in dollars.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usd(pub NanoUsd);

/// A program with its arguments: a list, or text that is split at spaces.
#[derive(Debug, Clone)]
pub(crate) struct Command(pub Vec<Box<str>>);

#[derive(Debug, Clone)]
pub(crate) struct Variables(pub Vec<(Box<str>, Box<str>)>);

/// Maximum duration: about 30 years.
const MAX_SECONDS: f64 = 1e9;

impl FromNode for Box<str> {
    fn read(node: &Node<'_>, cx: &mut Reader<'_, '_>) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, style: Style::Plain, .. } if resolve(text) != Plain::Text => {}
            Kind::Scalar { text, .. } => return Some(text.as_ref().into()),
            _ => {}
        }
        cx.mismatch(node, "text");
        None
    }
}

impl FromNode for bool {
    fn read(node: &Node<'_>, cx: &mut Reader<'_, '_>) -> Option<Self> {
        if cx.skips(node) {
            return None;
        }
        if let Some(Plain::Bool(value)) = Reader::bare(node).map(resolve) {
            return Some(value);
        }
        cx.mismatch(node, "true or false");
        None
    }
}

impl FromNode for f64 {
    fn read(node: &Node<'_>, cx: &mut Reader<'_, '_>) -> Option<Self> {
        if cx.skips(node) {
            return None;
        }
        match Reader::bare(node).map(resolve) {
            Some(Plain::Float(value)) if value.is_finite() => return Some(value),
            // Settings are small numbers; what an `f64` cannot represent exactly is out of every range.
            #[allow(clippy::cast_precision_loss)]
            Some(Plain::Int(value)) => return Some(value as f64),
            _ => {}
        }
        cx.mismatch(node, "a number");
        None
    }
}

fn whole(node: &Node<'_>, cx: &mut Reader<'_, '_>, low: i128, high: i128) -> Option<i128> {
    if cx.skips(node) {
        return None;
    }
    match Reader::bare(node).map(resolve) {
        Some(Plain::Int(value)) if (low..=high).contains(&value) => return Some(value),
        Some(Plain::Int(value)) if value < low && low == 0 => cx.mismatch(node, "a whole number that is not negative"),
        Some(Plain::Int(_)) => cx.mismatch(node, &format!("a whole number from {low} to {high}")),
        _ => cx.mismatch(node, "a whole number"),
    }
    None
}

impl FromNode for u32 {
    fn read(node: &Node<'_>, cx: &mut Reader<'_, '_>) -> Option<Self> {
        whole(node, cx, 0, i128::from(Self::MAX)).and_then(|value| value.try_into().ok())
    }
}

impl FromNode for i64 {
    fn read(node: &Node<'_>, cx: &mut Reader<'_, '_>) -> Option<Self> {
        whole(node, cx, i128::from(Self::MIN), i128::from(Self::MAX)).and_then(|value| value.try_into().ok())
    }
}

impl FromNode for Value {
    fn read(node: &Node<'_>, _: &mut Reader<'_, '_>) -> Option<Self> {
        Some(to_json(node))
    }
}

impl FromNode for Seconds {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn read(node: &Node<'_>, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let before = cx.problems.len();
        let value = f64::read(node, cx);
        if value.is_none()
            && cx.problems.len() > before
            && let Some(problem) = cx.problems.last_mut()
        {
            problem.message = problem.message.replace("must be a number", "must be a number of seconds");
        }
        let value = value?;
        if (0.0..=MAX_SECONDS).contains(&value) {
            return Some(Self((value * 1_000.0).round() as u64));
        }
        let message = if value < 0.0 { "must not be negative" } else { "is longer than 30 years" };
        let problem = cx.source.problem(node.span, format!("{} {message}", cx.subject())).label("expected seconds");
        cx.report(problem);
        None
    }
}

impl FromNode for Usd {
    fn read(node: &Node<'_>, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let Kind::Scalar { text, .. } = &node.kind else {
            cx.mismatch(node, "an amount in dollars");
            return None;
        };
        if node.is_unknown() {
            cx.has_unknown = true;
            return None;
        }
        match NanoUsd::parse_usd(text.trim()) {
            Ok(amount) => Some(Self(amount)),
            Err(_) => {
                let message = match resolve(text) {
                    Plain::Int(_) | Plain::Float(_) if text.starts_with('-') => "must not be negative".to_owned(),
                    _ => "must be an amount in dollars".to_owned(),
                };
                let problem = cx.source.problem(node.span, format!("{} {message}", cx.subject()));
                cx.report(problem.label("expected a number such as 0.25, with at most nine decimals"));
                None
            }
        }
    }
}

impl FromNode for Command {
    fn read(node: &Node<'_>, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let words: Vec<Box<str>> = match &node.kind {
            Kind::List(_) => Vec::<Box<str>>::read(node, cx)?,
            Kind::Scalar { text, .. } if text.contains(['"', '\'', '\\']) => {
                let problem =
                    cx.source.problem(node.span, "a command in one text is split at spaces and can not contain quotes");
                cx.report(problem.help("write a list: [program, first argument, second argument]"));
                return None;
            }
            Kind::Scalar { text, style: Style::Quoted | Style::Filled, .. } => {
                text.split_whitespace().map(Into::into).collect()
            }
            Kind::Scalar { text, .. } if resolve(text) == Plain::Text => {
                text.split_whitespace().map(Into::into).collect()
            }
            _ => {
                cx.mismatch(node, "text or a list of text");
                return None;
            }
        };
        if words.is_empty() {
            let problem = cx.source.problem(node.span, format!("{} is empty", cx.subject()));
            cx.report(problem.label("expected a program and its arguments"));
            return None;
        }
        Some(Self(words))
    }
}

impl FromNode for Variables {
    fn read(node: &Node<'_>, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let entries = cx.entries(node, &["API_TOKEN", "LOG_LEVEL"])?;
        let mut variables = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let name: &str = &key.text;
            if name.is_empty() || name.contains(['=', '\0']) {
                let problem = cx.source.problem(key.span, format!("`{name}` cannot be the name of a variable"));
                cx.report(problem.label("expected a name such as API_TOKEN"));
                continue;
            }
            variables.push((name.into(), cx.value::<Box<str>>(key, value)));
        }
        variables.into_iter().map(|(name, value)| Some((name, value?))).collect::<Option<_>>().map(Self)
    }
}

impl<T: Words> FromNode for Choice<T> {
    fn read(node: &Node<'_>, cx: &mut Reader<'_, '_>) -> Option<Self> {
        if let (true, Some((_, some))) = (node.is_unknown(), T::WORDS.first()) {
            cx.has_unknown = true;
            return Some(Self(*some));
        }
        let text: &str = match &node.kind {
            Kind::Scalar { text, .. } => text,
            _ => "",
        };
        if let Some((_, value)) = T::WORDS.iter().find(|(word, _)| *word == text) {
            return Some(Self(*value));
        }
        let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
        let shown: String = node.quoted().chars().take(60).collect();
        let message = match &node.kind {
            Kind::Scalar { .. } if is_null(node) => format!("{} has no value", cx.subject()),
            Kind::Scalar { .. } => format!("unknown {} `{shown}`", cx.key),
            _ => format!("{} must be a word", cx.subject()),
        };
        let problem = cx.source.problem(node.span, message).label(format!("expected {}", one_of(&words)));
        // A suggestion near the value of a variable would reveal it.
        let near = did_you_mean(text, words.iter().copied()).filter(|_| node.written().is_none());
        cx.report(match near {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem,
        });
        None
    }
}

impl<T: Words> JsonSchema for Choice<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
        json_schema!({ "type": "string", "enum": words })
    }
}

macro_rules! leaf_schema {
    ($($type:ident $schema:tt),* $(,)?) => {$(
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

leaf_schema! {
    Seconds { "type": "number", "minimum": 0, "maximum": 1_000_000_000 },
    Usd { "type": ["number", "string"], "minimum": 0 },
    Variables { "type": "object", "additionalProperties": { "type": "string" } },
    Command { "type": ["string", "array"], "items": { "type": "string" }, "minItems": 1 },
}
