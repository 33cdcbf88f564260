//! An answer that is being assembled.

use agentry_core::chat::{ChatReply, NativePart, NativeReply, StopReason, ToolCall, Usage};
use serde_json::{Map, Value};

use super::form::{Form, form, must_be_wrapped, unwrapped};
use super::turns::prefix_of;
use crate::Call;

/// The tool whose arguments are the answer, in protocols that have no structured output.
pub(crate) const ANSWER_TOOL: &str = "agentry_answer";
const MAX_TOOL_CALLS: usize = 128;

/// A delta of a tool call in OpenAI's protocol.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ToolDelta<'a> {
    pub index: Option<u64>,
    pub id: Option<&'a str>,
    pub name: Option<&'a str>,
    pub arguments: &'a str,
}

/// An answer that is being assembled, from one piece or many.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub content: String,
    pub refusal: String,
    pub stop: Option<StopReason>,
    /// Model name in the provider's words.
    pub model: Option<String>,
    pub id: Option<String>,
    pub usage: Usage,
    /// The provider has counted the tokens.
    pub is_counted: bool,
    /// The structured answer is wrapped in an object.
    pub is_wrapped: bool,
    /// Any content has arrived: text, a tool call, or reasoning.
    pub has_begun: bool,
    /// The provider's parts in order, each with its position in the provider's numbering.
    parts: Vec<(u64, NativePart)>,
    calls: Vec<(Option<u64>, ToolCall)>,
    /// The call whose arguments came with its start.
    given_at_start: Option<u64>,
    answer: Answer,
}

/// An answer that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidAnswer {
    #[error("the answer has {0} tool calls; at most {MAX_TOOL_CALLS} are taken")]
    TooManyToolCalls(usize),
    #[error("the answer has a tool call without a name")]
    UnnamedToolCall,
    #[error("{0}")]
    Refused(String),
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Answer {
    #[default]
    Text,
    /// The arguments of the call with this index.
    Tool(u64),
}

impl Draft {
    pub fn of(call: &Call) -> Self {
        let is_wrapped = matches!(form(call), Form::Schema(schema) if must_be_wrapped(&schema));
        Self { is_wrapped, ..Self::default() }
    }

    pub fn counted(&mut self, usage: Usage) {
        self.usage = usage;
        self.is_counted = true;
    }

    pub fn text(&mut self, text: &str) {
        self.has_begun |= !text.is_empty();
        // Text around a structured answer is not part of it.
        if self.answer == Answer::Text {
            self.content.push_str(text);
        }
    }

    /// Adds text that belongs to the provider's part `at`.
    pub fn text_at(&mut self, at: u64, piece: &str) {
        self.text(piece);
        match self.parts.iter_mut().find(|(index, _)| *index == at) {
            Some((_, NativePart::Text { text, .. })) => text.push_str(piece),
            Some(_) => {}
            None => self.parts.push((at, NativePart::Text { text: piece.to_owned(), extra: Map::new() })),
        }
    }

    /// Keeps what the provider attached to its part `at`, a text or a call.
    pub fn attach(&mut self, at: u64, attached: Map<String, Value>) {
        match self.parts.iter_mut().find(|(index, _)| *index == at) {
            Some((_, NativePart::Text { extra, .. } | NativePart::Call { extra, .. })) => extra.extend(attached),
            Some(_) => {}
            None if attached.is_empty() => {}
            None => self.parts.push((at, NativePart::Text { text: String::new(), extra: attached })),
        }
    }

    /// Begins a part that only the provider understands, or replaces it.
    pub fn opaque(&mut self, at: u64, block: Value) {
        self.has_begun = true;
        match self.parts.iter_mut().find(|(index, _)| *index == at) {
            Some((_, part)) => *part = NativePart::Opaque { block },
            None => self.parts.push((at, NativePart::Opaque { block })),
        }
    }

    /// Returns the part `at` that only the provider understands; an empty object when there was none.
    pub fn opaque_mut(&mut self, at: u64) -> &mut Value {
        self.has_begun = true;
        let known =
            self.parts.iter().position(|(index, part)| *index == at && matches!(part, NativePart::Opaque { .. }));
        let position = known.unwrap_or_else(|| {
            self.parts.push((at, NativePart::Opaque { block: Value::Object(Map::new()) }));
            self.parts.len() - 1
        });
        match &mut self.parts[position].1 {
            NativePart::Opaque { block } => block,
            // Found by its kind, or just added.
            NativePart::Text { .. } | NativePart::Call { .. } => unreachable!("an opaque part"),
        }
    }

    pub fn tool_begins(&mut self, index: u64, id: &str, name: &str) {
        self.has_begun = true;
        if name == ANSWER_TOOL {
            self.answer = Answer::Tool(index);
            self.content.clear();
            return;
        }
        self.parts.push((index, NativePart::Call { index: self.calls.len(), extra: Map::new() }));
        let call = ToolCall { id: id.to_owned(), name: name.to_owned(), arguments: String::new() };
        self.calls.push((Some(index), call));
    }

    pub fn tool_arguments(&mut self, index: u64, piece: &str) {
        if !piece.is_empty() && self.given_at_start == Some(index) {
            self.given_at_start = None;
            self.all_tool_arguments(index, "");
        }
        if self.answer == Answer::Tool(index) {
            self.content.push_str(piece);
        } else if let Some(arguments) = self.arguments_of(index) {
            arguments.push_str(piece);
        }
    }

    /// Takes arguments from the start of a call; pieces that follow replace them.
    pub fn tool_input(&mut self, index: u64, input: &Value) {
        if input.as_object().is_some_and(|fields| !fields.is_empty()) {
            self.all_tool_arguments(index, &input.to_string());
            self.given_at_start = Some(index);
        }
    }

    pub fn has_call(&self, index: u64) -> bool {
        self.calls.iter().any(|(at, _)| *at == Some(index)) || self.answer == Answer::Tool(index)
    }

    pub fn has_text(&self, at: u64) -> bool {
        let is_text = |part: &NativePart| matches!(part, NativePart::Text { text, .. } if !text.is_empty());
        self.parts.iter().any(|(index, part)| *index == at && is_text(part))
    }

    /// Replaces the arguments of a call by the whole of them.
    pub fn all_tool_arguments(&mut self, index: u64, whole: &str) {
        if self.answer == Answer::Tool(index) {
            whole.clone_into(&mut self.content);
        } else if let Some(arguments) = self.arguments_of(index) {
            whole.clone_into(arguments);
        }
    }

    fn arguments_of(&mut self, index: u64) -> Option<&mut String> {
        self.calls.iter_mut().find(|(at, _)| *at == Some(index)).map(|(_, call)| &mut call.arguments)
    }

    pub fn tool(&mut self, id: &str, name: &str, arguments: &str) {
        let index = self.calls.len() as u64 + u64::from(self.answer != Answer::Text);
        self.tool_begins(index, id, name);
        self.tool_arguments(index, arguments);
    }

    /// Adds a delta of a tool call in OpenAI's protocol. The index tells which call it belongs to, unless it comes with
    /// another id: some servers give every call the index 0. Without an index, a delta with a new id begins a call.
    pub fn tool_delta(&mut self, delta: ToolDelta<'_>) {
        self.has_begun = true;
        let ToolDelta { index, id, name, arguments } = delta;
        let fits = |(at, call): &(Option<u64>, ToolCall)| {
            let same_index = index.is_none() || *at == index;
            let same_id = id.is_none_or(|id| call.id == id || (index.is_some() && call.id.is_empty()));
            // Without anything that tells them apart, a name after whole arguments begins another call.
            let is_whole = index.is_none() && id.is_none() && name.is_some() && is_document(&call.arguments);
            same_index && same_id && !is_whole
        };
        let position = self.calls.iter().rposition(fits).unwrap_or_else(|| {
            let at = (1 << 32) + self.calls.len() as u64;
            self.parts.push((at, NativePart::Call { index: self.calls.len(), extra: Map::new() }));
            let empty = ToolCall { id: String::new(), name: String::new(), arguments: String::new() };
            self.calls.push((index, empty));
            self.calls.len() - 1
        });
        let call = &mut self.calls[position].1;
        if let Some(id) = id {
            id.clone_into(&mut call.id);
        }
        // Some servers repeat the whole name in each delta.
        if let Some(name) = name.filter(|name| *name != call.name) {
            call.name.push_str(name);
        }
        call.arguments.push_str(arguments);
    }

    /// Keeps what the provider attached to the last tool call.
    pub fn attach_to_call(&mut self, attached: Map<String, Value>) {
        let last = self.parts.iter_mut().rev().find_map(|(_, part)| match part {
            NativePart::Call { extra, .. } => Some(extra),
            _ => None,
        });
        if let Some(extra) = last {
            extra.extend(attached);
        }
    }

    /// Returns true when pieces of the text may be shown before the end.
    pub fn may_be_streamed(&self) -> bool {
        !self.is_wrapped
    }

    /// Returns the complete answer and the provider's id of it.
    pub fn finish(self, call: &Call) -> Result<(ChatReply, Option<String>), InvalidAnswer> {
        if self.calls.len() > MAX_TOOL_CALLS {
            return Err(InvalidAnswer::TooManyToolCalls(self.calls.len()));
        }
        let has_text = !self.content.trim().is_empty();
        if self.stop == Some(StopReason::ContentFilter) || (!has_text && !self.refusal.is_empty()) {
            return Err(InvalidAnswer::Refused(refusal_of(&self.refusal)));
        }
        let mut tool_calls: Vec<ToolCall> = self.calls.into_iter().map(|(_, call)| call).collect();
        for (index, tool) in tool_calls.iter_mut().enumerate() {
            if tool.name.is_empty() {
                return Err(InvalidAnswer::UnnamedToolCall);
            }
            if tool.id.is_empty() {
                tool.id = format!("{}-{index}", call.id);
            }
            if tool.arguments.trim().is_empty() {
                "{}".clone_into(&mut tool.arguments);
            }
        }
        let is_answered = self.answer != Answer::Text;
        let stop = match self.stop.unwrap_or(StopReason::End) {
            // Servers that do not stop for tools say that the answer is complete.
            StopReason::End | StopReason::ToolCalls if !tool_calls.is_empty() => StopReason::ToolCalls,
            StopReason::ToolCalls => StopReason::End,
            other => other,
        };
        let content = match self.is_wrapped && (is_answered || stop == StopReason::End) {
            true => unwrapped(&self.content).unwrap_or(self.content),
            false => self.content,
        };
        let native = if is_answered { None } else { native(call, self.parts) };
        let model = self.model.unwrap_or_else(|| call.target.model.to_string());
        Ok((ChatReply { content, tool_calls, stop, usage: self.usage, model, native }, self.id))
    }
}

fn is_document(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

fn refusal_of(words: &str) -> String {
    if words.trim().is_empty() {
        "the model refused, or the provider withheld the answer".to_owned()
    } else {
        format!("the model refused: {words}")
    }
}

/// Returns the provider's parts if they say more than the text and the calls.
fn native(call: &Call, parts: Vec<(u64, NativePart)>) -> Option<Box<NativeReply>> {
    let more = |part: &NativePart| match part {
        NativePart::Opaque { .. } => true,
        NativePart::Text { extra, .. } | NativePart::Call { extra, .. } => !extra.is_empty(),
    };
    if !parts.iter().any(|(_, part)| more(part)) {
        return None;
    }
    let parts = parts.into_iter().map(|(_, part)| part).collect();
    let (provider, model, prefix) = (call.target.provider, (&*call.target.model).into(), prefix_of(call));
    Some(Box::new(NativeReply { provider, model, prefix, parts }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_call::call;

    #[test]
    fn the_answer_in_a_tool_is_the_text() {
        let mut draft = Draft { stop: Some(StopReason::ToolCalls), ..Draft::default() };
        draft.text("Here it is:");
        draft.tool_begins(1, "t1", ANSWER_TOOL);
        draft.tool_arguments(1, "{\"a\":");
        draft.tool_arguments(1, "1}");
        draft.text("Good?");
        let (reply, _) = draft.finish(&call("")).unwrap();
        assert_eq!((reply.content.as_str(), reply.stop, reply.tool_calls.len()), ("{\"a\":1}", StopReason::End, 0));
    }

    #[test]
    fn too_many_calls_and_calls_without_a_name_are_refused() {
        let mut draft = Draft::default();
        draft.tool("a", "", "{}");
        assert!(draft.finish(&call("")).unwrap_err().to_string().contains("without a name"));
        let mut draft = Draft::default();
        for _ in 0..=MAX_TOOL_CALLS {
            draft.tool("a", "f", "{}");
        }
        assert!(draft.finish(&call("")).unwrap_err().to_string().contains("129 tool calls"));
    }

    #[test]
    fn only_an_answer_that_stopped_for_tools_asks_for_them() {
        for (given, expected) in [
            (None, StopReason::ToolCalls),
            (Some(StopReason::End), StopReason::ToolCalls),
            (Some(StopReason::Length), StopReason::Length),
            (Some(StopReason::Other), StopReason::Other),
        ] {
            let mut draft = Draft { stop: given, ..Draft::default() };
            draft.tool("a", "f", "");
            assert_eq!(draft.finish(&call("")).unwrap().0.stop, expected, "{given:?}");
        }
        let mut draft = Draft { stop: Some(StopReason::ContentFilter), ..Draft::default() };
        draft.tool("a", "f", "{}");
        assert!(matches!(draft.finish(&call("")), Err(InvalidAnswer::Refused(_))));
    }

    #[test]
    fn plain_answers_are_kept_once() {
        let mut draft = Draft::default();
        draft.text_at(0, "Looking.");
        draft.tool_begins(1, "t1", "find");
        assert_eq!(draft.finish(&call("")).unwrap().0.native, None);
    }
}
