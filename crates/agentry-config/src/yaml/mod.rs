//! YAML as a small tree in which every value knows its place, so that all mistakes of a file can be told at once.

mod interpolate;
mod parse;
mod scalar;

use std::borrow::Cow;

pub(crate) use interpolate::{Missing, fill};
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
    Scalar { text: Cow<'a, str>, style: Style },
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

/// A key of a mapping.
#[derive(Debug, Clone)]
pub(crate) struct Key<'a> {
    pub text: Cow<'a, str>,
    pub span: Span,
}
