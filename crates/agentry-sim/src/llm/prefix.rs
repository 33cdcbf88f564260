//! What stands before each part of a request: the base of prompt caches and of the check of thinking blocks.

use serde_json::Value;

use super::fingerprint::RequestPrint;

/// Time that a marked prefix is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    FiveMinutes,
    OneHour,
}

/// The end of one tool, system block, message or content block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    /// RequestPrint of everything up to here.
    pub(super) digest: RequestPrint,
    /// Characters of text up to here.
    pub(super) chars: u64,
    /// The request marks this place as a cache breakpoint.
    pub(super) mark: Option<Keep>,
}

/// Fingerprints of what a thinking block was made after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Prefix {
    pub(super) tools: RequestPrint,
    pub(super) system: RequestPrint,
    pub(super) messages: RequestPrint,
}

/// The parts of a request in the order in which a model reads them: tools, system, messages.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) links: Vec<Link>,
    digest: RequestPrint,
    chars: u64,
    prefix: Prefix,
}

impl Chain {
    pub(super) fn tool(&mut self, tool: &Value, mark: Option<Keep>) {
        self.prefix.tools = self.prefix.tools.value(tool);
        self.link("tool", tool, 0, mark);
    }

    pub(super) fn system(&mut self, block: &Value, chars: u64, mark: Option<Keep>) {
        self.prefix.system = self.prefix.system.value(block);
        self.link("system", block, chars, mark);
    }

    /// Adds settings that cached messages depend on and thinking blocks do not.
    pub(super) fn settings(&mut self, settings: &Value) {
        self.digest = self.digest.value(settings);
    }

    pub(super) fn message(&mut self, role: &str, block: &Value, chars: u64, mark: Option<Keep>) {
        self.prefix.messages = self.prefix.messages.text(role).value(block);
        self.link(role, block, chars, mark);
    }

    /// Returns what a block that is made now would stand after.
    pub(super) fn prefix(&self) -> Prefix {
        self.prefix
    }

    /// Marks the end of what was added last, unless it is marked.
    pub(super) fn mark_end(&mut self, keep: Keep) {
        if let Some(last) = self.links.last_mut() {
            last.mark.get_or_insert(keep);
        }
    }

    /// Returns the breakpoints in order.
    pub(super) fn marks(&self) -> impl Iterator<Item = Keep> {
        self.links.iter().filter_map(|link| link.mark)
    }

    fn link(&mut self, kind: &str, value: &Value, chars: u64, mark: Option<Keep>) {
        self.digest = self.digest.text(kind).value(value);
        self.chars += chars;
        self.links.push(Link { digest: self.digest, chars: self.chars, mark });
    }
}

/// Counts the characters of a text.
pub(super) fn chars(text: &str) -> u64 {
    text.chars().count() as u64
}

/// Counts the characters of content: a string, or a list of blocks with texts.
pub(super) fn content_chars(content: &Value) -> u64 {
    match content {
        Value::String(text) => chars(text),
        Value::Array(blocks) => blocks.iter().filter_map(|block| block.get("text")?.as_str()).map(chars).sum(),
        _ => 0,
    }
}
