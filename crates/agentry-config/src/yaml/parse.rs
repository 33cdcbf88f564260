//! Text to tree: syntax mistakes, duplicate keys, anchors, aliases and merge keys.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, StrInput, Tag};

use super::{Key, Kind, MAX_DEPTH, MAX_FILE_BYTES, MAX_NODES, Node, Span, Style};
use crate::problem::{Position, Problem};

/// Number of keys above which duplicates are found by hashing.
const SMALL_MAP: usize = 16;

/// A text and its name in messages.
#[derive(Debug, Clone)]
pub(crate) struct Source<'a> {
    pub file: Arc<str>,
    pub text: &'a str,
}

impl Source<'_> {
    /// Returns the line, column and width of a span; the width ends with the first line.
    pub fn place(&self, span: Span) -> Position {
        let start = floor(self.text, span.start);
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |at| start + at);
        let end = floor(self.text, span.end).clamp(start, line_end);
        let count = |text: &str| u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        Position {
            line: u32::try_from(before.bytes().filter(|b| *b == b'\n').count()).unwrap_or(u32::MAX - 1) + 1,
            column: count(&self.text[line_start..start]) + 1,
            width: count(self.text[start..end].trim_end()).max(1),
        }
    }

    /// Returns an error at a span.
    pub fn problem(&self, span: Span, message: impl Into<String>) -> Problem {
        Problem::at(self.file.clone(), self.text, self.place(span), message)
    }
}

fn floor(text: &str, offset: u32) -> usize {
    text.floor_char_boundary(usize::try_from(offset).unwrap_or(usize::MAX))
}

/// A tree, with problems that did not prevent its construction.
#[derive(Debug)]
pub(crate) struct Parsed<'a> {
    pub root: Node<'a>,
    pub problems: Vec<Problem>,
}

pub(crate) fn parse<'a>(source: &Source<'a>) -> Result<Parsed<'a>, Problem> {
    if source.text.len() > MAX_FILE_BYTES {
        return Err(Problem::of_file(source.file.clone(), "the file is larger than 1 MiB")
            .help("an agent file is settings and prompts; keep data where a tool can fetch it"));
    }
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    let mut builder = Builder {
        source,
        events: Parser::new_from_str_with_options(source.text, options),
        anchors: HashMap::new(),
        nodes: 0,
        problems: Vec::new(),
    };
    let root = builder.document()?;
    Ok(Parsed { root, problems: builder.problems })
}

struct Builder<'s, 'a> {
    source: &'s Source<'a>,
    events: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node<'a>>,
    nodes: usize,
    problems: Vec<Problem>,
}

impl<'a> Builder<'_, 'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.events.next() {
            Some(Ok((event, span))) => {
                let offset = |at: Option<usize>| at.and_then(|at| u32::try_from(at).ok()).unwrap_or(0);
                Ok((event, Span { start: offset(span.start.byte_offset()), end: offset(span.end.byte_offset()) }))
            }
            Some(Err(error)) => Err(self.syntax(&error)),
            None => Ok((Event::StreamEnd, self.end())),
        }
    }

    fn end(&self) -> Span {
        let end = u32::try_from(self.source.text.trim_end().len()).unwrap_or(u32::MAX);
        Span { start: end, end }
    }

    fn document(&mut self) -> Result<Node<'a>, Problem> {
        let root = loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(..) => {}
                Event::StreamEnd => return Err(self.empty()),
                other => break self.node(other, span, 0)?,
            }
        };
        if matches!(&root.kind, Kind::Scalar { text, style: Style::Plain, .. } if text.is_empty()) {
            return Err(self.empty());
        }
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(..) => {
                    return Err(self
                        .source
                        .problem(span, "the file has several documents")
                        .label("a second one starts here")
                        .help("one file is one agent: move this one into a file of its own"));
                }
                _ => {}
            }
        }
    }

    fn empty(&self) -> Problem {
        Problem::of_file(self.source.file.clone(), "the file is empty")
            .help("an agent needs `name`, `execution_mode`, `llm_config` and `system_prompt`")
    }

    fn count(&mut self, more: usize, span: Span) -> Result<(), Problem> {
        self.nodes += more;
        if self.nodes > MAX_NODES {
            return Err(self
                .source
                .problem(span, format!("the file has more than {MAX_NODES} values"))
                .label("counted up to here, values repeated by aliases included"));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node<'a>, Problem> {
        self.count(1, span)?;
        if depth > MAX_DEPTH {
            return Err(self.source.problem(span, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let (kind, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !is_text(tag.as_deref());
                let style = if plain { Style::Plain } else { Style::Quoted };
                (Kind::Scalar { text, style, written: None }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => (Kind::List(self.list(depth)?), anchor),
            Event::MappingStart(_, anchor, _) => (Kind::Map(self.map(depth)?), anchor),
            Event::Alias(id) => return self.alias(id, span, depth),
            _ => return Err(self.source.problem(span, "this is not YAML").label("expected a value")),
        };
        let node = Node { span, kind };
        if anchor != 0 {
            let (size, _) = measure(&node);
            self.count(size, span)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, span: Span, depth: usize) -> Result<Node<'a>, Problem> {
        let Some((size, height)) = self.anchors.get(&id).map(measure) else {
            return Err(self
                .source
                .problem(span, "this alias names no finished anchor")
                .label("expected an earlier `&anchor`"));
        };
        self.count(size, span)?;
        if depth + height > MAX_DEPTH {
            return Err(self.source.problem(span, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        match self.anchors.get(&id) {
            Some(node) => Ok(Node { span, kind: node.kind.clone() }),
            None => Err(self.source.problem(span, "this alias names no finished anchor")),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node<'a>>, Problem> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(items);
            }
            items.push(self.node(event, span, depth + 1)?);
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Key<'a>, Node<'a>)>, Problem> {
        let mut entries: Vec<(Key<'a>, Node<'a>)> = Vec::new();
        let mut merged = Vec::new();
        let mut seen: HashSet<Cow<'a, str>> = HashSet::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let Node { kind: Kind::Scalar { text, style, .. }, span } = self.node(event, span, depth + 1)? else {
                return Err(self.source.problem(span, "a key must be text").label("found a list or a mapping"));
            };
            let (event, value_span) = self.next()?;
            let value = self.node(event, value_span, depth + 1)?;
            if text == "<<" && style == Style::Plain {
                merged.push(value);
                continue;
            }
            let twice = if entries.len() < SMALL_MAP {
                entries.iter().any(|(key, _)| key.text == text)
            } else {
                if seen.is_empty() {
                    seen.extend(entries.iter().map(|(key, _)| key.text.clone()));
                }
                !seen.insert(text.clone())
            };
            if twice {
                self.twice(&text, span, &entries);
            } else {
                entries.push((Key { text, span }, value));
            }
        }
        for value in merged {
            self.merge(&mut entries, value)?;
        }
        Ok(entries)
    }

    fn twice(&mut self, text: &str, span: Span, entries: &[(Key<'a>, Node<'a>)]) {
        let first = entries.iter().find(|(key, _)| key.text == text).map_or(span, |(key, _)| key.span);
        let line = self.source.place(first).line;
        let problem = self.source.problem(span, format!("the key `{text}` appears twice"));
        self.problems.push(problem.label(format!("it is set on line {line} already")).help("remove one of them"));
    }

    /// Merges the keys of a base (`<<: *base`) that are not set here.
    fn merge(&mut self, entries: &mut Vec<(Key<'a>, Node<'a>)>, value: Node<'a>) -> Result<(), Problem> {
        let span = value.span;
        match value.kind {
            Kind::Map(base) => {
                let have: HashSet<Cow<'a, str>> = entries.iter().map(|(key, _)| key.text.clone()).collect();
                entries.extend(base.into_iter().filter(|(key, _)| !have.contains(&key.text)));
                Ok(())
            }
            Kind::List(bases) => bases.into_iter().try_for_each(|base| match base.kind {
                Kind::Map(_) => self.merge(entries, base),
                _ => Err(self.source.problem(base.span, "`<<` takes mappings only")),
            }),
            Kind::Scalar { .. } => {
                Err(self.source.problem(span, "`<<` takes a mapping").label("expected an alias such as `*base`"))
            }
        }
    }

    fn syntax(&self, error: &ScanError) -> Problem {
        let marker = error.marker();
        let start = marker.byte_offset().unwrap_or_else(|| offset_of(self.source.text, marker.index()));
        let at = u32::try_from(start.min(self.source.text.trim_end().len())).unwrap_or(u32::MAX);
        let span = Span { start: at, end: at.saturating_add(1) };
        let info = error.info();
        let problem = self.source.problem(span, "this is not YAML").label(info.clone());
        match hint(self.source.text, usize::try_from(at).unwrap_or(0), &info) {
            Some(help) => problem.help(help),
            None => problem,
        }
    }
}

/// Returns the usual cause of a syntax error.
fn hint(text: &str, at: usize, info: &str) -> Option<&'static str> {
    let at = text.floor_char_boundary(at);
    let start = text[..at].rfind('\n').map_or(0, |i| i + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    let indent: &str = &line[..line.len() - line.trim_start().len()];
    if indent.contains('\t') || info.contains("tab") {
        return Some("YAML is indented with spaces: replace the tab");
    }
    if line.matches(": ").count() > 1 {
        return Some("text that contains `: ` needs quotes");
    }
    if info.contains("anchor") || info.contains("alias") {
        return Some("text that starts with `*` or `&` needs quotes");
    }
    if info.contains("EOF") || info.contains("end of") || info.contains("unexpected end") {
        return Some("something that was opened (a quote, `[` or `{`) is not closed");
    }
    None
}

fn offset_of(text: &str, characters: usize) -> usize {
    text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at)
}

fn is_text(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"))
}

/// Returns the number of values in a tree, and its depth.
fn measure(node: &Node<'_>) -> (usize, usize) {
    let fold = |(size, height): (usize, usize), child: &Node<'_>| {
        let (s, h) = measure(child);
        (size + s, height.max(h + 1))
    };
    match &node.kind {
        Kind::Scalar { .. } => (1, 0),
        Kind::List(items) => items.iter().fold((1, 0), fold),
        Kind::Map(entries) => entries.iter().map(|(_, value)| value).fold((1, 0), fold),
    }
}
