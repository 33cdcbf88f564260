//! Conversations as providers take them: no blank texts, ids they accept, every tool that was called defined, the parts
//! of their own answers unchanged; and in protocols whose roles must alternate, adjacent messages of one role as one turn.

use std::borrow::Cow;
use std::cell::OnceCell;

use agentry_core::agent::ProviderKind;
use agentry_core::chat::{Message, NativePart, NativeReply, ToolDefinition};
use serde_json::json;

use crate::Call;

/// What stands for a text that is blank, which most providers refuse.
const NO_TEXT: &str = "(no text)";
/// Bytes of an id that are kept when it must be rewritten.
const KEPT_ID_BYTES: usize = 24;

/// Returns a text that no provider refuses.
pub(crate) fn shown(text: &str) -> &str {
    if text.trim().is_empty() { NO_TEXT } else { text }
}

/// Returns an id of a call that providers accept: letters, digits, `_` and `-`, at most `most` bytes. Equal ids stay
/// equal, and different ones different.
pub(crate) fn wire_id(id: &str, most: usize) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !id.is_empty() && id.len() <= most && id.chars().all(fits) {
        return Cow::Borrowed(id);
    }
    let kept: String = id.chars().filter(|c| fits(*c)).take(KEPT_ID_BYTES).collect();
    Cow::Owned(format!("{kept}_{:08x}", crc32fast::hash(id.as_bytes())))
}

/// Tells which answers the called model made in this very conversation: their own parts go back.
pub(crate) struct OwnParts<'c> {
    call: &'c Call,
    /// Digest of the beginning, which is computed when an answer has parts.
    prefix: OnceCell<u32>,
}

impl<'c> OwnParts<'c> {
    pub fn of(call: &'c Call) -> Self {
        Self { call, prefix: OnceCell::new() }
    }

    /// Returns the parts of an answer, or `None` when they must be left out.
    pub fn parts<'a>(&self, native: Option<&'a NativeReply>) -> Option<&'a [NativePart]> {
        let target = &self.call.target;
        let is_own = |native: &&NativeReply| {
            native.provider == target.provider
                && *native.model == *target.model
                && native.prefix == *self.prefix.get_or_init(|| prefix_of(self.call))
        };
        native.filter(is_own).map(|native| native.parts.as_slice())
    }
}

/// Returns a digest of the beginning of a conversation, for models whose thinking is bound to it: when the system text,
/// the tools or the first message have changed since, or older turns were left out, it would be refused.
pub(crate) fn prefix_of(call: &Call) -> u32 {
    if !matches!(call.target.provider, ProviderKind::Anthropic | ProviderKind::Bedrock) {
        return 0;
    }
    let messages = &call.request.messages;
    let system = messages.iter().filter(|message| matches!(message, Message::System { .. }));
    let first = messages.iter().find(|message| !matches!(message, Message::System { .. }));
    let mut digest = crc32fast::Hasher::new();
    for message in system.chain(first) {
        digest.update(message.content().as_bytes());
        digest.update(&[0]);
    }
    for tool in &call.request.tools {
        for text in [&tool.name, &tool.description, &tool.parameters.to_string()] {
            digest.update(text.as_bytes());
            digest.update(&[0]);
        }
    }
    digest.finalize()
}

/// Returns the tools to offer. A conversation with calls needs their definitions, also when the agent has lost its
/// tools since: Bedrock and Anthropic refuse it otherwise.
pub(crate) fn offered(call: &Call) -> Vec<Cow<'_, ToolDefinition>> {
    if !call.request.tools.is_empty() {
        return call.request.tools.iter().map(Cow::Borrowed).collect();
    }
    let mut names: Vec<&str> = Vec::new();
    for message in &call.request.messages {
        let Message::Assistant { tool_calls, .. } = message else { continue };
        names.extend(tool_calls.iter().map(|tool| tool.name.as_str()));
    }
    names.sort_unstable();
    names.dedup();
    let lost = |name: &str| ToolDefinition {
        name: name.to_owned(),
        description: "Not available any more.".to_owned(),
        parameters: json!({"type": "object"}),
    };
    names.into_iter().map(|name| Cow::Owned(lost(name))).collect()
}

pub(crate) struct Turn<'a> {
    /// True for the model; users and tools are the other side.
    pub is_assistant: bool,
    pub messages: Vec<&'a Message>,
}

pub(crate) fn turns(messages: &[Message]) -> (Vec<&str>, Vec<Turn<'_>>) {
    let (mut system, mut turns) = (Vec::new(), Vec::<Turn<'_>>::new());
    for message in messages {
        let is_assistant = match message {
            Message::System { content } => {
                system.push(content.as_str());
                continue;
            }
            // Providers refuse blank texts.
            Message::Assistant { content, tool_calls, native }
                if content.trim().is_empty() && tool_calls.is_empty() && native.is_none() =>
            {
                continue;
            }
            Message::Assistant { .. } => true,
            Message::User { .. } | Message::Tool { .. } => false,
        };
        match turns.last_mut().filter(|turn| turn.is_assistant == is_assistant) {
            Some(turn) => turn.messages.push(message),
            None => turns.push(Turn { is_assistant, messages: vec![message] }),
        }
    }
    (system, turns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_role_are_one_turn() {
        let user = |text: &str| Message::User { content: text.into() };
        let messages = [
            Message::System { content: "s".into() },
            user("a"),
            Message::Assistant { content: String::new(), tool_calls: Vec::new(), native: None },
            user("b"),
            Message::Assistant { content: "c".into(), tool_calls: Vec::new(), native: None },
            Message::Tool { call_id: "1".into(), content: "d".into(), is_error: false },
            Message::Tool { call_id: "2".into(), content: "e".into(), is_error: true },
            user("f"),
        ];
        let (system, turns) = turns(&messages);
        let sizes: Vec<_> = turns.iter().map(|turn| (turn.is_assistant, turn.messages.len())).collect();
        assert_eq!((system, sizes), (vec!["s"], vec![(false, 2), (true, 1), (false, 3)]));
    }

    #[test]
    fn ids_are_rewritten_only_where_they_must_be() {
        assert_eq!(wire_id("call_1-a", 40), "call_1-a");
        let long = "x".repeat(41);
        for odd in ["", "functions.add:0", "ä", &long] {
            let id = wire_id(odd, 40);
            assert!(!id.is_empty() && id.len() <= 40, "{id}");
            assert_eq!(id, wire_id(&id, 40), "an id that was rewritten fits");
        }
        assert_ne!(wire_id("a:1", 40), wire_id("a:2", 40));
    }
}
