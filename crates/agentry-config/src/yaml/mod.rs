//! YAML as a small tree in which every value has a location, so that all mistakes of a file are reported at once.

mod interpolate;
mod parse;
mod scalar;

use std::borrow::Cow;

pub(crate) use interpolate::{Missing, Variables, fill};
pub(crate) use parse::{Source, parse};
pub(crate) use scalar::{Plain, canonical, resolve, to_json};

/// Maximum size of an agent file, in bytes.
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// Maximum number of values in one file, including those repeated by aliases.
pub(crate) const MAX_NODES: usize = 100_000;
/// Maximum nesting; deeper files are mistakes or attacks.
pub(crate) const MAX_DEPTH: usize = 64;

/// A range of the text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub start: u32,
    pub end: u32,
}

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
        /// Present if the file has variables here.
        written: Option<Written>,
    },
    List(Vec<Node<'a>>),
    Map(Vec<(Key<'a>, Node<'a>)>),
}

/// The notation of a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Without quotes: possibly a number, a boolean or nothing.
    Plain,
    /// In quotes, as a block, or tagged as text: always text.
    Quoted,
    /// With variables: text where any value fits, a number or boolean where one is expected.
    Filled,
}

/// The source text of a scalar with variables. Messages quote it instead of the value: a variable may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub text: Box<str>,
    /// False if variables are not resolved and have no default.
    pub is_known: bool,
}

impl Node<'_> {
    /// Returns the source text of a value with variables; `None` for any other value.
    pub(crate) fn written(&self) -> Option<&Written> {
        match &self.kind {
            Kind::Scalar { written, .. } => written.as_ref(),
            _ => None,
        }
    }

    /// Returns whether the value depends on variables that are not resolved.
    pub(crate) fn is_unknown(&self) -> bool {
        self.written().is_some_and(|written| !written.is_known)
    }

    /// Returns the text of a scalar as messages quote it: the source text, with the names of variables.
    pub(crate) fn quoted(&self) -> &str {
        match &self.kind {
            Kind::Scalar { written: Some(written), .. } => &written.text,
            Kind::Scalar { text, .. } => text,
            _ => "",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Key<'a> {
    pub text: Cow<'a, str>,
    pub span: Span,
}
