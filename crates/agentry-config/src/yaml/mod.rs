//! YAML as a small tree in which every value knows its place, so that all mistakes of a file can be told at once.

mod interpolate;
mod parse;
mod scalar;

use std::borrow::Cow;

pub(crate) use interpolate::{Missing, Variables, fill};
pub(crate) use parse::{Source, parse};
pub(crate) use scalar::{Plain, canonical, resolve, to_json};

/// Bytes of an agent file at most.
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// Values in one file at most, those that aliases repeat included.
pub(crate) const MAX_NODES: usize = 100_000;
/// Levels of nesting at most; deeper files are mistakes or attacks.
pub(crate) const MAX_DEPTH: usize = 64;

/// Where something is in the text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub start: u32,
    pub end: u32,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    pub span: Span,
    pub kind: Kind<'a>,
}

/// A value.
#[derive(Debug, Clone)]
pub(crate) enum Kind<'a> {
    Scalar {
        text: Cow<'a, str>,
        style: Style,
        /// Present when the file has variables here.
        written: Option<Written>,
    },
    List(Vec<Node<'a>>),
    Map(Vec<(Key<'a>, Node<'a>)>),
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Without quotes: it may be a number, a boolean or nothing.
    Plain,
    /// In quotes, as a block, or tagged as text: always text.
    Quoted,
    /// Contained a variable. Text where any value fits; a number or boolean where one is asked for.
    Filled,
}

/// The source text of a scalar with variables. Messages quote it and never the value: a variable may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub text: Box<str>,
    /// Whether the value is known: `false` where variables are not resolved and have no default.
    pub is_known: bool,
}

impl Node<'_> {
    /// What the file has in place of a value with variables; `None` for any other value.
    pub(crate) fn written(&self) -> Option<&Written> {
        match &self.kind {
            Kind::Scalar { written, .. } => written.as_ref(),
            _ => None,
        }
    }

    /// Whether its value depends on variables that are not resolved.
    pub(crate) fn is_unknown(&self) -> bool {
        self.written().is_some_and(|written| !written.is_known)
    }

    /// The text of a scalar as messages quote it: the source text, with the names of variables.
    pub(crate) fn quoted(&self) -> &str {
        match &self.kind {
            Kind::Scalar { written: Some(written), .. } => &written.text,
            Kind::Scalar { text, .. } => text,
            _ => "",
        }
    }
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub(crate) struct Key<'a> {
    pub text: Cow<'a, str>,
    pub span: Span,
}
